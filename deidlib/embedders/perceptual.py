"""Perceptual distances: LPIPS (Zhang et al. 2018, arXiv 1801.03924), and its shift-tolerant variant for the inversion.

ST-LPIPS (Ghildyal and Liu 2022, arXiv 2207.13686), AlexNet variant, is LPIPS with weights of its own and another
feature network, which blurs before it subsamples. Layers and formula are those of the package ``lpips``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import lpips
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
#: File of the AlexNet behind LPIPS, by the name that torchvision gives it in torch's cache.
_ALEXNET = "alexnet-owt-7be5be79.pth"


class BlurredAlexNet(nn.Module):
    """AlexNet's convolutions with a blur before each subsampling: the feature network of ST-LPIPS.

    Parameters
    ----------
    state : dict
        Tensors of ``alex_shift_tolerant.pth`` by name.
    """

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        kernels = [state[f"{name}.weight"] for name in _CONVOLUTIONS]
        kernels[0] = _with_blur(kernels[0])
        self.kernels = nn.ParameterList(nn.Parameter(kernel) for kernel in kernels)
        self.biases = nn.ParameterList(nn.Parameter(state[f"{name}.bias"]) for name in _CONVOLUTIONS)
        self.register_buffer("blur", _blur())

    def _shrink(self, x: Tensor) -> Tensor:
        x = _bordered(x, (2, 1), (-2, -3))  # reflected
        return _Halved.apply(x, self.blur.to(x.dtype).expand(x.shape[1], -1, -1, -1))

    def first(self, x: Tensor) -> Tensor:
        """The first convolution and its subsampling in one step, before the activation.

        The subsampling pads its input by reflection. The padded first row and column are copies of the second ones. The
        padded last row and column are taken from those before them. This is exact for an odd side; for an even side the
        published network has a mean half a pixel farther out.
        """
        height, width = x.shape[2:]
        x = F.pad(x, (2, 2 + width % 2, 2, 2 + height % 2))
        x = F.conv2d(F.pixel_unshuffle(x, 2), self.kernels[0], self.biases[0])
        return _bordered(x, (0,), (-1,))

    def layers(self, x: Tensor) -> Iterator[Tensor]:
        """The five layers' activations of scaled images, (N, 3, H, W), one after the other."""
        x = self.first(x)
        for k, padding in enumerate(_CONVOLUTIONS.values()):
            if k in (1, 2):
                x = self._shrink(F.max_pool2d(x, 3, stride=1))
            if k > 0:
                x = F.conv2d(x, self.kernels[k], self.biases[k], padding=padding)
            x = F.relu(x)
            yield x

    def forward(self, x: Tensor) -> list[Tensor]:
        """The five layers' activations, in the form that LPIPS expects."""
        return list(self.layers(x))


class STLPIPS(lpips.LPIPS):
    """Distance, (N, 1, 1, 1), of image pairs, (N, 3, H, W) RGB in [−1, 1]; :meth:`distance` also under a weight map.

    Parameters
    ----------
    weights : Path
        ``alex_shift_tolerant.pth``; read as tensors only, no code of the file is run.
    """

    def __init__(self, weights: Path):
        # LPIPS makes an unused AlexNet; here it takes no memory and no random draws. torchvision's warning is hidden.
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            super().__init__(pretrained=False, net="alex", pnet_rand=True, verbose=False)
        state = torch.load(weights, map_location="cpu", weights_only=True)
        self.net = BlurredAlexNet(state)
        self.scaling_layer.shift, self.scaling_layer.scale = state["scaling_layer.shift"], state["scaling_layer.scale"]
        for k, layer in enumerate(self.lins):
            layer.load_state_dict({"model.1.weight": state[f"lin{k}.model.1.weight"]}, assign=True)
        self.requires_grad_(False)
        self.eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """The five layers' activations, each normalised to unit length over its channels."""
        # As lpips.normalize_tensor, except its x**2, which mixed precision on a GPU computes in float32. Each layer is
        # normalised before the next one is computed; this order fixes the order in which gradients are summed.
        layers = self.net.layers(self.scaling_layer(images))
        return [x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in layers]

    def distance(self, a: list[Tensor], b: list[Tensor], weight: Tensor | None = None) -> Tensor:
        """Distance, (N,), of two outputs of :meth:`features`: LPIPS's formula, its mean over pixels weighted.

        Parameters
        ----------
        a, b : list of Tensor
            Features of the two batches.
        weight : Tensor, (N, 1, H, W), optional
            Weight of each pixel, reduced to each layer's size. None: all pixels count the same.
        """
        total = 0.0
        for x, y, layer in zip(a, b, self.lins, strict=True):
            local = layer((x - y).square())
            if weight is None:
                total = total + lpips.spatial_average(local, keepdim=False).squeeze(1)
            else:
                m = F.interpolate(weight, local.shape[2:], mode="area")
                total = total + (local * m).sum(dim=(1, 2, 3)) / m.sum(dim=(1, 2, 3)).clamp_min(1e-6)
        return total


