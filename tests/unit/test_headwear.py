"""Headwear: a drawn face that wears something on its head is told, and is no donor."""

import cv2
import numpy as np
import pytest

from deidlib.donors.bank import drawn, read_bank
from deidlib.donors.headwear import HEADWEAR, headwear_score

_BARE = (3, 100, 612, 900, 1501)
#: Looked at: a woolly hat, a cap, a hat, a turban, a mortarboard, a headband.
_WORN = (1213, 1162, 1265, 1479, 839, 1045)


@pytest.fixture(scope="module")
def faces(generator):
    return drawn(read_bank().w[list(_BARE)], generator)


def with_a_cap(face: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The face, and over hair and forehead a cap of one colour with a darker peak."""
    face = face.copy()
    cv2.ellipse(face, (128, 78), (82, 76), 0, 180, 360, colour, -1, cv2.LINE_AA)
    cv2.ellipse(face, (128, 80), (88, 16), 0, 0, 360, tuple(c // 2 for c in colour), -1, cv2.LINE_AA)
    return face


def test_what_the_generator_draws_on_heads_is_told_from_bare_heads(faces, generator):
    bank = read_bank()
    bare = np.array([headwear_score(face) for face in faces])
    worn = np.array([headwear_score(face) for face in drawn(bank.w[list(_WORN)], generator)])
    assert (bare < HEADWEAR).all()
    assert (worn > HEADWEAR).all()
    assert worn == pytest.approx(bank.scalars["headwear"][list(_WORN)], abs=0.05)


@pytest.mark.parametrize("colour", [(150, 40, 40), (60, 70, 120), (190, 180, 150)])
def test_a_cap_that_no_generator_drew_is_told(faces, colour):
    assert all(headwear_score(with_a_cap(face, colour)) > HEADWEAR + 5 for face in faces)
