"""A small head that turns the generator's 128² features into a 256² image.

The published weights hold only the last head, at full size; a step through it costs about six times a step that
stops at 128². This head (0.2 M parameters) is trained against the generator's own images shrunk to 256².
:mod:`deidlib.training.preview` rebuilds it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.generators.haar import haar_synthesis

W_DIM = 512
PREVIEW_BLOCKS = 5  # blocks 0 to 4 end at 128²
PREVIEW_STYLE = 2 * PREVIEW_BLOCKS + 1
_FEATURES, _HIDDEN = 256, 64


class PreviewHead(nn.Module):
    """Features of 128², (N, 256, 128, 128), and the next block's w, (N, 512), to an image, (N, 3, 256, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.style = nn.Linear(W_DIM, _FEATURES)
        self.squeeze = nn.Conv2d(_FEATURES, _HIDDEN, 1)
        self.conv1 = nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=1)
        self.conv2 = nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=1)
        self.to_bands = nn.Conv2d(_HIDDEN, 12, 3, padding=1)
        self.linear = nn.Conv2d(_FEATURES, 12, 1)
        nn.init.zeros_(self.style.weight)
        nn.init.ones_(self.style.bias)
        nn.init.zeros_(self.to_bands.weight)

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        """Image, (N, 3, 256, 256)."""
        style = self.style(w)[:, :, None, None].to(features.dtype)
        kernels, biases = zip(*((layer.weight, layer.bias) for layer in (self.linear, self.squeeze)), strict=True)
        both = styled_pointwise(features, style, torch.cat(kernels), torch.cat(biases))
        bands, h = both.split([len(bias) for bias in biases], dim=1)
        h = F.leaky_relu(h, 0.2)
        h = h + F.leaky_relu(self.conv1(h), 0.2)
        h = h + F.leaky_relu(self.conv2(h), 0.2)
        return haar_synthesis(bands + self.to_bands(h))


def styled_pointwise(x: Tensor, style: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """1×1 convolution of style × x.

    Where a gradient is wanted for a single image, the style scales the kernel: the gradients of style and x then come
    from matrix products, which cost less than passes over a large x.

    Parameters
    ----------
    x : Tensor, (N, C, H, W)
        Features.
    style : Tensor, (N, C, 1, 1)
        A factor for each channel.
    kernel, bias : Tensor, (O, C, 1, 1) and (O,)
        Of the convolution.
    """
    if len(x) == 1 and style.requires_grad:
        return F.conv2d(x, kernel * style, bias)
    return F.conv2d(x * style, kernel, bias)


def random_codes(
    generator: nn.Module, n: int, w_mean: Tensor, rng: torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """W+ codes like those of an inversion: truncated, style-mixed at a random layer, with a little noise per layer.

    ``generator`` is on ``device``; ``w_mean`` and ``rng`` are on the CPU.
    """
    w = generator.map(torch.randn(2 * n, W_DIM, generator=rng).to(device)).cpu()
    psi = torch.rand(2 * n, 1, generator=rng) * 0.6 + 0.4
    a, b = (w_mean + psi * (w - w_mean)).chunk(2)
    cut = torch.randint(0, 2 * generator.n_styles, (n, 1, 1), generator=rng)
    codes = torch.where(torch.arange(generator.n_styles)[None, :, None] < cut, a[:, None], b[:, None])
    return (codes + 0.05 * torch.randn(codes.shape, generator=rng)).to(device)


def load_preview_head(path: Path) -> PreviewHead:
    """Head with the weights of an ``.npz`` file (stored as float16)."""
    head = PreviewHead()
    with np.load(path) as stored:
        head.load_state_dict({name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files})
    return head
