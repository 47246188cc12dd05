"""Fits a linear model of what the shipped bank's faces wear, by labels, and says how well it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

_FOLDS = 5


def fit(features: np.ndarray, wear: np.ndarray, ridge: float = 1.0) -> tuple[np.ndarray, float]:
    """Logistic regression with a ridge: slope, (F,), and intercept."""
    mean = features.mean(axis=0)
    centred = features - mean

    def objective(model: np.ndarray) -> tuple[float, np.ndarray]:
        odds = centred @ model[:-1] + model[-1]
        error = 1 / (1 + np.exp(-odds)) - wear
        shrunk = np.append(ridge * model[:-1], 0)
        value = np.sum(np.logaddexp(0, odds) - wear * odds) + shrunk @ model / 2
        return value, np.append(error @ centred, error.sum()) + shrunk

    model = minimize(objective, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return model[:-1], model[-1] - mean @ model[:-1]


def fit_and_write(
    describe: Callable[[np.ndarray], np.ndarray],
    faces: np.ndarray,
    wear: np.ndarray,
    known: np.ndarray,
    bound: float,
    out: Path,
) -> None:
    """Fit to faces and their mirror images, print the accuracy on held-out faces (five folds), and write the model.

    Parameters
    ----------
    describe : callable
        Features, (F,), of a face, (256, 256, 3) uint8.
    faces : ndarray, (N, 256, 256, 3), uint8
        The bank's previews.
    wear, known : ndarray, (N,), bool
        Whether each face wears it; whether its label is certain.
    bound : float
        Log-odds from which a face counts as wearing it.
    out : Path
        The file that :func:`deidlib.donors.linear.log_odds` reads.
    """
    straight, mirrored = (
        np.stack([describe(face) for face in some]).astype(np.float64)
        for some in (faces, np.ascontiguousarray(faces[:, :, ::-1]))
    )

    def fitted(which: np.ndarray) -> tuple[np.ndarray, float]:
        return fit(np.concatenate([straight[which], mirrored[which]]), np.tile(wear[which], 2))

    scores, folds = np.zeros(len(faces)), np.arange(len(faces)) % _FOLDS
    for fold in range(_FOLDS):
        slope, intercept = fitted(known & (folds != fold))
        scores[folds == fold] = straight[folds == fold] @ slope + intercept
    has, lacks = scores[known & wear], scores[known & ~wear]
    print(f"{len(has)} faces wear it, {len(lacks)} do not; held out:")
    print(f"area under the curve {np.mean(has[:, None] > lacks[None]):.4f}")
    print(f"below {bound}: {np.mean(has < bound):.1%} of those that do; above: {np.mean(lacks >= bound):.1%} of others")
    slope, intercept = fitted(known)
    np.savez_compressed(out, slope=slope.astype(np.float16), intercept=np.float32(intercept))
