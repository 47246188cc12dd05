"""The Haar wavelet transform, by which the generator doubles the size of its feature maps.

Sub-bands come one after the other in the channels: a fourth of them each for the low-pass band and the bands LH, HL and
HH. Nothing is normalised here (a network's weights hold the factor), so each transform is the other's transpose.
"""

from __future__ import annotations

import torch
from torch import Tensor


class _Synthesis(torch.autograd.Function):
    """Every pixel is written once, forward and backward, and nothing is kept in between."""

    @staticmethod
    def forward(ctx, bands: Tensor) -> Tensor:
        a, b, c, d = _butterfly(*bands.permute(0, 2, 3, 1).chunk(4, dim=3))
        n, h, w, channels = a.shape
        image = a.new_empty(n, h, 2, w, 2, channels)
        for k, corner in enumerate((a, b, c, d)):
            image[:, :, k // 2, :, k % 2] = corner
        return image.view(n, 2 * h, 2 * w, channels).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return haar_analysis(gradient)


def _butterfly(low: Tensor, lh: Tensor, hl: Tensor, hh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    top, bottom, difference, other = low + lh, low - lh, hl + hh, hl - hh
    return top + difference, top - difference, bottom + other, bottom - other


def haar_synthesis(bands: Tensor) -> Tensor:
    """Inverse transform: (N, 4C, H, W) sub-bands to (N, C, 2H, 2W), twice as large as an orthogonal one's."""
    return _Synthesis.apply(bands)


def haar_analysis(image: Tensor) -> Tensor:
    """Transform: (N, C, 2H, 2W) to (N, 4C, H, W) sub-bands, twice as large as an orthogonal one's."""
    pixels = image.permute(0, 2, 3, 1)
    corners = (pixels[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
    return torch.cat(_butterfly(*corners), dim=3).permute(0, 3, 1, 2)
