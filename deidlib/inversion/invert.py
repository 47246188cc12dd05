"""Inversion: finds a W+ code whose image agrees with the patient in the preserved area and with the donor elsewhere.

The method follows the semantic diffusion of In-Domain GAN Inversion (Zhu et al. 2020, arXiv 2004.00049, section 3.3)
and area-preserving inversion (arXiv 2307.02019). The unknown u is the code's offset from the donor's w in the whitened
coordinates of W, so that one unit is one standard deviation of the generator's codes. The loss is

    loss = Σ_area [ a·ST-LPIPS + b·MSE ] + c·‖u‖² + d·‖u − mean over layers of u‖²
           + g·[ max(4(cos(e, e_patient) − s), s − cos(e, e_patient)) + 1 − cos(e, e_donor) ]
           + k·MSE of the upper face's detail + l·MSE of coarse colours beside the head
           + m·RMS shift of the mouth's landmarks,

where c and d keep the code in the domain. e is the embedding of the generated face with the patient's preserved area in
it, by one of several recognisers that take turns (:mod:`deidlib.inversion.identity`). g is the weight of the identity
loss. It leads the face to the likeness s of an impostor who resembles the patient; if the face were less similar, the
patient could be found as the least similar person. It also leads to the donor, so that every photograph shows the same
new person. k keeps the donor's brows and eyes; without it, glasses or closed lids may appear half-drawn. l keeps the
donor's background; without it, rounding alone would decide the background. m keeps the mouth where a landmark model
finds it in the photograph: the mouth's pixels are the patient's, but the face around them shifts the landmarks.

A step draws the whole face as a preview, at a quarter of its size, and the square around the area at half its size. The
objective is in :mod:`deidlib.inversion.objective`. Imports torch, numpy and lpips only.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deidlib.generators.window import window
from deidlib.inversion.going_on import settings_going_on
from deidlib.inversion.identity import looks_of_step
from deidlib.inversion.objective import (
    BOX_SIDE,
    WORK_SIDE,
    Networks,
    Problem,
    Targets,
    code,
    colourless,
    computes_bf16,
    in_bf16,
    objective,
    prepare,
    squared_error,
)
from deidlib.inversion.optimiser import Adam, step_sizes

_EVERY, _LAST = 2, 10  # the mesh is used in every second step, and in each of the last ten


@dataclass(frozen=True)
class Inverted:
    """The result of :func:`invert`.

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


class BatchSize:
    """The number of photographs that are inverted at once. It is halved when memory runs out, and stays so.

    Parameters
    ----------
    batch : int
        The number to begin with.
    """

    def __init__(self, batch: int):
        self.size = max(1, batch)

    def halve(self) -> None:
        """Halve the number, and warn with the setting that starts with this number."""
        self.size //= 2
        warnings.warn(f"out of memory: going on with {self.size} at a time; set inversion.batch to that", stacklevel=3)


def _descend(
    networks: Networks, problem: Problem, settings: dict, start: Tensor, step_loss: Callable
) -> tuple[Tensor, Tensor]:
    """Offsets, (N, n_styles, 512), after all steps from ``start``, and the last step's loss, (N,)."""
    offset = start.requires_grad_()
    optimiser = Adam(offset)
    looked = 0
    for step, rate in enumerate(step_sizes(settings["steps"], settings["learning_rate"])):
        marks = None
        if problem.marks and (step % _EVERY == 0 or step >= settings["steps"] - _LAST):
            marks = problem.marks[looked % len(problem.marks)]
            looked += 1
        loss = step_loss(networks, problem, settings, offset, marks, looks_of_step(problem.looks, step))
        (gradient,) = torch.autograd.grad(loss.sum(), offset)
        optimiser.step(gradient, rate)
    return offset.detach(), loss.detach()


def _start(networks: Networks, problem: Problem, batch: Targets, settings: dict) -> tuple[dict, Tensor]:
    """Settings of the steps, and the offsets, (N, n_styles, 512), that they start from."""
    device = problem.donors.device
    if batch.starts is None:
        shape = len(batch), networks.generator.n_styles, networks.generator.w_dim
        return settings, torch.zeros(shape, device=device)
    starts, raised, whiten = (
        torch.from_numpy(np.asarray(array, np.float32)).to(device)
        for array in (batch.starts, batch.raised, networks.prior.whiten)
    )
    return settings_going_on(settings, raised), (starts - problem.donors[:, None]) @ whiten.T


