"""A second face is told, also one that the edge of the picture cuts in half."""

import cv2
import numpy as np
import pytest

from deidlib.cli.common import stage_options
from deidlib.donors.bank import drawn, read_bank

_BOUND = stage_options("checks", "{}")["second_face_max"]


@pytest.fixture(scope="module")
def faces(generator):
    bank = read_bank()
    alone = np.flatnonzero(bank.scalars["second_face"] == 0)[:200:40]
    return drawn(bank.w[alone], generator)


def with_a_part_of_another(face: np.ndarray, other: np.ndarray, side: str) -> np.ndarray:
    """The face, and at one edge of its picture, which cuts it beside the nose, a part of another, smaller one."""
    small = cv2.resize(other, (180, 180), interpolation=cv2.INTER_AREA)
    face = face.copy()
    if side == "left":
        face[40:220, :38] = small[:, 104:142]
    else:
        face[40:220, -38:] = small[:, 38:76]
    return face


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_face_that_the_edge_cuts_is_told(faces, yunet, side):
    cut = [
        with_a_part_of_another(face, other, side) for face, other in zip(faces, np.roll(faces, 1, axis=0), strict=True)
    ]
    assert all(yunet.second_face(face) < 0.3 for face in faces)
    assert all(yunet.second_face(picture) > _BOUND for picture in cut)
    assert sum(len(yunet.detect(picture)) == 1 for picture in cut) >= 4, "which the detector overlooks"


def test_a_whole_second_face_is_told(faces, yunet):
    picture = np.hstack([faces[0], faces[1]])
    assert yunet.second_face(picture) > _BOUND


def test_what_the_generator_draws_beside_a_face_is_told(generator, yunet):
    """Malformed second faces, looked at: each is cut by an edge."""
    looked_at = (1341, 2041, 1238, 1868, 1862, 1267)
    bank = read_bank()
    scores = [yunet.second_face(face) for face in drawn(bank.w[list(looked_at)], generator)]
    assert np.min(scores) > _BOUND
    assert scores == pytest.approx(bank.scalars["second_face"][list(looked_at)], abs=0.1)
