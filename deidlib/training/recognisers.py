"""Train the small recognisers on virtual people, by margin softmax, and say what they do on people not trained on.

A person's views (:mod:`deidlib.training.identities`) go through changes of place, light, sharpness and coding, so that
what is learned holds for photographs as cameras and archives leave them. Rebuild a network with
``python -m deidlib.training.recognisers NAME PEOPLE.npy OUT.npz``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.embedders.framing import Framing, mouth_shown
from deidlib.embedders.lead import LEADS
from deidlib.embedders.trained import ARCHITECTURES, DIMENSIONS, save

HELD_OUT = 200  # people at the end of the file, never trained on
_TO_ARCFACE = np.array([[0.805, 0.0, -8.75], [0.0, 0.805, -7.9]])  # of the stored pictures: medians over 159 of them
_SCALE, _MARGIN = 24.0, 0.25  # of the margin softmax (CosFace, Wang et al. 2018, arXiv 1801.09414)
_LUMA = 0.299, 0.587, 0.114


def _random_matrices(framing: Framing, n: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Stored pictures' pixels to those of a network's frame, (n, 2, 3), displaced as alignments are, or mirrored."""
    base = framing.matrix @ np.vstack([_TO_ARCFACE, [0, 0, 1]])
    turn, scale = np.radians(5 * strength * rng.normal(size=n)), np.exp(0.06 * strength * rng.normal(size=n))
    flip = np.where(rng.random(n) < 0.5, -1.0, 1.0) if strength else np.ones(n)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    middle = (framing.side - 1) / 2
    shift = middle + framing.side * 0.02 * strength * rng.normal(size=(n, 2))
    local = np.stack([np.stack([flip * c, -s], 1), np.stack([flip * s, c], 1)], 1)
    centred = base - np.array([[0, 0, middle], [0, 0, middle]])
    moved = local @ centred
    moved[:, :, 2] += shift
    return moved


def _placed(pictures: np.ndarray, matrices: np.ndarray, side: int) -> np.ndarray:
    """Pictures in a network's frame, (n, side, side, 3) float32 in 0–255."""
    return np.stack(
        [
            cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            for picture, matrix in zip(pictures, matrices, strict=True)
        ]
    ).astype(np.float32)


