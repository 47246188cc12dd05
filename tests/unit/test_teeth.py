"""The attack by the teeth: another photograph of one mouth is found, by every feature and whatever the route."""

import cv2
import numpy as np
import pytest
from virtual_faces import codes, draw

from deidlib.reid.mouths import sampled
from deidlib.reid.side_channels import Photo
from deidlib.reid.teeth import Mouth, Seen, likenesses, mouth_of, teeth_attacks
from deidlib.vision.alignment import LIPS_OUTER


def lips_of(image, points):
    mask = np.zeros(image.shape[:2], np.uint8)
    return cv2.fillPoly(mask, [np.round(points[LIPS_OUTER]).astype(np.int32)], 1) > 0


@pytest.fixture(scope="module")
def people(generator, landmarker, astronaut):
    """(picture, points) of smiling people: generated ones and the astronaut, each 256 px or more."""
    found = [(image, landmarker.detect(image)) for image in [*draw(generator, codes(generator, 9, seed=31)), astronaut]]
    return [(image, faces[0].points) for image, faces in found if faces]


def later(image, points):
    """The same mouth on another day: smaller, turned by four degrees, in other light."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 4, 0.85)
    turned = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    light = np.clip(turned.astype(np.float32) * 0.9 + 8, 0, 255).astype(np.uint8)
    return light, (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def seen(people, route="generate", faces=True):
    rows = []
    for k, (image, points) in enumerate(people):
        for time, (picture, places) in enumerate([(image, points), later(image, points)]):
            found = mouth_of(picture, lips_of(picture, places), places if faces else None)
            rows.append(Seen(f"photo{k}{time}", f"patient{k}", route, f"T{time}", found, found))
    return rows


def test_another_photograph_of_the_same_mouth_is_found(people):
    found = {a.name: a for a in teeth_attacks(seen(people), np.random.default_rng(1))}
    whole = found["teeth_all"]
    assert whole.trials == 2 * len(people)
    assert whole.rate > 0.6
    assert whole.chance == pytest.approx(1 / (2 * len(people) - 1))
    for name in ("teeth_local", "teeth_landmarks"):
        assert found[name].rate > 3 * whole.chance, name
    assert found["teeth_all_timepoints"].trials == whole.trials
    assert f"generate: {whole.hits} of {whole.trials}" in whole.explanation


def test_without_a_face_the_local_features_do_it(people):
    found = {a.name: a for a in teeth_attacks(seen(people, "intraoral", faces=False), np.random.default_rng(1))}
    assert found["teeth_all"].rate > 0.4
    assert found["teeth_all"].hits == found["teeth_local"].hits
    assert "intraoral" in found["teeth_all"].explanation


def test_mouths_of_strangers_come_out_at_chance(people):
    rows = seen(people)
    shuffled = [
        Seen(one.photo, one.patient, one.route, one.timepoint, one.original, rows[(i + 2) % len(rows)].released)
        for i, one in enumerate(rows)
    ]
    (found,) = (a for a in teeth_attacks(shuffled, np.random.default_rng(1)) if a.name == "teeth_all")
    assert found.rate < 0.35


def test_a_contour_is_compared_where_both_show_teeth_and_moved_to_where_it_fits():
    places, descriptors = np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    lips = np.full((20, 2), np.nan, np.float32)
    x = np.linspace(0, 6, 32)
    one = np.stack([np.zeros(32), 0.2 + 0.05 * np.sin(x)]).astype(np.float32)
    moved = np.full_like(one, np.nan)
    moved[:, 2:] = one[:, :-2] + 0.1
    other = np.stack([np.zeros(32), 0.2 + 0.05 * np.cos(3 * x)]).astype(np.float32)
    first, same, stranger, closed = (
        Mouth(places, descriptors, contour, lips) for contour in (one, moved, other, np.full_like(one, np.nan))
    )
    assert likenesses(first, same)[1] == pytest.approx(0, abs=1e-6)
    assert likenesses(first, stranger)[1] < -0.01
    assert np.isnan(likenesses(first, closed)).all()


def test_nothing_to_compare_is_no_try():
    rng = np.random.default_rng(1)
    assert all(a.trials == 0 for a in teeth_attacks([], rng))


def test_the_sample_takes_whole_patients_those_with_several_photographs_first():
    photos = [Photo(f"photo{i}", f"patient{i:02d}", i, True) for i in range(20)]
    photos += [Photo(f"more{i}", f"patient{i:02d}", 20 + i, True) for i in range(10, 15)]
    chosen = sampled(photos, most=12)
    assert {photo.patient for photo in chosen if photo.photo.startswith("more")} == {
        f"patient{i}" for i in range(10, 15)
    }
    assert len(chosen) == 12
