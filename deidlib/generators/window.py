"""Windows of images and feature maps: crops without resampling."""

from __future__ import annotations

import torch
from torch import Tensor


class _Window(torch.autograd.Function):
    """Indexing in which no pixel is taken twice, so its gradient needs no sums and does not depend on their order."""

    @staticmethod
    def forward(ctx, x: Tensor, which: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(which, rows, columns)
        ctx.sides = x.shape[2:]
        return x.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        n, channels = gradient.shape[:2]
        whole = gradient.new_zeros(n, *ctx.sides, channels)
        whole[ctx.saved_tensors] = gradient.permute(0, 2, 3, 1)
        return whole.permute(0, 3, 1, 2), None, None, None


def surroundings(corners: Tensor, side: int, scale: int, margin: int, whole: int, grain: int = 1) -> tuple[Tensor, int]:
    """First pixels, (N, 2), and side of the windows of a feature map that squares of the image need.

    Parameters
    ----------
    corners : Tensor, (N, 2), int64
        Column and row of each square's first pixel.
    side : int
        Side of the squares, in px of the image.
    scale : int
        Pixels of the image for each pixel of the feature map.
    margin : int
        Pixels of the feature map that are needed around a square.
    whole : int
        Side of the feature map; the windows lie inside it.
    grain : int
        The windows' side is a multiple of this, if the map is large enough.
    """
    needed = -(-side // scale) + 1 + 2 * margin
    seen = min(-(-needed // grain) * grain, whole)
    return (torch.div(corners, scale, rounding_mode="floor") - margin).clamp(0, whole - seen), seen


def window(x: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut a square out of each image, (N, C, H, W), as (N, C, side, side).

    Parameters
    ----------
    x : Tensor, (N, C, H, W)
        Images or feature maps.
    corners : Tensor, (N, 2), int64
        Column and row of each square's first pixel; the squares lie inside the images.
    side : int
        Side of the squares, in px.
    """
    steps = torch.arange(side, device=x.device)
    which = torch.arange(len(x), device=x.device)[:, None, None]
    return _Window.apply(x, which, corners[:, 1, None, None] + steps[:, None], corners[:, 0, None, None] + steps)
