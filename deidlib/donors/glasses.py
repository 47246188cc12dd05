"""Detects glasses, or a part of them, on a generated face.

Histograms of oriented gradients (Dalal and Triggs 2005) around the eyes and a linear model of their log-odds, fitted to
the shipped bank (:mod:`deidlib.training.glasses`). Rims, bridge and temples each add to the score. Half a pair of
glasses, which an edited code may draw, therefore scores between none and a whole pair.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from deidlib.donors.linear import log_odds
from deidlib.models import DATA_FOLDER

GLASSES_FILE = DATA_FOLDER / "glasses.npz"
GLASSES = (
    -2.0
)  # log-odds; on held-out faces, 1 in 70 without glasses is above, and 1 in 40 with any part of them is below
_EYES = slice(84, 148), slice(48, 208)  # rows and columns of the aligned frame at 256²: brows to cheekbones
_HISTOGRAMS = cv2.HOGDescriptor((160, 64), (16, 16), (8, 8), (8, 8), 9)


def gradients(aligned: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients around the eyes, (4788,) float32, of a face in the aligned frame at 256²."""
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[_EYES]
    return _HISTOGRAMS.compute(np.ascontiguousarray(grey)).ravel()


def glasses_score(aligned: np.ndarray, path: Path = GLASSES_FILE) -> float:
    """Log-odds that a face wears glasses.

    Parameters
    ----------
    aligned : ndarray, (256, 256, 3), uint8
        The face in the aligned frame.
    path : Path
        The model, written by :mod:`deidlib.training.glasses`.
    """
    return log_odds(gradients(aligned), path)
