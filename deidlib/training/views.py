"""Views of the virtual people that recognisers are fitted to and measured on.

A person's pictures (:mod:`deidlib.training.identities`) go through changes of place, light, sharpness and coding, so
that what is learned holds for photographs as cameras and archives leave them.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from deidlib.embedders.framing import Framing, mouth_shown

HELD_OUT = 200  # people at the end of the file, never trained on
_TO_ARCFACE = np.array([[0.805, 0.0, -8.75], [0.0, 0.805, -7.9]])  # of the stored pictures: medians over 159 of them
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
    """A network's inputs from stored pictures, (n, 3, side, side) in [−1, 1]; ``strength`` 0: without changes."""
    x = _placed(pictures, _random_matrices(framing, len(pictures), strength, rng), framing.side)
    if strength:
        x = np.stack([_degraded(view, rng) for view in _lit(x, rng)])
    x = (np.clip(x, 0, 255) / 127.5 - 1) * mouth_shown(framing)[..., None]
    return torch.from_numpy(np.ascontiguousarray(x.astype(np.float32).transpose(0, 3, 1, 2)))


def embed(network: nn.Module, pictures: np.ndarray, framing: Framing) -> np.ndarray:
    """Embeddings, (n, 128), of stored pictures as they are."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        parts = [network(views(part, framing, rng, 0.0)) for part in np.array_split(pictures, len(pictures) // 32 + 1)]
    return torch.cat(parts).numpy()


def verification(embeddings: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """Verification accuracy of embeddings, (n, d), and statistics of their cosines between impostors.

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
    """The result of :func:`verification` for so many people, in a line."""
    impostors = ", ".join(f"{name} {result[name]:.3f}" for name in ("impostor", "alike", "deviation"))
    return f"{n} people held out: AUC {result['auc']:.4f}, TMR {result['tmr']:.3f} at FMR 0.01; {impostors}"
