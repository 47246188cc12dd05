"""Inversion: the W+ code whose image agrees with the patient in the preserved area and is the donor elsewhere.

After the semantic diffusion of In-Domain GAN Inversion (Zhu et al. 2020, arXiv 2004.00049, section 3.3) and
area-preserving inversion (arXiv 2307.02019). The code is sought as an offset from the donor's w in the whitened
coordinates of W, so that one unit is one standard deviation of what the generator draws, and

    loss = Σ_area [ a·ST-LPIPS + b·MSE ] + c·‖u‖² + d·‖u − mean over layers of u‖²
           + g·[ |cos(e, e_patient) − s| + 1 − cos(e, e_donor) ] + k·MSE of the upper face's detail
           + m·RMS shift of the mouth's landmarks,

where c and d keep the code in the domain. e is the guide's embedding of the generated face with the patient's preserved
area in it; g leads it to the likeness s that a stranger of the patient's look has (led farther, the patient would be
the least alike of all, and found by that), and to the donor: the same new person in every photograph. k keeps the
donor's brows and eyes: without it glasses or closed lids may come half-way in. m keeps the mouth where a landmark model
sees it in the photograph: the pixels are the patient's, but the face around them moves what it reads.
Most steps run on the quarter-size preview; the last few on the full image. Imports torch and numpy only.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deidlib.descent import Descent, step_sizes
from deidlib.generators import Generator, LatentPrior
from deidlib.guide import Guide, crop
from deidlib.mesh import SIDE as MESH_SIDE
from deidlib.mesh import Mesh
from deidlib.perceptual import STLPIPS

WORK_SIDE = 512  # px; photographs are compared with the generated face at this size of the aligned frame
BOX_SIDE = 224  # px of the working frame; the square around the mouth that the loss looks at
UPPER = slice(72, 148), slice(56, 200)  # rows and columns of the preview: brows, eyes, upper nose
_SQUARES, _EVERY, _LAST = 4, 2, 10  # the mesh looks at so many squares in turn: every other step, then in the last ones
_JITTER = 0.05, 8.0  # of these squares: of their size, and px of the mesh's frame
DETAIL = 9  # px of the preview; what a mean over this square leaves is detail


class Networks(NamedTuple):
    """What inversion works with, all on one device: the networks and the statistics of W."""

    generator: Generator
    perceptual: STLPIPS
    guide: Guide
    mesh: Mesh
    prior: LatentPrior


@dataclass(frozen=True)
class Targets:
    """A batch of photographs to be inverted, in the aligned frame at 512².

    Attributes
    ----------
    images : ndarray, (N, 512, 512, 3), uint8
        Photographs.
    weights : ndarray, (N, 512, 512), float32
        Where agreement counts, 0 to 1 (core and band).
    centres : ndarray, (N, 2)
        Centre (x, y) of the preserved area.
    donors : ndarray, (N, 512), float32
        w of each photograph's donor.
    grey : ndarray, (N,), bool
        Photographs without colour: compared in luminance.
    fades : ndarray, (N, 512, 512), float32
        Share of the photograph in the blended result: 1 in the core, falling to 0 over the band.
    frames : ndarray, (N, 2, 3)
        Pixels of the aligned frame at 512² to the guide's frame.
    squares : ndarray, (N, 2, 3)
        Pixels of the aligned frame at 512² to the mesh's frame.
    inter_ocular : ndarray, (N,)
        Distance between the eyes in pixels of the aligned frame at 512².
    identities : ndarray, (N, 128), float32
        The guide's embedding of each photograph's donor.
    likenesses : ndarray, (N,), float32
        Cosine between result and photograph, as the guide embeds them, that is aimed at.
    """

    images: np.ndarray
    weights: np.ndarray
    centres: np.ndarray
    donors: np.ndarray
    grey: np.ndarray
    fades: np.ndarray
    frames: np.ndarray
    squares: np.ndarray
    inter_ocular: np.ndarray
    identities: np.ndarray
    likenesses: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, which: Sequence[int]) -> Targets:
        """Some of the photographs."""
        return Targets(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Inverted:
    """What :func:`invert` returns.

    Attributes
    ----------
    latents : ndarray, (N, n_styles, 512), float32
        W+ codes.
    images : ndarray, (N, R, R, 3), uint8
        Generated faces, aligned frame.
    loss, psnr, distance : ndarray, (N,), float32
        Final objective; agreement in the preserved area before blending in dB; RMS Mahalanobis distance of the code
        to the donor's.
    """

    latents: np.ndarray
    images: np.ndarray
    loss: np.ndarray
    psnr: np.ndarray
    distance: np.ndarray

    def first(self, n: int) -> Inverted:
        """The first n photographs."""
        return Inverted(*(getattr(self, name)[:n] for name in self.__dataclass_fields__))


def box_origins(centres: np.ndarray) -> np.ndarray:
    """Top-left corners (x, y), (N, 2), of the loss boxes in the working frame, even so that 256² halves them."""
    origins = np.round(np.asarray(centres) / 2).astype(int) * 2 - BOX_SIDE // 2
    return np.clip(origins, 0, WORK_SIDE - BOX_SIDE)


def _boxes(images: Tensor, origins: np.ndarray) -> Tensor:
    scale = WORK_SIDE // images.shape[-1]  # 1 at 512², 2 at 256²
    side = BOX_SIDE // scale
    return torch.stack(
        [
            image[:, y // scale : y // scale + side, x // scale : x // scale + side]
            for image, (x, y) in zip(images, origins, strict=True)
        ]
    )


def _resized(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, (side, side), mode="area")


def _frames_at(frames: Tensor, side: int) -> Tensor:
    """Matrices of the working frame for an image of it with ``side`` pixels."""
    scale = WORK_SIDE / side
    corner = frames.new_tensor([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    return frames @ corner


def _upper_detail(images: Tensor) -> Tensor:
    """Detail of the upper face, whatever its light: at preview size, minus the local mean."""
    upper = _resized(images, WORK_SIDE // 2)[:, :, UPPER[0], UPPER[1]]
    return upper - F.avg_pool2d(upper, DETAIL, stride=1, padding=DETAIL // 2, count_include_pad=False)


def _jittered(squares: Tensor) -> list[Tensor]:
    """The mesh's squares, a little larger or smaller and elsewhere: detectors place them no better."""
    rng, jittered = np.random.default_rng(0), []
    for _ in range(_SQUARES):
        factor = 1 + _JITTER[0] * rng.uniform(-1, 1)
        shift = squares.new_tensor((1 - factor) * (MESH_SIDE - 1) / 2 + _JITTER[1] * rng.uniform(-1, 1, 2))
        jittered.append(torch.cat([factor * squares[:, :, :2], factor * squares[:, :, 2:] + shift[:, None]], dim=2))
    return jittered


