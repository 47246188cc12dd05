"""The optimiser of the inversion: Adam, with step sizes that depend in part on the whole layer."""

from __future__ import annotations

import torch
from torch import Tensor

_BETAS = 0.7, 0.98  # with the usual 0.9, the gradient's running mean needs a third of all steps to change direction
_SHARED = 0.1  # share of the step size that all coordinates of a layer have in common


def step_sizes(n: int, rate: float, fall_from: float = 0.6) -> list[float]:
    """Learning rate: constant, then a linear fall to a tenth over the last part of the steps."""
    return [rate * min(1.0, max(0.1, (n - k) / max(1, n * (1 - fall_from)))) for k in range(n)]


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) with step sizes that depend in part on the whole layer's gradients.

    Adam alone moves every coordinate equally far, even those that hardly change the image. The code would then move
    away from the donor without any gain.
    """

    def __init__(self, offset: Tensor):
        self._offset, self._taken = offset, 0
        self._gradient, self._size = torch.zeros_like(offset), torch.zeros_like(offset)

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float) -> None:
        """Take one step for a gradient, (N, n_styles, 512)."""
        self._taken += 1
        square = gradient.square()
        self._gradient.lerp_(gradient, 1 - _BETAS[0])
        self._size.lerp_(square.lerp(square.mean(dim=2, keepdim=True), _SHARED), 1 - _BETAS[1])
        mean, size = (x / (1 - beta**self._taken) for x, beta in zip((self._gradient, self._size), _BETAS, strict=True))
        self._offset -= rate * mean / (size.sqrt() + 1e-8)