def plain_lpips(spatial: bool = False) -> lpips.LPIPS | None:
    """LPIPS as published (AlexNet, version 0.1), or None where torch's cache lacks its AlexNet: nothing is downloaded.

    Its layers come with the package. The AlexNet is torchvision's, in the folder ``checkpoints`` of torch.hub's cache.

    Parameters
    ----------
    spatial : bool
        Whether it gives a map, (N, 1, H, W), instead of its mean, (N, 1, 1, 1).
    """
    backbone = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    if not backbone.is_file():
        return None
    with warnings.catch_warnings(action="ignore"):
        return lpips.LPIPS(net="alex", spatial=spatial, verbose=False).requires_grad_(False)


def _bordered(x: Tensor, before: tuple[int, ...], behind: tuple[int, ...]) -> Tensor:
    """Pad with copies of some rows and columns, given by number, before the first and after the last.

    The result equals torch's reflecting and replicating paddings, but it compiles, and its order is fixed on a GPU too.
    """
    return _Bordered.apply(x, before, behind)


class _Bordered(torch.autograd.Function):
    """The copies' gradients are added to the rows themselves: autograd would write a whole image for every copy."""

    @staticmethod
    def forward(ctx, x: Tensor, before: tuple[int, ...], behind: tuple[int, ...]) -> Tensor:
        ctx.taken = before, behind
        for axis in (2, 3):
            parts = [x.narrow(axis, k % x.shape[axis], 1) for k in (*before, *behind)]
            x = torch.cat([*parts[: len(before)], x, *parts[len(before) :]], dim=axis)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        before, behind = ctx.taken
        for axis in (3, 2):
            side = gradient.shape[axis] - len(before) - len(behind)
            inner = gradient.narrow(axis, len(before), side).clone()
            places = *range(len(before)), *range(len(before) + side, gradient.shape[axis])
            for place, k in zip(places, (*before, *behind), strict=True):
                inner.narrow(axis, k % side, 1).add_(gradient.narrow(axis, place, 1))
            gradient = inner
        return gradient, None, None


class _Halved(torch.autograd.Function):
    """Every other pixel of a blur, (C, 1, 3, 3) and symmetric; the blur of every pixel gives its gradient faster."""

    @staticmethod
    def forward(ctx, x: Tensor, blur: Tensor) -> Tensor:
        ctx.save_for_backward(blur)
        ctx.sides = x.shape[2:]
        return F.conv2d(x, blur, stride=2, groups=len(blur))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (blur,), (height, width) = ctx.saved_tensors, ctx.sides
        n, channels, rows, columns = gradient.shape
        spread = gradient.new_zeros(n, channels, height, width)
        spread[:, :, 1 : 2 * rows : 2, 1 : 2 * columns : 2] = gradient
        return F.conv2d(spread, blur, padding=1, groups=channels), None


def _blur() -> Tensor:
    tap = torch.tensor([1.0, 2.0, 1.0]) / 4
    return torch.outer(tap, tap)[None, None]


def _with_blur(kernel: Tensor) -> Tensor:
    """A kernel, (O, I, 11, 11), then the blur at every other pixel, for 2×2 pixels as channels: (O, 4I, 7, 7)."""
    outputs, inputs, side, _ = kernel.shape
    both = F.conv2d(kernel.reshape(-1, 1, side, side), _blur(), padding=2)  # (O·I, 1, 13, 13)
    return F.pixel_unshuffle(F.pad(both, (0, 1, 0, 1)).reshape(outputs, inputs, side + 3, side + 3), 2)
