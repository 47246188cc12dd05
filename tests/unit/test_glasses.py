"""Glasses: a drawn face that wears them, or a part of them, is told."""

import cv2
import numpy as np
import pytest

from deidlib.donors.bank import drawn, read_bank
from deidlib.donors.glasses import GLASSES, glasses_score
from deidlib.training.glasses import bridge_edge
from deidlib.training.worn import fit

_BARE, _FRAME = (3, 100, 612, 900, 1500), (60, 50, 45)
_EYES = (98, 122), (158, 122)


@pytest.fixture(scope="module")
def faces(generator):
    return drawn(read_bank().w[list(_BARE)], generator)


def with_glasses(face: np.ndarray, eyes=_EYES, bridge: bool = True) -> np.ndarray:
    """The face with a dark rim and a temple drawn at some eyes."""
    face = face.copy()
    for x, y in eyes:
        cv2.ellipse(face, (x, y), (26, 17), 0, 0, 360, _FRAME, 2, cv2.LINE_AA)
        out = 1 if x > 128 else -1
        cv2.line(face, (x + 26 * out, y - 4), (128 + 72 * out, y - 6), _FRAME, 2, cv2.LINE_AA)
    if bridge:
        cv2.line(face, (124, 118), (132, 118), _FRAME, 2, cv2.LINE_AA)
    return face


def test_a_pair_is_told_and_a_part_of_one_shows(faces):
    bare = np.array([glasses_score(face) for face in faces])
    whole = np.array([glasses_score(with_glasses(face)) for face in faces])
    half = np.array([glasses_score(with_glasses(face, eyes=_EYES[:1], bridge=False)) for face in faces])
    assert (bare < GLASSES - 2).all()
    assert (whole > GLASSES + 2).all()
    assert (half > bare + 1).all()
    assert all(bridge_edge(with_glasses(face)) > bridge_edge(face) for face in faces)


def test_the_fit_is_a_logistic_regression():
    """Of features that say nothing, it is left with the share; of one that does, with its side."""
    rng = np.random.default_rng(0)
    features, wear = rng.normal(size=(4000, 3)), np.arange(4000) % 4 == 0
    slope, intercept = fit(features, wear)
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(0.25, abs=0.01)
    features[:, 1] += 3.0 * wear
    slope, intercept = fit(features, wear)
    assert slope[1] > 2
    assert np.abs(slope[[0, 2]]).max() < 0.3
    assert np.mean((features @ slope + intercept > 0) == wear) > 0.93
