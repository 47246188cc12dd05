"""Pose, expression, age, sex, glasses and background as directions of W, by regression on the bank.

Features y are regressed linearly on the whitened code v, y = A·v + b. The smallest change of v, in the Mahalanobis
sense, that moves the features by Δ is that of a conditional Gaussian, Δv = Aᵀ (A Aᵀ + N)⁻¹ Δ, where N is the
residual variance of the regression: what the bank predicts badly is followed little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deidlib.donors.bank import SCALARS, Bank
from deidlib.donors.features import N_LIPS
from deidlib.donors.fit import tone
from deidlib.generators import LatentPrior

_COMPONENTS = {"lips": 6, "geometry": 12, "identity": 32}
_RIDGE = 60.0
_RESIDUAL_SHARE = 0.1  # of the residual variance that damps a change; 1 is the textbook value, and follows too little
_MOST = 4.0  # standard deviations that one feature may be asked to move


@dataclass(frozen=True)
class Editor:
    """Linear model of the bank; see :func:`fit_editor`."""

    prior: LatentPrior
    v_mean: np.ndarray  # (512,) mean whitened code of the bank
    slope: np.ndarray  # (F, 512): standardised features for a unit of v
    residual: np.ndarray  # (F,) variance that the regression leaves
    centre: np.ndarray  # (F,) feature means
    scale: np.ndarray  # (F,) feature standard deviations
    parts: dict[str, slice]  # feature name → its place among the F
    outlines: dict[str, tuple[np.ndarray, np.ndarray]]  # lips, geometry → mean, (2n,), and axes, (2n, components)

    def move(self, w: np.ndarray, wanted: dict, held: tuple[str, ...] = ()) -> np.ndarray:
        """Code near ``w`` that has the features ``wanted``.

        Parameters
        ----------
        w : ndarray, (512,)
            Where to start.
        wanted : dict
            Feature name to value, as :func:`deidlib.donors.features.measure` gives them.
        held : tuple of str
            Features to keep: ``identity`` (the recognisers' embeddings) or any of the others.

        Returns
        -------
        ndarray, (512,)
        """
        places, changes = [], []
        predicted = self.slope @ (self.prior.whiten @ (w - self.prior.mean) - self.v_mean)
        for name in (*wanted, *held):
            part = self.parts[name]
            places.append(np.arange(part.start, part.stop))
            if name in wanted:
                value = np.asarray(wanted[name], np.float64).reshape(-1)
                if name in self.outlines:
                    mean, axes = self.outlines[name]
                    value = (value - mean) @ axes
                changes.append((value - self.centre[part]) / self.scale[part] - predicted[part])
            else:
                changes.append(np.zeros(part.stop - part.start))
        index = np.concatenate(places)
        slope, change = self.slope[index], np.clip(np.concatenate(changes), -_MOST, _MOST)
        damping = np.diag(_RESIDUAL_SHARE * self.residual[index] + 1e-3)
        return w + self.prior.axes @ (slope.T @ np.linalg.solve(slope @ slope.T + damping, change))

    def follow(self, w: np.ndarray, view: dict) -> np.ndarray:
        """The same person in another pose and expression: age, sex, glasses, background and embeddings are held."""
        return self.move(w, view, held=("age", "female", "glasses", "clutter", "identity"))


def _components(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    mean = values.mean(axis=0)
    _, _, axes = np.linalg.svd(values - mean, full_matrices=False)
    return mean, axes[:n].T


def fit_editor(bank: Bank, prior: LatentPrior) -> Editor:
    """Regress the bank's features on its codes (ridge regression in whitened coordinates)."""
    v = (bank.w - prior.mean) @ prior.whiten.T
    points = {"lips": bank.geometry[:, :N_LIPS], "geometry": bank.geometry}
    points = {name: values.reshape(len(bank), -1) for name, values in points.items()}
    outlines = {name: _components(values, _COMPONENTS[name]) for name, values in points.items()}
    identity = np.hstack([bank.sface, bank.dlib / bank.dlib.std()])
    identity_mean, identity_axes = _components(identity, _COMPONENTS["identity"])
    blocks = {
        **{name: bank.scalars[name][:, None] for name in SCALARS},
        "tone": tone(bank.skin),
        **{name: (points[name] - mean) @ axes for name, (mean, axes) in outlines.items()},
        "identity": (identity - identity_mean) @ identity_axes,
    }
    ends = np.cumsum([block.shape[1] for block in blocks.values()])
    parts = {
        name: slice(int(end) - block.shape[1], int(end))
        for (name, block), end in zip(blocks.items(), ends, strict=True)
    }
    features = np.hstack(list(blocks.values()))
    centre, scale = features.mean(axis=0), features.std(axis=0)
    y, v_mean = (features - centre) / scale, v.mean(axis=0)
    vc = v - v_mean
    slope = np.linalg.solve(vc.T @ vc + _RIDGE * np.eye(vc.shape[1]), vc.T @ y).T
    residual = np.var(y - vc @ slope.T, axis=0)
    return Editor(prior, v_mean, slope, residual, centre, scale, parts, outlines)
