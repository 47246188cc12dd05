"""MobileStyleGAN (Belousov 2021, arXiv 2104.04767), FFHQ 1024², differentiable, in W+.

The published network is an OpenVINO graph; here it is written in PyTorch with the same weights. Demodulation
does not depend on w, so it is folded into the weights, and the noise is a constant image per layer: the network
is deterministic.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.errors import InputError
from deidlib.generators.haar import haar_synthesis
from deidlib.generators.openvino_ir import read_constants
from deidlib.generators.preview import PREVIEW_BLOCKS, PREVIEW_STYLE, load_preview_head, styled_pointwise
from deidlib.generators.window import surroundings, window

N_STYLES = 16
W_DIM = 512
RESOLUTION = 1024
N_BLOCKS = 7
_MARGIN = 2  # px at 128²: only so far do pixels influence a close-up (two 3×3 layers at 256², two at 512²)
_GRAIN = 32  # px at 128²: cuDNN's fast depthwise kernels take 256² and not 244² (28 times slower on an H100)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class _NoiseAndLeaky(torch.autograd.Function):
    """Leaky ReLU of x + noise, written over x; the sign of the result tells the slope."""

    @staticmethod
    def forward(ctx, x: Tensor, noise: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        F.leaky_relu_(x.add_(noise), 0.2)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(gradient, result, 0.2, True), None


class _Style(nn.Module):
    """Affine map of w to one multiplier per channel."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray, scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight * scale), requires_grad=False)
        self.bias = nn.Parameter(torch.tensor(bias.reshape(-1) * scale), requires_grad=False)

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight, self.bias)[:, :, None, None]


class _StyledConv(nn.Module):
    """Style × input, (depthwise 3×3 and 1×1) or (3×3), + noise, + bias, leaky ReLU."""

    def __init__(self, style: _Style, kernels: list[np.ndarray], noise: np.ndarray, bias: np.ndarray):
        super().__init__()
        self.style = style
        self.depthwise = len(kernels) == 2
        self.kernels = nn.ParameterList(nn.Parameter(torch.tensor(k), requires_grad=False) for k in kernels)
        self.noise = nn.Parameter(torch.tensor(noise), requires_grad=False)  # (1, 1, H, W)
        self.bias = nn.Parameter(torch.tensor(bias.reshape(-1)), requires_grad=False)  # (C,)

    def forward(self, x: Tensor, w: Tensor, corners: Tensor | None = None) -> Tensor:
        x = x * self.style(w)
        if self.depthwise:
            x = F.conv2d(x, self.kernels[0], padding=1, groups=x.shape[1])
            x = F.conv2d(x, self.kernels[1], self.bias)
        else:
            x = F.conv2d(x, self.kernels[0], self.bias, padding=1)
        noise = self.noise
        if corners is not None:
            noise = window(noise.expand(len(x), -1, -1, -1), corners, x.shape[-1])
        return _NoiseAndLeaky.apply(x, noise.to(x.dtype))


class _Block(nn.Module):
    def __init__(self, up: _Style, conv1: _StyledConv, conv2: _StyledConv):
        super().__init__()
        self.up, self.conv1, self.conv2 = up, conv1, conv2

    def forward(self, x: Tensor, w_up: Tensor, w_conv2: Tensor, corners: Tensor | None = None) -> Tensor:
        """Features at twice the size; for windows of the features, ``corners``, (N, 2), are their first pixels."""
        corners = None if corners is None else 2 * corners
        x = haar_synthesis(x * self.up(w_up))
        x = self.conv1(x, w_up, corners)
        return self.conv2(x, w_conv2, corners)


class _Constants:
    """The graph's constants in order, with a cursor."""

    def __init__(self, xml_path: Path):
        self.items = list(read_constants(xml_path))
        self.names = [name for name, _ in self.items]

    def named(self, name: str) -> np.ndarray:
        return self.items[self.names.index(name)][1]

    def after(self, name: str, predicate, skip: int = 0) -> np.ndarray:
        """The first constant after ``name`` (passing over ``skip``) that satisfies ``predicate``."""
        for _, value in self.items[self.names.index(name) + 1 :]:
            if predicate(value):
                if skip == 0:
                    return value
                skip -= 1
        raise InputError(f"no constant of the expected shape follows {name!r}: not the MobileStyleGAN graph")

    def style(self, name: str) -> _Style:
        weight, bias = self.named(f"{name}.modulation.weight"), self.named(f"{name}.modulation.bias")
        if name.endswith(".up"):  # scales its input as it is; a convolution's style carries 1/√(fan-in)
            return _Style(_by_band(weight), _by_band(bias.reshape(-1)), 0.5)  # the orthogonal transform's factor
        scale = self.after(f"{name}.modulation.bias", lambda v: v.dtype == np.float32 and v.size == 1)
        return _Style(weight, bias, float(scale.reshape(-1)[0]))


