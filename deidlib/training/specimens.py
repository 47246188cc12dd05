"""Faces that the realism check is trained and measured on: sound ones, and ones driven out of the generator's domain.

Offsets are in whitened coordinates of W, in standard deviations of what the generator draws. Each person gives a
sound face and a broken one, so that hair, light and background say nothing of what is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from deidlib.donors.bank import Bank, to_uint8, truncated_codes
from deidlib.donors.edit import Editor
from deidlib.donors.fit import view_of
from deidlib.generators import LatentPrior
from deidlib.inversion.invert import invert
from deidlib.inversion.objective import WORK_SIDE, Networks, Targets

SIDE = 256  # px of the specimens, aligned frame
#: Kind of failure → the layers that are offset, independently, and the least and largest offset. By eye about nine in
#: ten of these faces are broken; below the ranges more and more are sound.
LAYERS = {
    "every layer": (slice(0, 16), 0.95, 1.6),
    "first layers": (slice(0, 6), 1.2, 1.8),
    "middle layers": (slice(4, 10), 1.7, 2.3),
}
#: Kinds that nothing is trained on. ``extrapolated``: away from the mean; ``another code``: one offset for all layers.
UNSEEN = ("extrapolated", "another code")
_EXTRAPOLATION, _ANOTHER = (2.0, 3.0), (1.4, 2.4)
LEAST_DRIVEN = 0.55  # RMS distance to the donor, from which on faces that optimisation drove out are broken, by eye
#: Terms of the objective that are left out where optimisation shall drive a face out of the domain.
_NOT_HELD = ("latent", "layer_variance", "identity", "upper_face", "background", "mouth_landmark")
_SOUND = 0.25  # largest offset of a sound face, what inversion reaches


@dataclass(frozen=True)
class Specimens:
    """People, N, each with a sound face and a broken one; images are (N, 256, 256, 3) uint8."""

    sound: np.ndarray
    broken: np.ndarray
    kinds: tuple[str, ...]
    codes: np.ndarray  # (N, 2, n_styles, 512) float16


def people(generator: nn.Module, editor: Editor, bank: Bank, n: int, seed: int) -> np.ndarray:
    """W+ codes, (n, n_styles, 512), as donors have them: drawn, style-mixed now and then, moved to another's view."""
    rng = np.random.default_rng(seed)
    drawn = truncated_codes(generator, n, seed).astype(np.float64)
    codes = np.repeat(drawn[:, None], generator.n_styles, axis=1)
    for code, w, other in zip(codes, drawn, np.roll(drawn, 1, axis=0), strict=True):
        chance = rng.random()
        if chance < 0.15:
            code[rng.integers(4, generator.n_styles) :] = other
        elif chance < 0.6:
            view = {**bank.scalars, "geometry": bank.geometry}
            k = rng.integers(len(bank))
            code[:] = editor.follow(w, view_of({name: values[k] for name, values in view.items()}, jaw=True))
    return codes