def _invert_batch(networks: Networks, batch: Targets, settings: dict, device: torch.device) -> Inverted:
    settings = settings | {"bf16": settings["bf16"] and computes_bf16(device)}
    problem = prepare(networks, batch, settings, device)
    step_loss = compiled_objective(device.type) if settings["compile"] else objective
    offset, loss = _descend(networks, problem, *_start(networks, problem, batch, settings), step_loss)
    with torch.no_grad():
        w = code(problem, offset)
        with in_bf16(settings, device):
            image = networks.generator.synthesise(w).float()
        image = colourless(image, problem.grey, problem.luma).clamp(-1, 1)
        shrunk = F.avg_pool2d(image, image.shape[-1] // WORK_SIDE)
        inside = window(shrunk, problem.box.corners, BOX_SIDE)
        pixels = ((image + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        psnr = 10 * torch.log10(4 / squared_error(inside, problem.box))
        distance = offset.square().mean(dim=(1, 2)).sqrt()
    return Inverted(*_fetch([w, pixels, loss, psnr, distance]))


def _fetch(tensors: list[Tensor]) -> list[np.ndarray]:
    """Arrays of a device's tensors. They are copied without waiting, into pinned memory."""
    fetched = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    if tensors[0].device.type == "cuda":
        torch.cuda.synchronize()
    return [tensor.numpy() for tensor in fetched]


@functools.cache
def compiled_objective(device: str) -> Callable:
    """The objective, compiled once a process for a type of device; on ``cuda``, kernels are captured in CUDA graphs."""
    mode = "reduce-overhead" if device == "cuda" else "default"
    return torch.compile(objective, fullgraph=True, dynamic=False, mode=mode)


def invert(networks: Networks, targets: Targets, settings: dict, batch_size: BatchSize | None = None) -> Inverted:
    """Invert photographs towards their donors, from the donors' codes or (``targets.starts``) from codes found before.

    Photographs that go on take fewer steps, with other weights (:mod:`deidlib.inversion.going_on`).
    A photograph's result does not depend on the other photographs of its batch: every batch has the same size, and the
    last one is filled up with its last photograph. The result depends on that size, which changes the order of sums and
    so their rounding. Piecewise linear networks amplify the rounding to some grey levels, at the same quality.

    Parameters
    ----------
    networks : Networks
        The networks, on the device to use.
    targets : Targets
        The photographs.
    settings : dict
        Options of the stage ``inversion``: ``steps``; ``learning_rate`` in standard deviations of W a step; the
        weights, ``perceptual_weight`` and so on (workflow/schemas/preset.schema.yaml); ``batch`` (photographs at once);
        ``bf16``, used where the device computes in it; ``compile``, whether the objective is.
    batch_size : BatchSize, optional
        The number at once, kept from call to call; by default ``batch``, and fewer if memory runs out.

    Returns
    -------
    Inverted
        In the order of ``targets``.
    """
    device = next(iter(networks.generator.parameters())).device
    batch_size = batch_size or BatchSize(settings["batch"])
    done: list[Inverted] = []
    start = 0
    while start < len(targets):
        numbers = np.minimum(np.arange(start, start + batch_size.size), len(targets) - 1)
        found = _unless_out_of_memory(networks, targets.take(numbers), settings, device)
        if found is None:
            batch_size.halve()
            continue
        done.append(found.first(len(targets) - start))
        start += batch_size.size
    return Inverted(*(np.concatenate([getattr(d, name) for d in done]) for name in Inverted.__dataclass_fields__))


def _unless_out_of_memory(networks: Networks, batch: Targets, settings: dict, device: torch.device) -> Inverted | None:
    """The inverted batch; None if memory ran out and the batch can be made smaller."""
    try:
        return _invert_batch(networks, batch, settings, device)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # After the handler, because its traceback would keep the batch's tensors alive.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None
