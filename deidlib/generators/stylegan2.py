"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), skip architecture, with the weights of a user's checkpoint.

    s = A·w + b                                                  style of a layer
    y_o = Σ_i K_oi ∗ (s_i·x_i) · (Σ_i s_i²·Σ|K_oi|² + 1e-8)^−½    modulated, demodulated convolution (equations 1–3)
    x' = √2 · leaky_relu(y + noise + bias, 0.2)

Where a layer doubles the size, K acts on x with zeros between its pixels, and the filter [1,3,3,1] ⊗ [1,3,3,1] / 16
follows. The image is the sum over sizes of linear, modulated maps to RGB, each enlarged by that filter (figure 7b).
Noise is the constant image that the checkpoint holds: the network is deterministic. Styles act on the pixels and
demodulation on the sums, never on a copy of the weights for each photograph, so a batch costs no more memory than its
images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.generators.window import surroundings, window

ALIGNED_SIDE = 1024  # px, side of the aligned frame, whatever the network's own size
PREVIEW_SIDE = ALIGNED_SIDE // 4
_MARGIN = 4  # px at 256²: pixels farther away do not influence a close-up


@dataclass(frozen=True)
class Modulated:
    """One modulated convolution as a checkpoint gives it, all gains applied.

    Attributes
    ----------
    weight : Tensor, (O, I, k, k)
        Kernels; those of a layer that doubles the size act as a convolution, the others as a correlation.
    style_weight, style_bias : Tensor, (I, w_dim) and (I,)
        Affine map of w to the style.
    bias : Tensor, (O,)
        Added after the noise.
    noise : Tensor, (H, W), or None
        Constant noise image times its strength.
    """

    weight: Tensor
    style_weight: Tensor
    style_bias: Tensor
    bias: Tensor
    noise: Tensor | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a StyleGAN2 generator, all gains applied; see :func:`deidlib.generators.checkpoints.read_checkpoint`.

    Attributes
    ----------
    mapping : list of (Tensor, Tensor)
        Weight (out, in) and bias of each layer of the mapping network.
    w_mean : Tensor, (w_dim,), or None
        Running mean of w, where the checkpoint has it.
    constant : Tensor, (C, 4, 4)
        Input of the synthesis network.
    layers : list of Modulated
        3×3 layers: one at 4², then two a size, the first of which doubles it.
    to_rgb : list of Modulated
        1×1 layers to RGB, one a size from 4².
    clamp : float or None
        Largest magnitude of an activation.
    """

    mapping: list[tuple[Tensor, Tensor]]
    w_mean: Tensor | None
    constant: Tensor
    layers: list[Modulated]
    to_rgb: list[Modulated]
    clamp: float | None = None


def _filter_kernel(channels: int, like: Tensor) -> Tensor:
    # 1, 3, 3, 1, made on the device: a copy from the host would hold up every layer of a step on a GPU.
    taps = 4 - 2 * (torch.arange(4, device=like.device, dtype=like.dtype) - 1.5).abs()
    return (torch.outer(taps, taps) / 16).expand(channels, 1, 4, 4)


def smooth(x: Tensor) -> Tensor:
    """Filter after a doubling, (N, C, 2H + 1, 2W + 1) to (N, C, 2H, 2W); zero outside."""
    return F.conv2d(x, _filter_kernel(x.shape[1], x), padding=1, groups=x.shape[1])


def enlarge(image: Tensor) -> Tensor:
    """Image at twice the size through the filter, (N, C, H, W) to (N, C, 2H, 2W) in its own precision; zero outside."""
    channels = image.shape[1]
    with torch.autocast(image.device.type, enabled=False):
        return F.conv_transpose2d(image, _filter_kernel(channels, image), stride=2, padding=1, groups=channels)


def _clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


class _Convolution(nn.Module):
    """Modulated convolution: style × input, kernels, × demodulation."""

    def __init__(self, source: Modulated, demodulate: bool, doubles: bool):
        super().__init__()
        self.demodulate, self.doubles = demodulate, doubles
        self.weight = nn.Parameter(source.weight.contiguous())
        self.style_weight = nn.Parameter(source.style_weight)
        self.style_bias = nn.Parameter(source.style_bias)
        self.bias = nn.Parameter(source.bias[:, None, None])
        self.energy = nn.Parameter(source.weight.square().sum(dim=(2, 3)))

    def style(self, w: Tensor) -> Tensor:
        """Style, (N, I); in float32, since demodulation divides by it."""
        with torch.autocast(w.device.type, enabled=False):
            return F.linear(w.float(), self.style_weight, self.style_bias)

    def modulated(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """Σ_i K_oi ∗ (s_i·x_i), and the demodulation, (N, O, 1, 1), by which it is to be multiplied."""
        style = self.style(w)
        x = x * style[:, :, None, None].to(x.dtype)
        if self.doubles:
            x = smooth(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulate:
            return x, None
        with torch.autocast(w.device.type, enabled=False):
            return x, torch.rsqrt(F.linear(style.square(), self.energy) + 1e-8)[:, :, None, None]


class _Layer(_Convolution):
    """Modulated convolution, constant noise, bias, leaky ReLU."""

    def __init__(self, source: Modulated, doubles: bool, clamp: float | None):
        super().__init__(source, demodulate=True, doubles=doubles)
        self.clamp = clamp
        noise = source.noise if source.noise is not None else torch.zeros(1, 1)
        self.noise = nn.Parameter(noise[None, None].contiguous())

    def forward(self, x: Tensor, w: Tensor, corners: Tensor | None = None) -> Tensor:
        """Features; for a part of them, ``corners``, (N, 2), is the first pixel of each photograph's part."""
        x, demodulation = self.modulated(x, w)
        gain, noise = 2**0.5, self.noise  # √2·leaky_relu(x) = leaky_relu(√2·x)
        if corners is not None and noise.shape[-1] > 1:
            noise = window(noise.expand(len(x), -1, -1, -1), corners, x.shape[-1])
        x = torch.addcmul((gain * noise).to(x.dtype), x, (gain * demodulation).to(x.dtype))
        return _clamped(F.leaky_relu(x + (gain * self.bias).to(x.dtype), 0.2), self.clamp)


