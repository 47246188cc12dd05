"""The objective of inversion for a batch of photographs, and its gradient.

See :mod:`deidlib.inversion.invert` for the equation. :func:`prepare` computes once what all steps share: targets,
sampling grids, the patient's embedding and landmarks. A step reads nothing back from the device, and its shapes do not
depend on the photographs, so it can be compiled or captured. Imports torch, numpy and lpips only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deidlib.embedders.perceptual import STLPIPS
from deidlib.generators import Generator, LatentPrior
from deidlib.generators.window import window
from deidlib.inversion.identity import Ensemble, Look, identity_loss, prepare_looks, resample, sampling_grid
from deidlib.inversion.mesh import SIDE as MESH_SIDE
from deidlib.inversion.mesh import Mesh

WORK_SIDE = 512  # px; photographs are compared with the generated face at this size of the aligned frame
BOX_SIDE = 224  # px of the working frame; side of the square around the mouth that the loss compares
_SMALL = WORK_SIDE // 2  # px of the preview
_UPPER = slice(72, 148), slice(56, 200)  # rows and columns of the preview: brows, eyes, upper nose
_BESIDE = 40  # px of the preview; width of the strips at its left and right edge that count as beside the head
_ABOVE_SHOULDERS = 184  # rows of the preview
_COARSE = 8  # px of the preview; the background's colours are compared as means over such squares
_DETAIL = 9  # px of the preview; detail is a pixel minus the mean over this square
_LUMA = 0.299, 0.587, 0.114
_SQUARES = 4  # squares that the mesh sees in turn
_JITTER = 0.05, 8.0  # random change of these squares: share of their size; px of the mesh's frame


class Networks(NamedTuple):
    """The networks of the inversion and the statistics of W, all on one device."""

    generator: Generator
    perceptual: STLPIPS
    ensemble: Ensemble
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
        Pixels of the aligned frame at 512² to ArcFace's frame.
    squares : ndarray, (N, 2, 3)
        Pixels of the aligned frame at 512² to the mesh's frame.
    inter_ocular : ndarray, (N,)
        Distance between the eyes in pixels of the aligned frame at 512².
    likenesses : ndarray, (N,), float32
        Cosine between result and photograph, as SFace embeds them, that is aimed at.
    starts : ndarray, (N, n_styles, 512), float32, optional
        W+ codes that the photographs go on from; by default they start at their donors.
    raised : ndarray, (N, K), float32, optional
        Factors on the weights of those that go on (:data:`deidlib.inversion.going_on.WEIGHTS`).
    recognised : ndarray, (N,), bool, optional
        Those that go on because a recogniser took them for the patient.
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
    likenesses: np.ndarray
    starts: np.ndarray | None = None
    raised: np.ndarray | None = None
    recognised: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, which: Sequence[int]) -> Targets:
        """Some of the photographs."""
        own = (getattr(self, name) for name in self.__dataclass_fields__)
        return Targets(*(None if values is None else values[which] for values in own))


class Box(NamedTuple):
    """The loss's square in the photographs, pixels of the working frame."""

    corners: Tensor  # (N, 2) column and row of its first pixel
    photo: Tensor  # (N, 3, B, B)
    weight: Tensor  # (N, 1, B, B)
    features: list[Tensor]  # of the photo


class Marks(NamedTuple):
    """The mouth's landmarks in one square of the mesh."""

    square: Tensor  # (N, 256, 256, 2) sampling grid
    points: Tensor  # (N, K, 2) px of the square, in the photograph
    unit: Tensor  # (N,) inter-ocular distance in px of the square


class Problem(NamedTuple):
    """What all steps of a batch share, on the device."""

    donors: Tensor  # (N, 512)
    axes: Tensor  # (512, 512)
    grey: Tensor  # (N, 1, 1, 1) bool
    luma: Tensor  # (1, 3, 1, 1)
    box: Box
    photo: Tensor  # (N, 3, 256, 256)
    fade: Tensor  # (N, 1, 256, 256)
    detail: Tensor  # of the donors' upper faces
    beside: Tensor  # coarse colours beside the head, in the donors' pictures
    looks: dict[str, list[Look]]
    marks: list[Marks]


