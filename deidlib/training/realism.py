"""Train the realism check's network on specimens, and calibrate it on others.

Both classes get the same changes of place, light, sharpness and coding, so that none of these distinguishes them.
Rebuild the network with ``python -m deidlib.training.realism OUT.npz``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from deidlib.checks.realism import SIDE, Realism, RealismNetwork, read_network, seen, view_matrix
from deidlib.training.specimens import (
    LAYERS,
    LEAST_DRIVEN,
    UNSEEN,
    Specimens,
    draw,
    driven_out,
    gather,
    people,
    specimens,
)
from deidlib.vision.alignment import resample

_FACELESS = 0.08  # share of the broken ones that show no face at all
_IN_PART = 0.35  # share of the faces of which only a part is broken (or put in again)
_EYES, _MOUTH = np.array([[0.377, 0.47], [0.623, 0.47]]), np.array([0.5, 0.72])  # in parts of the aligned frame
_PLACES = (*_EYES, _EYES.mean(axis=0), np.array([0.5, 0.57]), _EYES.mean(axis=0) - [0, 0.06])


def _jittered(rng: np.random.Generator, side: int, strength: float, mirror: bool) -> np.ndarray:
    """The view's matrix, displaced as an alignment by landmarks is."""
    turn, scale = np.radians(5 * strength * rng.normal()), np.exp(0.05 * strength * rng.normal())
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    middle = SIDE / 2 - 0.5
    shift = middle + SIDE * 0.025 * strength * rng.normal(size=2)
    flip = -1 if mirror else 1
    local = np.array([[flip * c, -s, shift[0]], [flip * s, c, shift[1]], [0, 0, 1]])
    return view_matrix(side) @ local @ np.array([[1, 0, -middle], [0, 1, -middle], [0, 0, 1]])


@lru_cache
def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:side, :side].astype(np.float32)
    return (y + 0.5) / side, (x + 0.5) / side


def _ellipse(side: int, centre: np.ndarray, radii: Sequence[float], soft: float) -> np.ndarray:
    y, x = _grid(side)
    across, along = (
        (x - np.float32(centre[0])) / np.float32(radii[0]),
        (y - np.float32(centre[1])) / np.float32(radii[1]),
    )
    return np.clip((1 + soft - np.sqrt(across**2 + along**2)) / (2 * soft), 0, 1)


def random_area(rng: np.random.Generator, side: int) -> np.ndarray:
    """Preserved area with its band, about as ``mouth`` and ``lower_face`` lay it out, (side, side) bool."""
    if rng.random() < 0.25:
        edge, wide = rng.uniform(0.6, 0.68), rng.uniform(0.28, 0.36)
        y, x = _grid(side)
        return (y > edge) & (y < edge + rng.uniform(0.25, 0.34)) & (abs(x - 0.5) < wide - 0.4 * (y - edge))
    centre = _MOUTH + rng.normal(size=2) * [0.01, 0.015]
    return _ellipse(side, centre, (rng.uniform(0.12, 0.22), rng.uniform(0.08, 0.15)), 0.01) > 0.5


def _lit(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain = np.exp(0.12 * rng.normal() + 0.05 * rng.normal(size=3))
    curve = (np.arange(256) / 255) ** np.exp(0.25 * rng.normal())
    x = (curve[:, None] * gain).astype(np.float32)[view, np.arange(3)]
    if rng.random() < 0.3:
        side = len(view)
        ramp, turn = np.linspace(-1, 1, side), rng.uniform(0, 2 * np.pi)
        side_light = np.cos(turn) * ramp[None] + np.sin(turn) * ramp[:, None]
        x = x * np.exp(0.35 * rng.normal() * side_light).astype(np.float32)[:, :, None]
    if rng.random() < 0.15:
        x = np.repeat((x @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None], 3, axis=2)
    return np.clip(x * 255, 0, 255)


def _degraded(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = len(view)
    if rng.random() < 0.4:
        small = round(side * rng.uniform(0.45, 0.95))
        view = cv2.resize(view, (small, small), interpolation=cv2.INTER_AREA)
        view = cv2.resize(view, (side, side), interpolation=cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC)
    if rng.random() < 0.25:
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.3, 1.1))
    if rng.random() < 0.2:
        view = view + rng.uniform(0.2, 0.8) * (view - cv2.GaussianBlur(view, (0, 0), 1.0))  # sharpened
    if rng.random() < 0.35:
        view = view + rng.uniform(1, 9) * rng.standard_normal(view.shape, np.float32)
    view = np.clip(view, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        _, coded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 96))])
        view = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return view