def _lit(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, side = x.shape[:2]
    gain = np.exp(0.15 * rng.normal(size=(n, 1, 1, 1)) + 0.07 * rng.normal(size=(n, 1, 1, 3)))
    x = 255 * (x / 255) ** np.exp(0.3 * rng.normal(size=(n, 1, 1, 1))).astype(np.float32) * gain.astype(np.float32)
    grey = rng.random(n) < 0.15
    x[grey] = (x[grey] @ np.array(_LUMA, np.float32))[..., None]
    turn, strength = rng.uniform(0, 2 * np.pi, n), np.where(rng.random(n) < 0.4, 0.35 * rng.normal(size=n), 0)
    ramp = np.linspace(-1, 1, side)
    light = strength[:, None, None] * (
        np.cos(turn)[:, None, None] * ramp[None, None] + np.sin(turn)[:, None, None] * ramp[None, :, None]
    )
    return x * np.exp(light).astype(np.float32)[..., None]


def _degraded(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = len(view)
    if rng.random() < 0.35:
        small = round(side * rng.uniform(0.35, 0.9))
        view = cv2.resize(cv2.resize(view, (small, small), interpolation=cv2.INTER_AREA), (side, side))
    if rng.random() < 0.25:
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.25:
        view = view + rng.uniform(1, 10) * rng.standard_normal(view.shape, np.float32)
    view = np.clip(view, 0, 255)
    if rng.random() < 0.25:
        _, coded = cv2.imencode(".jpg", view.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])
        view = cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(np.float32)
    if rng.random() < 0.3:  # a hand, hair, the edge of a mask
        (x, y), (w, h) = rng.integers(0, side, 2), rng.integers(side // 10, side // 3, 2)
        view = view.copy()
        view[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    return view


def views(pictures: np.ndarray, framing: Framing, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """What a network sees of stored pictures, (n, 3, side, side) in [−1, 1]; ``strength`` 0: as they are."""
    x = _placed(pictures, _random_matrices(framing, len(pictures), strength, rng), framing.side)
    if strength:
        x = np.stack([_degraded(view, rng) for view in _lit(x, rng)])
    x = (np.clip(x, 0, 255) / 127.5 - 1) * mouth_shown(framing)[..., None]
    return torch.from_numpy(np.ascontiguousarray(x.astype(np.float32).transpose(0, 3, 1, 2)))


def margin_softmax(embeddings: Tensor, centres: Tensor, labels: Tensor, margin: float) -> Tensor:
    """CosFace's loss of unit embeddings, (n, d), against the people's centres, (P, d)."""
    cosines = embeddings @ F.normalize(centres, dim=1).T
    cosines = cosines - margin * F.one_hot(labels, len(centres))
    return F.cross_entropy(_SCALE * cosines, labels)


def train(
    name: str, people: np.ndarray, count: int, seed: int = 0, batch: int = 64, log: Callable[[str], None] = print
) -> nn.Module:
    """Train a network of :data:`deidlib.embedders.trained.ARCHITECTURES` on so many views.

    Parameters
    ----------
    name : str
        Which of them.
    people : ndarray, (P, V, 160, 160, 3), uint8
        As :mod:`deidlib.training.identities` draws them.
    count : int
        How many views to train on.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = ARCHITECTURES[name]().to(memory_format=torch.channels_last)
    framing = LEADS[name].framing
    centres = nn.Parameter(torch.randn(len(people), DIMENSIONS))
    matrices = [p for p in (*network.parameters(), centres) if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.99)
    )
    begun, losses, steps = time.monotonic(), [], count // batch
    order = rng.permutation(people.shape[0] * people.shape[1])
    for step in range(steps):
        done = step / steps
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * done)) + 0.003)
        at = np.arange(step * batch, (step + 1) * batch) % len(order)
        if at[0] > at[-1]:
            order = rng.permutation(order)
        labels, which = np.divmod(order[at], people.shape[1])
        faces = views(people[labels, which], framing, rng).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = network(faces)
        targets = torch.from_numpy(labels)
        loss = margin_softmax(embeddings, centres, targets, _MARGIN * min(1.0, 1.3 * done))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            elapsed = (time.monotonic() - begun) / 60
            log(f"{elapsed:5.1f} min  {batch * (step + 1)} views  loss {np.mean(losses[-100:]):.3f}")
    return network.eval()


def embed(network: nn.Module, pictures: np.ndarray, framing: Framing) -> np.ndarray:
    """Embeddings, (n, 128), of stored pictures as they are."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        parts = [network(views(part, framing, rng, 0.0)) for part in np.array_split(pictures, len(pictures) // 32 + 1)]
    return torch.cat(parts).numpy()


def verification(embeddings: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """How well embeddings, (n, d), tell whether two pictures show one person, and what they make of impostors.

    Returns
    -------
    dict
        ``auc``; ``tmr`` at an FMR of 1 %; ``impostor``, ``alike`` and ``deviation`` as ``Lead`` has them.
    """
    cosines = embeddings @ embeddings.T
    first, second = np.triu_indices(len(people), 1)
    scores, same = cosines[first, second], people[first] == people[second]
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    auc = np.searchsorted(impostor, genuine).mean() / len(impostor)
    return {
        "auc": float(auc),
        "tmr": float(np.mean(genuine > np.quantile(impostor, 0.99))),
        "impostor": float(impostor.mean()),
        "alike": float(np.quantile(impostor, 0.95)),
        "deviation": float(impostor.std()),
    }


def wording(result: dict[str, float], n: int) -> str:
    """What :func:`verification` found of so many people, in a line."""
    impostors = ", ".join(f"{name} {result[name]:.3f}" for name in ("impostor", "alike", "deviation"))
    return f"{n} people held out: AUC {result['auc']:.4f}, TMR {result['tmr']:.3f} at FMR 0.01; {impostors}"


def main() -> None:
    """Train a network, write it, and print what it does on the people held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(ARCHITECTURES))
    parser.add_argument("people", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--views", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    people = np.load(arguments.people, mmap_mode="r")
    network = train(arguments.name, people[:-HELD_OUT], arguments.views, log=lambda line: print(line, flush=True))
    save(network, arguments.out)
    held = people[-HELD_OUT:]
    found = embed(network, held.reshape(-1, *held.shape[2:]), LEADS[arguments.name].framing)
    result = verification(found, np.repeat(np.arange(len(held)), held.shape[1]))
    print(wording(result, len(held)))


if __name__ == "__main__":
    main()