def prepare(networks: Networks, batch: Targets, settings: Mapping, device: torch.device) -> Problem:
    """Compute what all steps of a batch share.

    Parameters
    ----------
    networks : Networks
        On ``device``.
    batch : Targets
        N photographs.
    settings : mapping
        See :func:`deidlib.inversion.invert.invert`; with a ``mouth_landmark_weight`` of 0 the mesh is not used.
    device : torch.device
        Where to work.
    """

    def moved(array: np.ndarray, *shape: int) -> Tensor:
        tensor = torch.from_numpy(np.asarray(array, np.float32)).to(device)
        return tensor.reshape(len(batch), *shape) if shape else tensor

    grey = torch.from_numpy(np.asarray(batch.grey)).to(device).reshape(-1, 1, 1, 1)
    luma = torch.tensor(_LUMA, device=device).reshape(1, 3, 1, 1)
    photos = torch.from_numpy(batch.images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    photos = colourless(photos, grey, luma)
    weights, fades = moved(batch.weights, 1, WORK_SIDE, WORK_SIDE), moved(batch.fades, 1, WORK_SIDE, WORK_SIDE)
    frames, squares = moved(batch.frames), moved(batch.squares)
    donors, corners = moved(batch.donors), torch.from_numpy(box_corners(batch.centres)).to(device)
    with torch.no_grad():
        inside, weight = (window(x, corners, BOX_SIDE) for x in (photos, weights))
        with in_bf16(settings, device):
            box = Box(corners, inside, weight, networks.perceptual.features(inside))
            start = networks.generator.preview(donors[:, None].expand(-1, networks.generator.n_styles, -1))
        start = colourless(start.float(), grey, luma)
        photo, fade = _resized(photos, _SMALL), _resized(fades, _SMALL)
        looks = {}
        if settings["identity_weight"]:
            recognised = np.zeros(len(batch), bool) if batch.recognised is None else batch.recognised
            aims = moved(batch.likenesses), torch.from_numpy(recognised).to(device)
            looks = prepare_looks(networks.ensemble, photo, start, _in_small(frames), *aims)
        marks = []
        for square in _jittered(squares) if settings["mouth_landmark_weight"] else []:
            grid = sampling_grid(_in_small(square), _SMALL, MESH_SIDE)
            unit = moved(batch.inter_ocular) * torch.linalg.det(square[:, :, :2]).sqrt()
            marks.append(Marks(grid, networks.mesh(resample(photo, grid)), unit))
        return Problem(
            donors=donors,
            axes=torch.from_numpy(networks.prior.axes.astype(np.float32)).to(device),
            grey=grey,
            luma=luma,
            box=box,
            photo=photo,
            fade=fade,
            detail=_upper_detail(start),
            beside=_beside(start),
            looks=looks,
            marks=marks,
        )


def code(problem: Problem, offset: Tensor) -> Tensor:
    """W+ codes, (N, n_styles, 512), of offsets from the donors in whitened coordinates."""
    return problem.donors[:, None] + offset @ problem.axes.T


def objective(
    networks: Networks,
    problem: Problem,
    settings: Mapping,
    offset: Tensor,
    marks: Marks | None,
    looks: tuple[Look, ...] = (),
) -> Tensor:
    """Loss, (N,), of a batch of offsets.

    Parameters
    ----------
    networks : Networks
        The networks.
    problem : Problem
        As :func:`prepare` gives it.
    settings : mapping
        The weights, each a number or a tensor, (N,); see :func:`deidlib.inversion.invert.invert`.
    offset : Tensor, (N, n_styles, 512)
        Offsets from the donors, in standard deviations of W.
    marks : Marks or None
        The square that the mesh sees, if it is used in this step.
    looks : tuple of Look
        The crops of the identity loss in this step.
    """
    box = problem.box
    with in_bf16(settings, offset.device):
        drawn, inside = networks.generator.close_up(code(problem, offset), box.corners, BOX_SIDE)
        image, inside = (colourless(x.float(), problem.grey, problem.luma) for x in (drawn, inside))
        lpips = networks.perceptual.distance(networks.perceptual.features(inside), box.features, box.weight)
    variance = (offset - offset.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
    detail = (_upper_detail(image) - problem.detail).square().mean(dim=(1, 2, 3))
    beside = (_beside(image) - problem.beside).square().mean(dim=(1, 2, 3))
    loss = (
        settings["perceptual_weight"] * lpips.float()
        + settings["pixel_weight"] * squared_error(inside, box)
        + settings["latent_weight"] * offset.square().mean(dim=(1, 2))
        + settings["layer_variance_weight"] * variance
        + settings["upper_face_weight"] * detail
        + settings["background_weight"] * beside
    )
    composite = problem.fade * problem.photo + (1 - problem.fade) * image
    if looks:
        loss = loss + settings["identity_weight"] * identity_loss(networks.ensemble, composite, looks)
    if marks is not None:
        found = networks.mesh(resample(composite, marks.square))
        shift = ((found - marks.points).square().sum(2).mean(1) + 1e-6).sqrt() / marks.unit
        loss = loss + settings["mouth_landmark_weight"] * shift
    return loss


def squared_error(inside: Tensor, box: Box) -> Tensor:
    """Weighted mean squared difference, (N,), between a generated square and the photograph's."""
    total = ((inside - box.photo).square() * box.weight).sum(dim=(1, 2, 3))
    return total / (3 * box.weight.sum(dim=(1, 2, 3)))


def colourless(images: Tensor, grey: Tensor, luma: Tensor) -> Tensor:
    """Images, (N, 3, H, W); those marked in ``grey``, (N, 1, 1, 1), are reduced to luminance."""
    return torch.where(grey, (images * luma).sum(1, keepdim=True), images)


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has bfloat16 arithmetic; a CPU without it would emulate it, many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def in_bf16(settings: Mapping, device: torch.device) -> AbstractContextManager:
    """Context in which networks compute in bfloat16, if the settings say so."""
    return torch.autocast(device.type, torch.bfloat16) if settings["bf16"] else nullcontext()


def box_corners(centres: np.ndarray) -> np.ndarray:
    """First column and row, (N, 2), of the loss's squares in the working frame."""
    corners = np.round(np.asarray(centres)).astype(np.int64) - BOX_SIDE // 2
    return np.clip(corners, 0, WORK_SIDE - BOX_SIDE)


def _resized(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, (side, side), mode="area")


def _in_small(frames: Tensor) -> Tensor:
    """Matrices of the working frame, converted to the preview's."""
    scale = WORK_SIDE / _SMALL
    corner = frames.new_tensor([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    return frames @ corner


def _upper_detail(images: Tensor) -> Tensor:
    """Detail of previews' upper faces, independent of the light: pixels minus the local mean."""
    upper = images[:, :, _UPPER[0], _UPPER[1]]
    return upper - F.avg_pool2d(upper, _DETAIL, stride=1, padding=_DETAIL // 2, count_include_pad=False)


def _beside(images: Tensor) -> Tensor:
    """Coarse colours of previews beside the head: background, and hair that reaches there."""
    sides = torch.cat([images[:, :, :_ABOVE_SHOULDERS, :_BESIDE], images[:, :, :_ABOVE_SHOULDERS, -_BESIDE:]], dim=3)
    return F.avg_pool2d(sides, _COARSE)


def _jittered(squares: Tensor) -> list[Tensor]:
    """The mesh's squares, slightly scaled and shifted, since detectors place them no more accurately."""
    rng, jittered = np.random.default_rng(0), []
    for _ in range(_SQUARES):
        factor = 1 + _JITTER[0] * rng.uniform(-1, 1)
        shift = squares.new_tensor((1 - factor) * (MESH_SIDE - 1) / 2 + _JITTER[1] * rng.uniform(-1, 1, 2))
        jittered.append(torch.cat([factor * squares[:, :, :2], factor * squares[:, :, 2:] + shift[:, None]], dim=2))
    return jittered
