"""Detects headwear on a generated face: caps, hats, helmets, scarves, headbands.

Histograms of oriented gradients (Dalal and Triggs 2005) and colours of the upper picture, and a linear model of their
log-odds, fitted to the shipped bank (:mod:`deidlib.training.headwear`).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from deidlib.donors.linear import log_odds
from deidlib.models import DATA_FOLDER

HEADWEAR_FILE = DATA_FOLDER / "headwear.npz"
HEADWEAR = -3.0  # log-odds; on held-out faces, 1 in 32 without headwear is above, and 1 in 8 with it is below
_ROWS = 112  # of the aligned frame at 256²: from its upper edge to the eyes
_HISTOGRAMS = cv2.HOGDescriptor((256, _ROWS), (16, 16), (8, 8), (8, 8), 9)
_PATCH, _LAB = 8, 80.0  # px, side of a patch of one colour; unit of CIE Lab


def upper_picture(aligned: np.ndarray) -> np.ndarray:
    """Gradients and colours of the upper picture, (15852,) float32, of a face in the aligned frame at 256²."""
    upper = np.ascontiguousarray(aligned[:_ROWS])
    gradients = _HISTOGRAMS.compute(cv2.cvtColor(upper, cv2.COLOR_RGB2GRAY)).ravel()
    small = cv2.resize(upper, (upper.shape[1] // _PATCH, _ROWS // _PATCH), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).ravel() / _LAB
    return np.concatenate([gradients, colours])


def headwear_score(aligned: np.ndarray, path: Path = HEADWEAR_FILE) -> float:
    """Log-odds that a face wears something on its head.

    Parameters
    ----------
    aligned : ndarray, (256, 256, 3), uint8
        The face in the aligned frame.
    path : Path
        The model, written by :mod:`deidlib.training.headwear`.
    """
    return log_odds(upper_picture(aligned), path)
