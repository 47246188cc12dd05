"""The frame of each recogniser: similarities from ArcFace's frame of 112² to its own, and the parts that are hidden."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ARCFACE_SIDE = 112  # px; the frame of Deng et al. 2019: deidlib.inversion.identity.TEMPLATE places the five points
_MOUTH, _RADII, _SOFT = np.array([56.0, 92.0]), np.array([29.0, 22.0]), 0.15  # of the hidden ellipse, in that frame


class Framing(NamedTuple):
    """The view of a face that a recogniser gets."""

    side: int  # px of its frame
    matrix: np.ndarray  # (2, 3) pixels of ArcFace's frame to pixels of its own
    mouth: bool  # whether it sees the mouth


def zoomed(side: int, seen: float, middle: tuple[float, float]) -> np.ndarray:
    """Similarity to a frame of ``side`` pixels that shows ``seen`` pixels of ArcFace's frame around ``middle``."""
    scale = side / seen
    return np.column_stack([scale * np.eye(2), (side - 1) / 2 - scale * np.array(middle)])


def mouth_shown(framing: Framing) -> np.ndarray:
    """Weight of each pixel in a recogniser's view, (side, side): 0 around the mouth if the mouth is hidden."""
    if framing.mouth:
        return np.ones((framing.side, framing.side), np.float32)
    y, x = np.mgrid[: framing.side, : framing.side].astype(np.float64)
    linear, offset = framing.matrix[:, :2], framing.matrix[:, 2]
    points = np.stack([x, y], axis=-1) - offset
    points = points @ np.linalg.inv(linear).T
    away = np.sqrt((((points - _MOUTH) / _RADII) ** 2).sum(axis=-1))
    return np.clip((away - 1) / _SOFT, 0, 1).astype(np.float32)