class _ToRGB(_Convolution):
    """Modulated 1×1 convolution to RGB, without demodulation."""

    def __init__(self, source: Modulated, clamp: float | None):
        super().__init__(source, demodulate=False, doubles=False)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x, _ = self.modulated(x, w)
        return _clamped(x.float() + self.bias, self.clamp)


class StyleGAN2(nn.Module):
    """A StyleGAN2 generator in the aligned frame.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its weights.

    Attributes
    ----------
    n_styles : int
        Number of w vectors of a W+ code, 2·log₂(own side) − 2: for the layer k of ``layers`` vector k, and for the map
        to RGB of size k vector 2k + 1 (shared with the layer that doubles the size next).
    z_dim, w_dim : int
        Lengths of z and w.
    resolution : int
        Side of the image that :meth:`synthesise` gives, 1024.
    own_resolution : int
        Side of the image that the network draws, for example 256.
    """

    resolution = ALIGNED_SIDE

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        self.n_styles = len(checkpoint.layers) + 1
        self.own_resolution = 4 * 2 ** (len(checkpoint.to_rgb) - 1)
        self.z_dim, self.w_dim = checkpoint.mapping[0][0].shape[1], checkpoint.mapping[-1][0].shape[0]
        self.mapping_weights = nn.ParameterList(nn.Parameter(weight) for weight, _ in checkpoint.mapping)
        self.mapping_biases = nn.ParameterList(nn.Parameter(bias) for _, bias in checkpoint.mapping)
        self.constant = nn.Parameter(checkpoint.constant[None].contiguous())
        self.layers = nn.ModuleList(
            _Layer(layer, doubles=k % 2 == 1, clamp=checkpoint.clamp) for k, layer in enumerate(checkpoint.layers)
        )
        self.to_rgb = nn.ModuleList(_ToRGB(layer, checkpoint.clamp) for layer in checkpoint.to_rgb)
        self.requires_grad_(False)
        self.eval()
        mean = checkpoint.w_mean if checkpoint.w_mean is not None else self._estimated_mean()
        self.w_mean = nn.Parameter(mean, requires_grad=False)
        self.preview_head: nn.Module | None = None  # see deidlib.generators.running_rgb

    def _estimated_mean(self, n: int = 10000) -> Tensor:
        z = torch.randn(n, self.z_dim, generator=torch.Generator().manual_seed(0))
        return self.map(z).mean(dim=0)

    def map(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Latent z, (N, z_dim) standard normal, to w, (N, w_dim) float32, drawn to the mean w by ``truncation`` ψ."""
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for weight, bias in zip(self.mapping_weights, self.mapping_biases, strict=True):
            x = 2**0.5 * F.leaky_relu(F.linear(x, weight, bias), 0.2)
        return x if truncation == 1 else self.w_mean + truncation * (x - self.w_mean)

    def features(self, w: Tensor, side: int | None = None) -> tuple[Tensor, Tensor]:
        """Feature map and running RGB, (N, C, side, side) and (N, 3, side, side); by default at the own size."""
        x = self.layers[0](self.constant.expand(len(w), -1, -1, -1), w[:, 0])
        image = self.to_rgb[0](x, w[:, 1])
        for k in range(1, len(self.to_rgb)):
            if image.shape[-1] == side:
                break
            x = self.layers[2 * k - 1](x, w[:, 2 * k - 1])
            x = self.layers[2 * k](x, w[:, 2 * k])
            image = enlarge(image) + self.to_rgb[k](x, w[:, 2 * k + 1])
        return x, image

    def draw(self, w: Tensor) -> Tensor:
        """Image of a W+ code, (N, n_styles, w_dim), at the network's own size, RGB in about [−1, 1]."""
        return self.features(w)[1]

    def synthesise(self, w: Tensor) -> Tensor:
        """Image of a W+ code in the aligned frame, (N, 3, 1024, 1024); a smaller network's is enlarged (bicubic)."""
        return _in_frame(self.draw(w), ALIGNED_SIDE)

    def preview(self, w: Tensor) -> Tensor:
        """The same image at 256², (N, 3, 256, 256): estimated from the layers up to 256² where a head was fitted."""
        if self.preview_head is None:
            return _in_frame(self.draw(w), PREVIEW_SIDE)
        return self._estimate(*self.preview_inputs(w))

    def _estimate(self, inputs: Tensor, running: Tensor) -> Tensor:
        return running + self.preview_head(inputs).float()

    def close_up(self, w: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """The preview, and a part of the image at 512², (N, 3, side, side), that begins at ``corners``.

        If the preview is estimated from the layers up to 256², the layers above compute only the part and its
        surroundings; pixels farther away do not influence it.
        """
        half = ALIGNED_SIDE // 2
        if self.preview_head is None:
            drawn = self.draw(w)
            return _in_frame(drawn, PREVIEW_SIDE), window(_in_frame(drawn, half), corners, side)
        x, running = self.features(w, PREVIEW_SIDE)
        preview = self._estimate(self._preview_inputs(x, running, w), running)
        at, seen = surroundings(corners, side, half // PREVIEW_SIDE, _MARGIN, PREVIEW_SIDE)
        x, part = window(x, at, seen), window(running, at, seen)
        for k in range(_size_number(PREVIEW_SIDE) + 1, len(self.to_rgb)):
            at = 2 * at
            x = self.layers[2 * k - 1](x, w[:, 2 * k - 1], at)
            x = self.layers[2 * k](x, w[:, 2 * k], at)
            part = enlarge(part) + self.to_rgb[k](x, w[:, 2 * k + 1])
        scale = self.own_resolution // half
        part = window(F.avg_pool2d(part, scale), corners - torch.div(at, scale, rounding_mode="floor"), side)
        return preview, part

    def preview_inputs(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the preview's estimate, (N, C + 3, 256, 256), and the running image among them.

        The C features are those of 256² as the next layer sees them, times its style.
        """
        x, running = self.features(w, PREVIEW_SIDE)
        return self._preview_inputs(x, running, w), running

    def _preview_inputs(self, x: Tensor, running: Tensor, w: Tensor) -> Tensor:
        following = 2 * _size_number(PREVIEW_SIDE) + 1  # 4² has one layer, every further size two
        style = self.layers[following].style(w[:, following])
        x = x * style[:, :, None, None].to(x.dtype)
        return torch.cat([x, running.to(x.dtype)], dim=1)


def _size_number(side: int) -> int:
    """Which of the sizes 4², 8², 16² and so on a side is, from 0."""
    return side.bit_length() - 3


def _in_frame(image: Tensor, side: int) -> Tensor:
    """The image at another size of the frame, float32: area-averaged where it shrinks, bicubic where it grows."""
    own = image.shape[-1]
    if own == side:
        return image
    if own > side:
        return F.avg_pool2d(image, own // side)
    return F.interpolate(image, (side, side), mode="bicubic", align_corners=False)
