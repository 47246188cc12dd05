"""ST-LPIPS: shift-tolerant perceptual distance (Ghildyal and Liu 2022, arXiv 2207.13686), AlexNet variant."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CONVOLUTIONS = {  # name in the checkpoint: padding
    "net.slice1.0": 2,
    "net.slice2.5": 2,
    "net.slice3.9": 1,
    "net.slice4.11": 1,
    "net.slice5.13": 1,
}


class STLPIPS(nn.Module):
    """Distance of image pairs, (N, 3, H, W) RGB in [−1, 1], optionally under a weight map.

    Parameters
    ----------
    weights : Path
        ``alex_shift_tolerant.pth``; read as tensors only, no code of the file is run.
    """

    def __init__(self, weights: Path):
        super().__init__()
        state = torch.load(weights, map_location="cpu", weights_only=True)
        kernels = [state[f"{name}.weight"] for name in _CONVOLUTIONS]
        kernels[0] = _with_blur(kernels[0])
        self.kernels = nn.ParameterList(nn.Parameter(kernel) for kernel in kernels)
        self.biases = nn.ParameterList(nn.Parameter(state[f"{name}.bias"]) for name in _CONVOLUTIONS)
        self.heads = nn.ParameterList(nn.Parameter(state[f"lin{k}.model.1.weight"]) for k in range(5))
        self.register_buffer("shift", state["scaling_layer.shift"])
        self.register_buffer("scale", state["scaling_layer.scale"])
        self.register_buffer("blur", _blur())
        self.requires_grad_(False)
        self.eval()

    def _shrink(self, x: Tensor) -> Tensor:
        x = _bordered(x, (2, 1), (-2, -3))  # reflected
        return F.conv2d(x, self.blur.to(x.dtype).expand(x.shape[1], -1, -1, -1), stride=2, groups=x.shape[1])

    def _first(self, x: Tensor) -> Tensor:
        """The first convolution and its shrinking in one, before the activation.

        Of what the shrinking reflects at its edges, the first row and column are the second ones. The last are taken to
        be those before them, as they are where the side is odd; where it is even, the published network has a mean half
        a pixel farther out.
        """
        height, width = x.shape[2:]
        x = F.pad(x, (2, 2 + width % 2, 2, 2 + height % 2))
        x = F.conv2d(F.pixel_unshuffle(x, 2), self.kernels[0], self.biases[0])
        return _bordered(x, (0,), (-1,))

    def features(self, images: Tensor) -> list[Tensor]:
        """The five layers' activations, each normalised to unit length over its channels."""
        x = self._first((images - self.shift) / self.scale)
        layers = []
        for k, padding in enumerate(_CONVOLUTIONS.values()):
            if k in (1, 2):
                x = self._shrink(F.max_pool2d(x, 3, stride=1))
            if k > 0:
                x = F.conv2d(x, self.kernels[k], self.biases[k], padding=padding)
            x = F.relu(x)
            layers.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return layers

    def distance(self, a: list[Tensor], b: list[Tensor], weight: Tensor | None = None) -> Tensor:
        """Distance, (N,), of two outputs of :meth:`features`.

        Parameters
        ----------
        a, b : list of Tensor
            Features of the two batches.
        weight : Tensor, (N, 1, H, W), optional
            Where the distance counts; shrunk to each layer. None: everywhere alike.
        """
        total = 0.0
        for x, y, head in zip(a, b, self.heads, strict=True):
            local = F.conv2d((x - y).square(), head.to(x.dtype))
            if weight is None:
                total = total + local.mean(dim=(1, 2, 3))
            else:
                m = F.interpolate(weight, local.shape[2:], mode="area")
                total = total + (local * m).sum(dim=(1, 2, 3)) / m.sum(dim=(1, 2, 3)).clamp_min(1e-6)
        return total

    def forward(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
        """Distance, (N,), of image pairs, (N, 3, H, W)."""
        return self.distance(self.features(a), self.features(b), weight)


def _bordered(x: Tensor, before: tuple[int, ...], behind: tuple[int, ...]) -> Tensor:
    """Rows and columns again, by number, before the first and behind the last.

    As torch's reflecting and replicating paddings have it, but compiled and in a fixed order on a GPU too.
    """
    for axis in (2, 3):
        parts = [x.narrow(axis, k % x.shape[axis], 1) for k in (*before, *behind)]
        x = torch.cat([*parts[: len(before)], x, *parts[len(before) :]], dim=axis)
    return x


def _blur() -> Tensor:
    tap = torch.tensor([1.0, 2.0, 1.0]) / 4
    return torch.outer(tap, tap)[None, None]


def _with_blur(kernel: Tensor) -> Tensor:
    """A kernel, (O, I, 11, 11), then the blur at every other pixel, for 2×2 pixels as channels: (O, 4I, 7, 7)."""
    outputs, inputs, side, _ = kernel.shape
    both = F.conv2d(kernel.reshape(-1, 1, side, side), _blur(), padding=2)  # (O·I, 1, 13, 13)
    return F.pixel_unshuffle(F.pad(both, (0, 1, 0, 1)).reshape(outputs, inputs, side + 3, side + 3), 2)
