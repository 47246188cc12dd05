"""Pose and expression as directions of W, by regression on the bank.

Features y (pose, expression, mouth and jaw geometry, and what must stay: age, sex, embeddings) are regressed
linearly on the whitened code, y = A·v + b. The smallest change of v, in the Mahalanobis sense, that moves the
features by Δ is that of a conditional Gaussian, Δv = Aᵀ (A Aᵀ + N)⁻¹ Δ, where N is the residual variance of the
regression: what the bank predicts badly is followed little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deidlib.donors.bank import Bank
from deidlib.donors.features import EXPRESSION
from deidlib.generators import LatentPrior

_FOLLOWED = ("yaw", "pitch", *EXPRESSION)
_GEOMETRY_COMPONENTS = 12
_IDENTITY_COMPONENTS = 32
_RIDGE = 60.0  # in units of one bank entry's weight; chosen by cross-validation on the bank


@dataclass(frozen=True)
class Editor:
    """Linear model of the bank; see :func:`fit_editor`."""

    prior: LatentPrior
    v_mean: np.ndarray  # (512,) mean whitened code of the bank
    gain: np.ndarray  # (512, F): Δv for a unit of each standardised feature
    centre: np.ndarray  # (F,) feature means
    scale: np.ndarray  # (F,) feature standard deviations
    slope: np.ndarray  # (F, 512)
    geometry_mean: np.ndarray  # (116,)
    geometry_axes: np.ndarray  # (116, 12)

    def follow(self, w: np.ndarray, wanted: dict) -> np.ndarray:
        """Code, (512,), near ``w`` with the pose, expression and geometry ``wanted`` (as ``features.measure`` gives).

        Age, sex and embeddings are held. Keys that ``wanted`` lacks are held too.
        """
        predicted = self.slope @ (self.prior.whiten @ (w - self.prior.mean) - self.v_mean)  # standardised
        change = np.zeros(len(self.centre))
        for k, name in enumerate(_FOLLOWED):
            if name in wanted:
                change[k] = (wanted[name] - self.centre[k]) / self.scale[k] - predicted[k]
        if "geometry" in wanted:
            part = slice(len(_FOLLOWED), len(_FOLLOWED) + _GEOMETRY_COMPONENTS)
            scores = (np.asarray(wanted["geometry"]).reshape(-1) - self.geometry_mean) @ self.geometry_axes
            change[part] = (scores - self.centre[part]) / self.scale[part] - predicted[part]
        return w + self.prior.axes @ (self.gain @ np.clip(change, -4, 4))


def _components(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    mean = values.mean(axis=0)
    _, _, axes = np.linalg.svd(values - mean, full_matrices=False)
    return mean, axes[:n].T


def fit_editor(bank: Bank, prior: LatentPrior) -> Editor:
    """Regress the bank's features on its codes."""
    v = (bank.w - prior.mean) @ prior.whiten.T
    geometry = bank.geometry.reshape(len(bank), -1)
    geometry_mean, geometry_axes = _components(geometry, _GEOMETRY_COMPONENTS)
    identity = np.hstack([bank.sface, bank.dlib / bank.dlib.std()])
    identity_mean, identity_axes = _components(identity, _IDENTITY_COMPONENTS)
    features = np.column_stack(
        [
            *(bank.scalars[name] for name in _FOLLOWED),
            (geometry - geometry_mean) @ geometry_axes,
            bank.scalars["age"],
            bank.scalars["female"],
            (identity - identity_mean) @ identity_axes,
        ]
    )
    centre, scale = features.mean(axis=0), features.std(axis=0)
    y = (features - centre) / scale
    v_mean = v.mean(axis=0)
    vc = v - v_mean
    slope = np.linalg.solve(vc.T @ vc + _RIDGE * np.eye(vc.shape[1]), vc.T @ y).T  # (F, 512)
    residual = np.var(y - vc @ slope.T, axis=0)
    gain = slope.T @ np.linalg.inv(slope @ slope.T + np.diag(residual * 0.1 + 1e-3))
    return Editor(prior, v_mean, gain, centre, scale, slope, geometry_mean, geometry_axes)
