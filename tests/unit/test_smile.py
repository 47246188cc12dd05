"""What clinicians read off a smile: against a drawn mouth whose measures are known by construction."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deidlib.checks.smile import MEASURES, before_and_after, smile_measures
from deidlib.storage import tables
from deidlib.vision.alignment import LEFT_EYE, LIPS_INNER, LIPS_OUTER, RIGHT_EYE

SIDE, EYES = 400, 200.0  # px; the eye centres are EYES apart
CENTRE = np.array([200.0, 290.0])  # middle of the mouth
SKIN, LIPS, TEETH, DARK, GUM = (214, 170, 150), (176, 70, 78), (238, 232, 214), (38, 22, 22), (196, 100, 104)


def ellipse(indices: list[int], half_width: float, half_height: float, points: np.ndarray) -> None:
    """Set lip landmarks on an ellipse: the list starts at the image's left and runs below to the right and back."""
    for step, index in enumerate(indices):
        angle = np.pi - 2 * np.pi * step / len(indices)
        points[index] = CENTRE + np.array([half_width * np.cos(angle), half_height * np.sin(angle)])


def face(
    teeth: float = 120, height: float = 24, opening: float = 24, gum: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a mouth 160 px wide outside and 140 px inside, with teeth ``teeth`` wide and ``height`` high, and its
    landmarks."""
    points = np.zeros((478, 2))
    points[LEFT_EYE], points[RIGHT_EYE] = (200 - EYES / 2, 120), (200 + EYES / 2, 120)
    points[168] = (200, 125)
    ellipse(LIPS_OUTER, 80, opening + 16, points)
    ellipse(LIPS_INNER, 70, opening, points)
    image = np.full((SIDE, SIDE, 3), SKIN, np.uint8)
    for indices, colour in ((LIPS_OUTER, LIPS), (LIPS_INNER, DARK)):
        cv2.fillPoly(image, [np.round(points[indices]).astype(np.int32)], colour)
    inner = (image == DARK).all(axis=-1)
    y, x = np.mgrid[:SIDE, :SIDE]
    row = np.abs(x - 200) <= teeth / 2
    top = CENTRE[1] - opening
    image[inner & row & (y - top <= height)] = TEETH
    if gum:
        image[inner & row & (y - top <= height / 3)] = GUM
    return image, points


def turned(image: np.ndarray, points: np.ndarray, angle: float, only: list[int] | None = None):
    """Turn the picture clockwise by ``angle`` degrees round the mouth; ``only`` these landmarks, or all."""
    matrix = cv2.getRotationMatrix2D(tuple(CENTRE), -angle, 1.0)
    moved = points.copy()
    which = only if only is not None else range(len(points))
    moved[which] = points[which] @ matrix[:, :2].T + matrix[:, 2]
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), moved


def test_measures_are_those_of_the_drawing():
    found = smile_measures(*face(), EYES)
    assert found["smile_width"] == pytest.approx(100 * 160 / EYES)
    assert found["lip_line"] == pytest.approx(100 * 24 / EYES, abs=1.0)
    assert found["midline_offset"] == pytest.approx(0, abs=1e-6)
    assert found["buccal_corridor"] == pytest.approx(100 * (1 - 120 / 140), abs=2.5)
    assert found["cant"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("teeth", [60, 90, 120])
def test_the_corridor_grows_as_fewer_teeth_show(teeth):
    found = smile_measures(*face(teeth=teeth), EYES)["buccal_corridor"]
    assert found == pytest.approx(100 * (1 - teeth / 140), abs=3)


@pytest.mark.parametrize("height", [10, 18, 26])
def test_the_lip_line_is_what_shows_below_the_upper_lip_with_the_gum(height):
    for gum in (False, True):
        assert smile_measures(*face(height=height, gum=gum), EYES)["lip_line"] == pytest.approx(
            100 * height / EYES, abs=1.0
        )


def test_a_turned_photograph_has_the_same_measures():
    upright, tilted = smile_measures(*face(), EYES), smile_measures(*turned(*face(), 12), EYES)
    for name in MEASURES:
        assert tilted[name] == pytest.approx(upright[name], abs=1.5), name


@pytest.mark.parametrize("angle", [-6, 4])
def test_a_mouth_that_falls_to_the_images_right_has_a_positive_cant(angle):
    image, points = turned(*face(), angle, only=sorted({*LIPS_OUTER, *LIPS_INNER}))
    assert smile_measures(image, points, EYES)["cant"] == pytest.approx(angle, abs=1e-6)


def test_a_mouth_beside_the_facial_midline_is_off_by_that_much():
    image, points = face()
    points[168, 0] -= 10  # the nose bridge is left of the mouth's middle, so the mouth is to its right
    assert smile_measures(image, points, EYES)["midline_offset"] == pytest.approx(100 * 10 / EYES)


@pytest.mark.parametrize("kind", ["closed", "grey", "no teeth"])
def test_where_no_teeth_are_seen_nothing_is_claimed_of_them(kind):
    image, points = face(opening=2) if kind == "closed" else face(teeth=0 if kind == "no teeth" else 120)
    if kind == "grey":
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if kind == "no teeth":
        image[(image == TEETH).all(axis=-1)] = DARK
        image[(image == DARK).all(axis=-1)] = GUM  # a tongue fills the mouth
    found = smile_measures(image, points, EYES)
    assert found["lip_line"] is None
    assert found["buccal_corridor"] is None
    assert found["smile_width"] == pytest.approx(80)


def test_light_and_colour_of_the_photograph_hardly_matter():
    image, points = face()
    dim = np.clip(image * np.array([0.62, 0.55, 0.5]), 0, 255).astype(np.uint8)  # darker, and warmer
    for name, value in smile_measures(dim, points, EYES).items():
        assert value == pytest.approx(smile_measures(image, points, EYES)[name], abs=1.5), name


def test_before_and_after_fill_the_columns_and_share_the_sources_scale():
    image, points = face()
    wide = points.copy()
    wide[LEFT_EYE] -= (20, 0)  # the new face has its eyes further apart: no reason for a narrower smile
    found = before_and_after(image, points, image, wide)
    assert set(found) <= set(tables.CHECKS.names)
    assert len(found) == 2 * len(MEASURES)
    assert found["smile_width_result"] == pytest.approx(found["smile_width_source"])


def test_the_gate_measures_a_real_face_before_and_after(landmarker, astronaut):
    crop = np.ascontiguousarray(astronaut[:400, 20:420])
    points = landmarker.detect(crop)[0].points
    same = before_and_after(crop, points, crop, points)
    for name in MEASURES:
        assert same[f"{name}_source"] == same[f"{name}_result"]
    assert 70 < same["smile_width_source"] < 140
    assert 3 < same["lip_line_source"] < 30
    assert 0 < same["buccal_corridor_source"] < 60