def _by_band(rows: np.ndarray) -> np.ndarray:
    """Rows in the order low-pass, LH, HL, HH; the published graph interleaves the last three."""
    low, high = np.split(rows, [len(rows) // 4])
    return np.concatenate([low, high[0::3], high[1::3], high[2::3]])


def _is_noise(v: np.ndarray) -> bool:
    return v.dtype == np.float32 and v.ndim == 4 and v.shape[:2] == (1, 1) and v.shape[2] > 1


def _is_pointwise(v: np.ndarray) -> bool:
    return v.dtype == np.float32 and v.ndim == 4 and v.shape[2:] == (1, 1) and v.shape[0] > 1


class MobileStyleGAN(nn.Module):
    """The default generator.

    Attributes
    ----------
    n_styles : int
        Number of w vectors of a W+ code (16): 0 for the first convolution; for block k, 2k+1 for the up-sampling
        and the first convolution and 2k+2 for the second; 15 for the head. (The published graph counts 23,
        with a head after every block, of which the file holds the last.)
    resolution : int
        Side of the generated image in pixels of the ``aligned`` frame (1024).
    """

    n_styles, w_dim, resolution = N_STYLES, W_DIM, RESOLUTION

    def __init__(self, mapping_xml: Path, synthesis_xml: Path, preview_file: Path | None = None):
        super().__init__()
        self._load_mapping(mapping_xml)
        self._load_synthesis(synthesis_xml)
        self.preview_head = load_preview_head(preview_file) if preview_file else None
        self.requires_grad_(False)
        self.eval()

    def _load_mapping(self, xml_path: Path) -> None:
        values = [v for _, v in read_constants(xml_path) if v.dtype == np.float32]
        weights = [v for v in values if v.shape == (W_DIM, W_DIM)]
        biases = [v for v in values if v.shape == (W_DIM,)]
        if len(weights) != 8 or len(biases) != 8:
            raise InputError(
                f"{xml_path}: expected eight 512×512 layers, found {len(weights)}: not the mapping network"
            )
        self.mapping_weights = nn.ParameterList(nn.Parameter(torch.tensor(v)) for v in weights)
        self.mapping_biases = nn.ParameterList(nn.Parameter(torch.tensor(v)) for v in biases)

    def _load_synthesis(self, xml_path: Path) -> None:
        c = _Constants(xml_path)
        self.constant = nn.Parameter(torch.tensor(c.named("m.input.input")))
        first_kernel = c.after("m.input.input", lambda v: v.ndim == 4 and v.shape == (W_DIM, W_DIM, 3, 3))
        self.first = _StyledConv(
            c.style("m.conv1.conv"),
            [_by_band(first_kernel)],
            c.after("m.input.input", _is_noise),
            _by_band(c.named("m.conv1.bias").reshape(-1)),
        )
        blocks = []
        for k in range(N_BLOCKS):
            name = f"m.layers.{k}"
            convs = []
            for conv in ("conv1", "conv2"):
                depthwise = f"{name}.{conv}.conv.weight_dw"
                pointwise, bias = c.after(depthwise, _is_pointwise), c.named(f"{name}.{conv}.bias").reshape(-1)
                if conv == "conv2" and k < N_BLOCKS - 1:  # a wavelet transform follows
                    pointwise, bias = _by_band(pointwise), _by_band(bias)
                kernels, noise = [c.named(depthwise).squeeze(2), pointwise], c.after(depthwise, _is_noise)
                convs.append(_StyledConv(c.style(f"{name}.{conv}.conv"), kernels, noise, bias))
            blocks.append(_Block(c.style(f"{name}.up"), *convs))
        self.blocks = nn.ModuleList(blocks)
        self.head_style = c.style("m.layers.6.to_img.conv")
        kernel, bias = c.named("m.layers.6.to_img.conv.weight"), c.named("m.layers.6.to_img.bias").reshape(-1)
        self.head_kernel = nn.Parameter(torch.tensor(_by_band(kernel) / 2))
        self.head_bias = nn.Parameter(torch.tensor(_by_band(bias) / 2))

    def map(self, z: Tensor) -> Tensor:
        """Latent z, (N, 512) standard normal, to w, (N, 512) float32."""
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for weight, bias in zip(self.mapping_weights, self.mapping_biases, strict=True):
            x = 2**0.5 * _leaky(F.linear(x, weight, bias))
        return x

    def features(self, w: Tensor, n_blocks: int = N_BLOCKS) -> Tensor:
        """Feature map after ``n_blocks`` blocks for a W+ code, (N, 16, 512)."""
        x = self.first(self.constant.expand(len(w), -1, -1, -1), w[:, 0])
        for k, block in enumerate(self.blocks[:n_blocks]):
            x = block(x, w[:, 2 * k + 1], w[:, 2 * k + 2])
        return x

    def synthesise(self, w: Tensor) -> Tensor:
        """Image of a W+ code, (N, 16, 512), as (N, 3, 1024, 1024) RGB in about [−1, 1]."""
        x = self.features(w) * self.head_style(w[:, N_STYLES - 1])
        return haar_synthesis(F.conv2d(x, self.head_kernel, self.head_bias))

    def preview(self, w: Tensor) -> Tensor:
        """The same image at 256², (N, 3, 256, 256), from the features of 128² through the trained head."""
        return self._preview(self.features(w, PREVIEW_BLOCKS), w)

    def _preview(self, features: Tensor, w: Tensor) -> Tensor:
        if self.preview_head is None:
            raise InputError("this generator was built without its preview head; pass preview_file")
        return self.preview_head(features, w[:, PREVIEW_STYLE])

    def close_up(self, w: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """The preview, and a part of the image at 512² exactly, (N, 3, side, side), that begins at ``corners``.

        The last two blocks compute only the part and its surroundings; pixels farther away do not influence it.
        """
        features = self.features(w, PREVIEW_BLOCKS)
        whole = features.shape[-1]
        its_corners, seen = surroundings(corners, side, self.resolution // 2 // whole, _MARGIN, whole, _GRAIN)
        x = window(features, its_corners, seen)
        for k, block in enumerate(self.blocks[PREVIEW_BLOCKS:], PREVIEW_BLOCKS):
            x = block(x, w[:, 2 * k + 1], w[:, 2 * k + 2], its_corners)
            its_corners = 2 * its_corners
        # The mean over 2×2 pixels is the low-pass band, the head's first three channels.
        style = self.head_style(w[:, N_STYLES - 1])
        low = styled_pointwise(x, style, self.head_kernel[:3], self.head_bias[:3])
        return self._preview(features, w), window(low, corners - its_corners, side)