def random_view(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A view of a specimen as the check might meet it, (128, 128, 3) float32."""
    matrix, area = _jittered(rng, len(face), 1.0, rng.random() < 0.5), random_area(rng, len(face))
    view = _degraded(_lit(resample(face, matrix, SIDE), rng), rng)
    return seen(view, resample(area.astype(np.uint8), matrix, SIDE, cv2.BORDER_CONSTANT), np.eye(2, 3))


def plain_view(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A view of a specimen as it is, but for its place and preserved area, (128, 128, 3) float32."""
    return seen(face, random_area(rng, len(face)), _jittered(rng, len(face), 0.5, False))


def _in_part(face: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``face`` with a part of the upper face (an eye, both, brows, nose) of ``other``."""
    centre = _PLACES[rng.integers(len(_PLACES))] + 0.01 * rng.normal(size=2)
    mask = _ellipse(len(face), centre, rng.uniform(0.08, 0.17, 2), rng.uniform(0.2, 0.5))[:, :, None]
    return np.rint(face * (1 - mask) + other * mask).astype(np.uint8)


def faceless(rng: np.random.Generator, side: int) -> np.ndarray:
    """An image like that of an untrained network: fields of colour, smooth to fine, (side, side, 3) uint8."""
    field = np.zeros((side, side, 3), np.float32)
    for _ in range(rng.integers(1, 4)):
        cells = int(np.exp(rng.uniform(np.log(2), np.log(side))))
        waves = rng.standard_normal((cells, cells, 3), np.float32)
        if rng.random() < 0.5:
            waves = waves.mean(axis=2, keepdims=True) + 0.3 * waves
        field += rng.uniform(5, 60) * cv2.resize(waves, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(field + rng.uniform(40, 215, 3), 0, 255).astype(np.uint8)


def _moved(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = len(face)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), 1.5 * rng.normal(), np.exp(0.01 * rng.normal()))
    matrix[:, 2] += 0.006 * side * rng.normal(size=2)
    return np.clip(resample(face, matrix, side) * np.exp(0.06 * rng.normal(size=3)).astype(np.float32), 0, 255)


def pick(data: Specimens, k: int, broken: bool, rng: np.random.Generator) -> np.ndarray:
    """A face of person ``k``; now and then a part alone is broken (or put in again, a little moved and lit)."""
    sound, whole = data.sound[k], rng.random() > _IN_PART
    if broken:
        return data.broken[k] if whole else _in_part(sound, data.broken[k], rng)
    return sound if whole else _in_part(sound, _moved(sound, rng), rng)


def train(
    data: Specimens,
    driven: np.ndarray,
    minutes: float,
    start: Path | None = None,
    seed: int = 0,
    batch: int = 48,
    log: Callable[[str], None] = print,
) -> RealismNetwork:
    """Train the network for a stated time.

    Parameters
    ----------
    data : Specimens
        People, sound and broken.
    driven : ndarray, (M, 256, 256, 3), uint8
        Faces that optimisation drove out of the domain (:func:`deidlib.training.specimens.driven_out`); a fifth of the
        broken ones are drawn of them.
    minutes : float
        By the clock.
    start : Path, optional
        A network to go on with, in smaller steps; else a new one.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network, rate = RealismNetwork(), 2e-3
    if start:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in read_network(start).items()})
        rate = 5e-4
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    labels = np.arange(batch) % 2

    def face(sound: int) -> np.ndarray:
        if not sound and len(driven) and rng.random() < 0.2:
            return driven[rng.integers(len(driven))]
        if not sound and rng.random() < _FACELESS:
            return faceless(rng, data.sound.shape[1])
        return pick(data, int(rng.integers(len(data.kinds))), not sound, rng)

    begun, step, losses = time.monotonic(), 0, []
    while (elapsed := (time.monotonic() - begun) / 60) < minutes:
        for group in optimiser.param_groups:
            fall = 0.5 * (1 + math.cos(math.pi * elapsed / minutes)) + 0.005
            group["lr"] = rate * min(1.0, (step + 1) / 30) * fall
        views = np.stack([random_view(face(label), rng) for label in labels])
        faces = torch.from_numpy(views).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(faces)
        wanted = torch.from_numpy(0.03 + 0.94 * labels).float()  # some of the broken ones are not, by eye
        loss = F.binary_cross_entropy_with_logits(scores.float(), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        step += 1
        if step % 50 == 0:
            log(f"{elapsed:5.1f} min  {batch * step} views  loss {np.mean(losses[-50:]):.3f}")
    return network.eval()


def scores_of(realism: Realism, faces: np.ndarray, view: Callable = plain_view, seed: int = 5) -> np.ndarray:
    """Scores, (N,), of faces, (N, side, side, 3) uint8, each in one view."""
    rng = np.random.default_rng(seed)
    return np.concatenate([realism.score_views(view(face, rng)[None]) for face in faces])


def main() -> None:
    """Draw the specimens, train the network, write it, and print its accuracy on unseen people."""
    from deidlib.donors.model import donor_model
    from deidlib.inversion.networks import inversion_networks

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=1200)
    parser.add_argument("--driven", type=int, default=60, help="faces that optimisation drives out of the domain")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--start", type=Path, help="a network to go on with, in smaller steps")
    arguments = parser.parse_args()
    _, editor, bank = donor_model("mobilestylegan")
    networks = inversion_networks("mobilestylegan", torch.device("cpu"))
    generator = networks.generator

    def driven(n: int, seed: int) -> np.ndarray:
        donors, targets = (people(generator, editor, bank, n, s) for s in (seed, seed + 1))
        faces = np.concatenate([draw(generator, code[None]) for code in targets])
        images, _, distances = driven_out(networks, donors[:, 0], faces, seed)
        return images[distances > LEAST_DRIVEN]

    data = gather(list(specimens(generator, editor, bank, arguments.people, seed=1)))
    network = train(data, driven(arguments.driven, seed=11), arguments.minutes, arguments.start)
    np.savez(
        arguments.out, **{n: v.half().numpy() if v.is_floating_point() else v for n, v in network.state_dict().items()}
    )

    realism = Realism(read_network(arguments.out))
    test = gather(list(specimens(generator, editor, bank, 300, seed=2, kinds=(*LAYERS, *UNSEEN))))
    sound = scores_of(realism, test.sound)
    print(
        "sound:", dict(zip(("lowest", "1 %", "5 %", "median"), np.quantile(sound, (0, 0.01, 0.05, 0.5)), strict=True))
    )
    bound = np.quantile(sound, 0.01)
    for kind in (*LAYERS, *UNSEEN):
        caught = scores_of(realism, test.broken[np.array(test.kinds) == kind]) < bound
        print(f"{kind}: {caught.sum()} of {len(caught)} below the 1 % quantile")


if __name__ == "__main__":
    main()
