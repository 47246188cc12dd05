"""How well a donor fits a patient. A donor shares no more with the patient than the preserved area requires.

A released face reveals what its donor shares with the patient, and an attacker with pairs of other patients can learn
to read it. So age, sex and the skin's tone are shared as classes. The side of the light and the shade of a beard are
shared, not nine patches. The outline of the lips is shared, and that of the jaw only if the lower face is preserved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deidlib.donors.features import EXPRESSION, N_LIPS, SKIN_PATCHES

if TYPE_CHECKING:  # the bank's module loads torch, which the report does not need
    from deidlib.donors.bank import Looks

#: One unit of mismatch, by feature. Faces are ranked by the sum of squared mismatches in these units.
_UNITS = {"yaw": 8.0, "pitch": 8.0, "jaw_open": 0.15, "smile": 0.35, "upper_up": 0.35, "pucker": 0.4}
_GEOMETRY_UNIT = 14.0  # px of the aligned frame, RMS
_TONE_UNITS = np.array([5.0, 5.0, 5.0, 12.0, 12.0])  # of CIE Lab, in the order of tone()
_AGE_UNIT = 3.0  # years
_FEMALE_UNIT = 0.18
_AGE_CLASS = 10.0  # years
_TONE_CLASS = np.array([8.0, 4.0, 6.0])  # of CIE Lab: width of a class of L, a and b
_TONE_JITTER = 0.25  # of the width, to either side of a class's middle

#: Methods of the preserved area that may reach the jaw; a clinician's mask can have any size.
REACH_THE_JAW = frozenset({"lower_face", "mask"})

_POSE = ("yaw", "pitch", *EXPRESSION)
#: Cheeks and forehead show skin and light. Below them a beard may be dark, and a shaded face must not be taken for
#: a bearded one.
_UPPER = np.array([name.startswith(("cheek", "forehead")) for name in SKIN_PATCHES])
_LEFT, _RIGHT = (np.array([name.endswith(side) for name in SKIN_PATCHES]) for side in ("left", "right"))


def with_record(features: dict, age: float | None, sex: str | None) -> dict:
    """Features with the age and sex of the sample sheet.

    The recorded sex replaces the apparent one. The estimator flattens the age of adults (on photographs of known age:
    about 15 + 0.45 × age), and the bank's ages are its estimates; so the recorded age is brought to that scale and
    averaged with the apparent one.
    """
    features = dict(features)
    if age is not None:
        features["age"] = 0.5 * (features["age"] + min(age, 15.0 + 0.45 * age))
    if sex in ("F", "M"):
        features["female"] = float(sex == "F")
    return features


def shared_look(features: dict, rng: np.random.Generator) -> dict:
    """Features with age, sex and skin tone as classes.

    The age becomes the middle of ten years, the sex female or male (1 or 0). All patches of skin are moved by one
    difference in colour, so that their mean lies near the middle of a class of tone. The preserved area shows the
    patient's tone, and blending brings the new face to it; so nothing else of the patient's tone is released.

    Parameters
    ----------
    features : dict
        As :func:`deidlib.donors.features.measure` gives.
    rng : Generator
        Random generator, keyed by the patient: the tone's place about the middle.
    """
    middle = (np.floor(features["age"] / _AGE_CLASS) + 0.5) * _AGE_CLASS
    skin = np.asarray(features["skin"], np.float64)
    own = tone(skin)[..., :3]
    shown = (np.floor(own / _TONE_CLASS) + 0.5 + rng.uniform(-_TONE_JITTER, _TONE_JITTER, 3)) * _TONE_CLASS
    classes = {"age": float(middle), "female": float(features["female"] >= 0.5), "skin": skin + shown - own}
    return features | classes


def view_of(features: dict, jaw: bool) -> dict:
    """Features that a photograph prescribes to its donor: pose, expression, and the outline of the preserved area.

    Parameters
    ----------
    features : dict
        As :func:`deidlib.donors.features.measure` gives.
    jaw : bool
        Whether the preserved area reaches the jaw; otherwise its outline is that of the lips.
    """
    view = {name: features[name] for name in _POSE}
    geometry = np.asarray(features["geometry"], np.float64).reshape(-1, 2)
    return view | ({"geometry": geometry} if jaw else {"lips": geometry[:N_LIPS]})


def tone(skin: np.ndarray) -> np.ndarray:
    """Skin tone, (..., 5): mean L, a and b; L of the left half minus the right; L of the upper face minus the lower.

    Parameters
    ----------
    skin : ndarray, (..., 9, 3)
        CIE Lab of ``SKIN_PATCHES``. Patches of nan are left out; a value without any patch is nan.
    """
    left, right, upper, lower = (_mean(skin, which) for which in (_LEFT, _RIGHT, _UPPER, ~_UPPER))
    sides = np.stack([(left - right)[..., 0], (upper - lower)[..., 0]], axis=-1)
    whole = np.where(np.isnan(upper), lower, np.where(np.isnan(lower), upper, (upper + lower) / 2))
    return np.concatenate([whole, sides], axis=-1)


def _mean(skin: np.ndarray, which: np.ndarray) -> np.ndarray:
    there = ~np.isnan(skin[..., which, :])
    total = np.where(there, skin[..., which, :], 0).sum(axis=-2)
    return np.where(there.any(axis=-2), total / np.maximum(there.sum(axis=-2), 1), np.nan)


def mismatch(looks: Looks, features: dict, grey: bool, jaw: bool = False) -> np.ndarray:
    """How badly each of several faces fits a photograph, (N,): squared mismatches in the units above, summed.

    Parameters
    ----------
    looks : Looks
        The faces.
    features : dict
        As :func:`deidlib.donors.features.measure` gives; a nan is left out.
    grey : bool
        Compare the skin by lightness alone.
    jaw : bool
        See :func:`view_of`.
    """
    total = sum(((looks.scalars[name] - features[name]) / unit) ** 2 for name, unit in _UNITS.items())
    points = slice(None) if jaw else slice(N_LIPS)
    geometry = np.asarray(features["geometry"], np.float64).reshape(1, -1, 2)
    apart = np.sum((looks.geometry - geometry)[:, points] ** 2, axis=2)
    total = total + np.mean(apart, axis=1) / _GEOMETRY_UNIT**2
    tones = ((tone(looks.skin) - tone(np.asarray(features["skin"], np.float64))) / _TONE_UNITS) ** 2
    total = total + np.nansum(np.delete(tones, [1, 2], axis=1) if grey else tones, axis=1)
    total = total + ((looks.scalars["age"] - features["age"]) / _AGE_UNIT) ** 2
    return total + ((looks.scalars["female"] - features["female"]) / _FEMALE_UNIT) ** 2
