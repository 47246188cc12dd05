"""The preview of a StyleGAN2 generator: the image at 256², from the layers up to 256² alone.

The network sums its image over sizes, so a running image already exists at 256². It need not be a small version of the
final one: the larger sizes may add colour and contrast as well as detail, and in trained networks they contribute most
(Karras et al. 2020, arXiv 1912.04958, figure 8). One 3×3 convolution therefore estimates the missing part from the
features, scaled by the style of the next layer. Its least-squares optimum on the generator's own images is found in
closed form. Its error is measured on further images. If that is too large, the preview is the whole image, reduced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.generators.preview import random_codes
from deidlib.generators.stylegan2 import PREVIEW_SIDE, StyleGAN2

LEAST_PSNR = 24.0  # dB against the reduced whole image, for values in [−1, 1]; below, the estimate is not used
_IMAGES, _FURTHER_IMAGES, _PIXELS = 24, 4, 2048
_RIDGE = 1e-4


@dataclass(frozen=True)
class RunningRGB:
    """The fitted convolution and its quality.

    Attributes
    ----------
    weight, bias : ndarray, (3, C + 3, 3, 3) and (3,), float32
        Convolution from style-scaled features and running image to the missing part of the image.
    psnr : float
        PSNR on images that were not used for the fit, in dB.
    """

    weight: np.ndarray
    bias: np.ndarray
    psnr: float


def save_running_rgb(estimate: RunningRGB, path: Path) -> None:
    """Write the estimate as ``.npz``, whole or not at all."""
    aside = path.with_name(f".{path.stem}.partial.npz")
    np.savez(aside, weight=estimate.weight.astype(np.float16), bias=estimate.bias, psnr=estimate.psnr)
    aside.replace(path)


def use_running_rgb(generator: StyleGAN2, path: Path) -> None:
    """Give a generator the estimate of an ``.npz`` file as its preview, if it is good enough."""
    with np.load(path) as stored:
        if float(stored["psnr"]) < LEAST_PSNR:
            return
        weight, bias = (torch.from_numpy(stored[name].astype(np.float32)) for name in ("weight", "bias"))
    head = nn.Conv2d(weight.shape[1], 3, 3, padding=1)
    head.load_state_dict({"weight": weight, "bias": bias})
    generator.preview_head = head.requires_grad_(False).to(generator.constant.device)


def fit_running_rgb(generator: StyleGAN2, seed: int = 0) -> RunningRGB:
    """Fit the estimate to a generator's own images, drawn with codes like those of an inversion.

    Parameters
    ----------
    generator : StyleGAN2
        The generator, whose own size is above 256²; on any device.
    seed : int
        Seed of the codes and of the pixels used for the fit.
    """
    rng = torch.Generator().manual_seed(seed)
    place = generator.constant.device
    gram = moment = 0
    for _ in range(_IMAGES):
        inputs, lack = _example(generator, rng, place)
        y, x = (torch.randint(0, PREVIEW_SIDE, (_PIXELS,), generator=rng).to(place) for _ in range(2))
        rows = _neighbourhoods(inputs[0], y, x)
        gram, moment = gram + rows.T @ rows, moment + rows.T @ lack[0][:, y, x].T.double()
    gram = gram + _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=place)
    solution = torch.linalg.solve(gram, moment)
    channels = (len(solution) - 1) // 9
    weight, bias = solution[:-1].T.reshape(3, channels, 3, 3).float(), solution[-1].float()
    errors = []
    for _ in range(_FURTHER_IMAGES):
        inputs, lack = _example(generator, rng, place)
        errors.append((F.conv2d(inputs, weight, bias, padding=1) - lack).square().mean().item())
    psnr = 10 * math.log10(4 / max(np.mean(errors), 1e-12))
    return RunningRGB(weight.cpu().numpy(), bias.cpu().numpy(), psnr)


def _example(generator: StyleGAN2, rng: torch.Generator, place: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs of the convolution, and the missing part of the running image, for a random code."""
    codes = random_codes(generator, 1, generator.w_mean.cpu(), rng, place)
    with torch.no_grad():
        inputs, running = generator.preview_inputs(codes)
        image = F.avg_pool2d(generator.draw(codes), generator.own_resolution // PREVIEW_SIDE)
    return inputs, image - running


def _neighbourhoods(inputs: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """3×3 surroundings of pixels (y, x), in the order of a kernel's weights, and a 1: (n, 9·C + 1) float64."""
    padded = F.pad(inputs, (1, 1, 1, 1))
    around = torch.stack([padded[:, y + i, x + j] for i in range(3) for j in range(3)], dim=1)  # (C, 9, n)
    rows = around.flatten(0, 1).T.double()
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype, device=rows.device)], dim=1)