def offsets(prior: LatentPrior, shape: tuple[int, ...], size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random offsets of W, ``shape`` with 512 last, of RMS ``size`` (one for each first index)."""
    size = np.reshape(size, (-1, *(1,) * (len(shape) - 1)))
    return size * rng.standard_normal(shape) @ prior.axes.T


def break_codes(
    codes: np.ndarray, kinds: Sequence[str], prior: LatentPrior, rng: np.random.Generator, least: bool = False
) -> np.ndarray:
    """Drive each code, (N, n_styles, 512), out of the domain by its kind of failure."""
    broken = codes.copy()
    for code, kind in zip(broken, kinds, strict=True):
        if kind in LAYERS:
            layers, low, high = LAYERS[kind]
            size = low if least else rng.uniform(low, high)
            code[layers] += offsets(prior, code[layers].shape, size, rng)
        elif kind == "another code":
            code += offsets(prior, (1, code.shape[-1]), rng.uniform(*_ANOTHER), rng)
        else:
            code[:] = prior.mean + rng.uniform(*_EXTRAPOLATION) * (code - prior.mean)
    return broken


def draw(generator: nn.Module, codes: np.ndarray, full: bool = False, bf16: bool = True) -> np.ndarray:
    """Faces, (N, 256, 256, 3), of W+ codes: the preview, or the full image shrunk."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        w = torch.from_numpy(codes.astype(np.float32))
        if not full:
            return to_uint8(generator.preview(w))
        images = generator.synthesise(w).float()
    return to_uint8(F.avg_pool2d(images, images.shape[-1] // SIDE))


def specimens(
    generator: nn.Module,
    editor: Editor,
    bank: Bank,
    n: int,
    seed: int,
    kinds: Sequence[str] = tuple(LAYERS),
    full: bool = False,
) -> Iterator[Specimens]:
    """Draw ``n`` people and what becomes of them, four at a time."""
    rng = np.random.default_rng((seed, 1))
    bases = people(generator, editor, bank, n, seed)
    kinds = [kinds[k % len(kinds)] for k in range(n)]
    prior = editor.prior
    for start in range(0, n, 4):
        base, kind = bases[start : start + 4], kinds[start : start + 4]
        sound = base + offsets(prior, base.shape, rng.uniform(0, _SOUND, len(base)), rng)
        codes = np.stack([sound, break_codes(base, kind, prior, rng)], axis=1)
        yield Specimens(
            *(draw(generator, c, full) for c in codes.swapaxes(0, 1)), tuple(kind), codes.astype(np.float16)
        )


def gather(parts: Sequence[Specimens]) -> Specimens:
    """Join specimens."""
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("sound", "broken", "codes")}
    return Specimens(**arrays, kinds=tuple(kind for part in parts for kind in part.kinds))


def _hard_target(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A face at the work size that is out of place and strongly lit from one side."""
    scale, angle, shift = rng.uniform(0.85, 1.2), rng.uniform(-12, 12), rng.uniform(-45, 45, 2)
    matrix = cv2.getRotationMatrix2D((WORK_SIDE / 2, WORK_SIDE / 2), angle, scale)
    matrix[:, 2] += shift
    big = cv2.resize(face, (WORK_SIDE, WORK_SIDE), interpolation=cv2.INTER_CUBIC)
    moved = cv2.warpAffine(big, matrix, (WORK_SIDE, WORK_SIDE), borderMode=cv2.BORDER_REPLICATE) / 255.0
    ramp = np.linspace(-1, 1, WORK_SIDE)
    turn = rng.uniform(0, 2 * np.pi)
    light = np.exp(rng.uniform(0.5, 1.2) * (np.cos(turn) * ramp[None] + np.sin(turn) * ramp[:, None]))
    return np.clip(255 * moved ** rng.uniform(0.6, 1.6) * light[:, :, None], 0, 255).astype(np.uint8)


def driven_out(
    networks: Networks,
    codes: np.ndarray,
    faces: np.ndarray,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Results of an inversion of hard targets without the terms that keep the code in the domain.

    Parameters
    ----------
    networks : Networks
        As :func:`deidlib.inversion.invert.invert` takes them.
    codes : ndarray, (N, 512)
        Donors.
    faces : ndarray, (N, 256, 256, 3)
        The targets, before they are moved and lit.

    Returns
    -------
    images, codes, distances : ndarray, (N, 256, 256, 3), (N, n_styles, 512), (N,)
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:WORK_SIDE, :WORK_SIDE]
    found = []
    for k, (code, face) in enumerate(zip(codes, faces, strict=True)):
        radii = rng.uniform(55, 130), rng.uniform(40, 110)
        weight = (np.hypot((x - 256) / radii[0], (y - 370) / radii[1]) < 1).astype(np.float32)
        settings = {
            **{"steps": int(rng.integers(6, 13)), "learning_rate": rng.uniform(0.1, 0.3), "batch": 1, "bf16": True},
            **{"perceptual_weight": 2.0, "pixel_weight": 2.0},
            **{f"{term}_weight": 0.0 for term in _NOT_HELD},
            "compile": False,
        }
        target = Targets(
            images=_hard_target(face, rng)[None],
            weights=weight[None],
            centres=np.array([[256.0, 370.0]]),
            donors=code[None].astype(np.float32),
            grey=np.array([False]),
            fades=weight[None],
            frames=np.array([[[0.31, 0, -23.3], [0, 0.31, -22.4]]]),
            squares=np.array([[[0.5, 0, 0], [0, 0.5, 0]]]),
            inter_ocular=np.array([126.0]),
            likenesses=np.zeros(1, np.float32),
        )
        result = invert(networks, target, settings)
        image = cv2.resize(result.images[0], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        found.append((image, result.latents[0], result.distance[0]))
        if progress:
            progress(k + 1)
    return tuple(np.stack(part) for part in zip(*found, strict=True))


def weakened(generator: nn.Module, strength: float, seed: int) -> nn.Module:
    """A worse generator: every kernel of the synthesis disturbed by ``strength`` of its own size."""
    import copy

    worse, rng = copy.deepcopy(generator), torch.Generator().manual_seed(seed)
    for block in worse.blocks:
        for kernel in (*block.conv1.kernels, *block.conv2.kernels):
            kernel.data.mul_(1 + strength * torch.randn(kernel.shape, generator=rng))
    return worse