def _luminance_where(images: Tensor, grey: Tensor) -> Tensor:
    luma = (images * images.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
    return torch.where(grey[:, None, None, None], luma.expand_as(images), images)


def _marks(mesh: Mesh, images: Tensor, squares: Tensor) -> Tensor:
    """The mesh's landmarks, (N, K, 2) in pixels of the squares, of images at preview size."""
    return mesh(crop(images, _frames_at(squares, images.shape[-1]), MESH_SIDE))


def _render(generator: Generator, w: Tensor, full: bool) -> Tensor:
    if full:
        image = generator.synthesise(w)
        return F.avg_pool2d(image, image.shape[-1] // WORK_SIDE)
    return generator.preview(w)


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has bfloat16 arithmetic; a CPU without it would emulate it, many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _invert_batch(networks: Networks, batch: Targets, settings: dict, device: torch.device) -> Inverted:
    generator, perceptual, guide, mesh, prior = networks
    donors = torch.from_numpy(np.asarray(batch.donors, np.float32)).to(device)
    axes = torch.from_numpy(prior.axes.astype(np.float32)).to(device)
    grey = torch.from_numpy(np.asarray(batch.grey)).to(device)
    photos = torch.from_numpy(batch.images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    weights = torch.from_numpy(np.asarray(batch.weights, np.float32)).to(device)[:, None]
    origins = box_origins(batch.centres)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=settings["bf16"] and computes_bf16(device))

    photos = _luminance_where(photos, grey)
    looks = {}
    for full in (False, True):
        size = WORK_SIDE if full else WORK_SIDE // 2
        target = _boxes(_resized(photos, size), origins)
        weight = _boxes(_resized(weights, size), origins)
        with torch.no_grad(), autocast:
            looks[full] = (target, weight, perceptual.features(target))

    fades = torch.from_numpy(np.asarray(batch.fades, np.float32)).to(device)[:, None]
    frames = torch.from_numpy(np.asarray(batch.frames, np.float32)).to(device)
    squares = torch.from_numpy(np.asarray(batch.squares, np.float32)).to(device)
    inter_ocular = torch.from_numpy(np.asarray(batch.inter_ocular, np.float32)).to(device)
    donor_identity = torch.from_numpy(np.asarray(batch.identities, np.float32)).to(device)
    likeness = torch.from_numpy(np.asarray(batch.likenesses, np.float32)).to(device)
    with torch.no_grad():
        patient = guide(crop(photos, frames))
    with torch.no_grad(), autocast:
        start = generator.preview(donors[:, None].expand(-1, generator.n_styles, -1))
        donor_detail = _upper_detail(_luminance_where(start.float(), grey))
    composites = {
        full: (_resized(photos, size), _resized(fades, size), _frames_at(frames, size))
        for full, size in ((False, WORK_SIDE // 2), (True, WORK_SIDE))
    }

    offset = torch.zeros(len(batch), generator.n_styles, generator.w_dim, device=device, requires_grad=True)
    descent = Descent(offset)
    schedule = [(False, rate) for rate in step_sizes(settings["steps"], settings["learning_rate"])]
    schedule += [(True, settings["learning_rate"] * settings["refine_rate"])] * settings["refine_steps"]
    squares = _jittered(squares) if settings["mouth"] else []
    with torch.no_grad():
        marks = [_marks(mesh, composites[False][0], square) for square in squares]
    looked = 0
    for step, (full, rate) in enumerate(schedule):
        target, weight, target_features = looks[full]
        with autocast:
            w = donors[:, None] + offset @ axes.T
            image = _luminance_where(_render(generator, w, full), grey)
            box = _boxes(image, origins)
            lpips = perceptual.distance(perceptual.features(box), target_features, weight)
        squared = ((box.float() - target).square() * weight).sum(dim=(1, 2, 3)) / (3 * weight.sum(dim=(1, 2, 3)))
        spread = (offset - offset.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
        detail = (_upper_detail(image.float()) - donor_detail).square().mean(dim=(1, 2, 3))
        photo, fade, frame = composites[full]
        composite = fade * photo + (1 - fade) * image.float()
        identity, shift = 0.0, 0.0
        if settings["guide"]:
            embedding = guide(crop(composite, frame))
            identity = ((embedding * patient).sum(1) - likeness).abs() + 1 - (embedding * donor_identity).sum(1)
        if squares and (step % _EVERY == 0 or step >= len(schedule) - _LAST):
            turn = looked % _SQUARES
            looked += 1
            found = _marks(mesh, _resized(composite, WORK_SIDE // 2), squares[turn])
            unit = inter_ocular * torch.linalg.det(squares[turn][:, :, :2]).sqrt()
            shift = ((found - marks[turn]).square().sum(2).mean(1) + 1e-6).sqrt() / unit
        loss = (
            settings["perceptual"] * lpips.float()
            + settings["pixel"] * squared
            + settings["stay"] * offset.square().mean(dim=(1, 2))
            + settings["spread"] * spread
            + settings["guide"] * identity
            + settings["keep"] * detail
            + settings["mouth"] * shift
        )
        (slope,) = torch.autograd.grad(loss.sum(), offset)
        descent.step(slope, rate)

    with torch.no_grad():
        w = donors[:, None] + offset @ axes.T
        with autocast:
            image = generator.synthesise(w).float()
        image = _luminance_where(image, grey).clamp(-1, 1)
        target, weight, _ = looks[True]
        box = _boxes(F.avg_pool2d(image, image.shape[-1] // WORK_SIDE), origins)
        squared = ((box - target).square() * weight).sum(dim=(1, 2, 3)) / (3 * weight.sum(dim=(1, 2, 3)))
        pixels = ((image + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    return Inverted(
        latents=w.float().cpu().numpy(),
        images=pixels.cpu().numpy(),
        loss=loss.detach().cpu().numpy(),
        psnr=(10 * torch.log10(4 / squared)).cpu().numpy(),
        distance=offset.detach().square().mean(dim=(1, 2)).sqrt().cpu().numpy(),
    )


def invert(networks: Networks, targets: Targets, settings: dict) -> Inverted:
    """Invert photographs towards their donors.

    A photograph's result does not depend on its company or place: every batch has the same size, the last one filled
    up with its last photograph. It does depend on that size: sums are rounded in another order, and
    networks with kinks make much of little, so that results differ by some grey levels, at the same quality.

    Parameters
    ----------
    networks : Networks
        The networks, on the device to use.
    targets : Targets
        The photographs.
    settings : dict
        ``steps`` on the preview and ``refine_steps`` at full size; ``learning_rate`` in standard deviations of W a
        step and ``refine_rate``, its factor in the full-size steps; the weights ``perceptual``, ``pixel``, ``stay``,
        ``spread``, ``guide`` (0: not guided), ``keep`` and ``mouth`` (0: wherever it is read); ``batch`` (photographs
        at once; halved when memory runs out); ``bf16``, used where the device computes in it.

    Returns
    -------
    Inverted
        In the order of ``targets``.
    """
    device = next(iter(networks.generator.parameters())).device
    done: list[Inverted] = []
    start, size = 0, max(1, settings["batch"])
    while start < len(targets):
        numbers = np.arange(start, start + size)
        try:
            found = _invert_batch(networks, targets.take(np.minimum(numbers, len(targets) - 1)), settings, device)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            torch.cuda.empty_cache()
            warnings.warn(f"out of memory: going on with {size} at a time; set inversion.batch to that", stacklevel=2)
            continue
        done.append(found.first(len(targets) - start))
        start += size
    return Inverted(*(np.concatenate([getattr(d, name) for d in done]) for name in Inverted.__dataclass_fields__))
