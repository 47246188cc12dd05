"""Linear models of what a generated face wears: log-odds from a file that :mod:`deidlib.training` wrote."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np


@cache
def _model(path: Path) -> tuple[np.ndarray, float]:
    with np.load(path) as stored:
        return stored["slope"].astype(np.float32), float(stored["intercept"])


def log_odds(features: np.ndarray, path: Path) -> float:
    """Log-odds of the model in a file, at features (F,) float32."""
    slope, intercept = _model(path)
    return float(features @ slope + intercept)
