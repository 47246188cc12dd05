"""Geometry: alignment, the released square, the preserved core and its band."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deidlib.regions.area import (
    area_of_landmarks,
    band_width,
    cut_square,
    distance_outside,
    preserve_regions,
    released_square,
)
from deidlib.storage import tables
from deidlib.storage.images import decode_png, encode_png
from deidlib.vision.alignment import (
    aligned_to_native,
    eye_centres,
    invert_similarity,
    points_of,
    resample,
    transform_points,
)
from deidlib.vision.detectors import YuNet
from deidlib.vision.landmarks import FaceLandmarker, find_landmarks

OPTIONS = {"max_yaw": 35, "min_inter_ocular": 32}
VIEWS = {"profile": "refuse", "not_stated": "generate"}
REGION_OPTIONS = {"margin": 0.06, "band": 0.2, "min_pixels": 64}


@pytest.fixture(scope="module")
def astronaut_points(astronaut, model_files):
    with FaceLandmarker(model_files("face_landmarker")["face_landmarker.task"]) as landmarker:
        (face,) = landmarker.detect(astronaut)
    return face.points


@pytest.fixture(scope="module")
def detector(model_files):
    return YuNet(next(iter(model_files("yunet").values())))


def photos_table(*images, **extra):
    rows = [
        {
            "release_photo_id": f"photo{k}",
            "release_patient_id": "patient",
            "image": encode_png(image),
            "height": image.shape[0],
            "width": image.shape[1],
            "status": tables.OK,
            **extra,
        }
        for k, image in enumerate(images)
    ]
    return tables.from_rows(rows, tables.PHOTOS)


def landmarks_of(photos, model_files, detector):
    return find_landmarks(photos, model_files("face_landmarker")["face_landmarker.task"], detector, OPTIONS, VIEWS)


similarities = st.tuples(st.floats(0.1, 4), st.floats(-3.1, 3.1), st.floats(-500, 500), st.floats(-500, 500)).map(
    lambda p: np.array(
        [[p[0] * np.cos(p[1]), -p[0] * np.sin(p[1]), p[2]], [p[0] * np.sin(p[1]), p[0] * np.cos(p[1]), p[3]]]
    )
)


@given(similarities)
def test_similarity_inverts(matrix):
    points = np.array([[0.0, 0.0], [1023.0, 5.0], [300.0, 900.0]])
    assert np.allclose(transform_points(invert_similarity(matrix), transform_points(matrix, points)), points, atol=1e-6)


@given(similarities)
def test_released_square_lies_inside_the_generated_one(matrix):
    left, top, side = released_square(matrix)
    corners = np.array([[left, top], [left + side - 1, top], [left, top + side - 1], [left + side - 1, top + side - 1]])
    aligned = transform_points(invert_similarity(matrix), corners.astype(float))
    assert aligned.min() >= 0
    assert aligned.max() <= 1023


@settings(max_examples=25)
@given(st.floats(0.3, 3), st.floats(-0.6, 0.6), st.floats(-50, 50))
def test_alignment_follows_the_face(astronaut_points, scale, angle, shift):
    """Moving the landmarks by a similarity moves the alignment by the same one."""
    motion = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), shift],
            [scale * np.sin(angle), scale * np.cos(angle), -shift],
        ]
    )
    base, moved = (
        aligned_to_native(astronaut_points),
        aligned_to_native(transform_points(motion, astronaut_points)),
    )
    grid = np.array([[0.0, 0.0], [1023.0, 0.0], [500.0, 700.0]])
    there = transform_points(moved, grid)
    assert np.allclose(
        there, transform_points(motion, transform_points(base, grid)), atol=0.71 * (1 + scale)
    )  # half a pixel of either grid


def test_eyes_are_level_and_at_the_ffhq_place(astronaut_points):
    points = transform_points(invert_similarity(aligned_to_native(astronaut_points)), astronaut_points)
    left, right = eye_centres(points)
    assert abs(left[1] - right[1]) < 60
    assert 350 < left[0] < 430
    assert 600 < right[0] < 680
    assert 440 < left[1] < 520


def test_resample_identity_is_exact(astronaut):
    square = astronaut[:300, :300]
    assert (resample(square, np.eye(2, 3), 300) == square).all()


@settings(max_examples=20)
@given(st.integers(-80, 80), st.integers(-80, 80), st.integers(1, 200))
def test_cut_square_keeps_pixels_exactly(left, top, side):
    image = np.arange(100 * 120 * 3, dtype=np.uint32).reshape(100, 120, 3)
    square, inside = cut_square(image, left, top, side)
    y, x = np.nonzero(inside)
    assert (square[y, x] == image[y + top, x + left]).all()
    assert inside.sum() == max(0, min(100, top + side) - max(0, top)) * max(0, min(120, left + side) - max(0, left))


def test_cores_nest_and_the_band_surrounds(astronaut, model_files, detector):
    photos = photos_table(astronaut)
    landmarks = landmarks_of(photos, model_files, detector)
    cores = {}
    for method in ("teeth", "mouth", "lower_face"):
        (row,) = preserve_regions(photos, landmarks, method, REGION_OPTIONS).to_pylist()
        core, band = decode_png(row["core"]) > 0, decode_png(row["band"]) > 0
        assert row["status"] == "ok"
        assert core.sum() == row["core_pixels"]
        assert not (core & band).any()
        assert band.any()
        outside = distance_outside(core | band)
        assert distance_outside(core)[outside > 0].min() > band_width(core, band) / 2  # a band lies all round
        cores[method] = core
    assert (cores["mouth"] >= cores["teeth"]).all()
    corner = np.array([row["crop_left"], row["crop_top"]], np.float32)
    lips = area_of_landmarks(points_of(landmarks.to_pylist()[0]) - corner, row["crop_side"], "mouth", 0.0) > 0
    assert (cores["mouth"] >= lips).all()  # clinicians read the lips' border: it is in the core
    assert cores["lower_face"].sum() > cores["mouth"].sum() > cores["teeth"].sum() > 0


def test_margin_widens_the_mouth(astronaut_points):
    points = astronaut_points - astronaut_points.min(axis=0) + 10
    narrow, wide = (area_of_landmarks(points, 200, "mouth", margin) > 0 for margin in (1.0, 5.0))
    assert (wide >= narrow).all()
    assert wide.sum() > narrow.sum()


def test_own_mask_replaces_the_method(astronaut, model_files, detector):
    mask = np.zeros(astronaut.shape[:2], np.uint8)
    mask[150:170, 210:240] = 255
    photos = photos_table(astronaut, mask=encode_png(mask))
    (row,) = preserve_regions(photos, landmarks_of(photos, model_files, detector), "mouth", REGION_OPTIONS).to_pylist()
    assert row["method"] == "mask"
    core, band = decode_png(row["core"]), decode_png(row["band"])
    square, _ = cut_square(mask, row["crop_left"], row["crop_top"], row["crop_side"])
    assert ((core | band) == square).all()
    assert band.any()


def test_mask_beyond_the_released_square_is_quarantined(astronaut, model_files, detector):
    mask = np.zeros(astronaut.shape[:2], np.uint8)
    mask[500:512, :40] = 255
    photos = photos_table(astronaut, mask=encode_png(mask))
    (row,) = preserve_regions(photos, landmarks_of(photos, model_files, detector), "mouth", REGION_OPTIONS).to_pylist()
    assert (row["status"], row["reason"]) == ("quarantined", "region_empty")


def test_what_is_not_one_frontal_face_is_quarantined(astronaut, model_files, detector):
    nobody = np.full((256, 256, 3), 127, np.uint8)
    head = astronaut[:256, 96:352]
    two = np.hstack([head, head[:, ::-1]])
    rows = landmarks_of(photos_table(nobody, two, np.ascontiguousarray(astronaut)), model_files, detector).to_pylist()
    assert [row["reason"] for row in rows] == ["no_face", "several_faces", None]
    (row,) = landmarks_of(photos_table(astronaut, view="profile"), model_files, detector).to_pylist()
    assert row["reason"] == "view_refused"


def test_who_stands_behind_or_is_cut_off_does_not_hide_the_patient(astronaut, model_files, detector):
    """A small face behind, and a large one at the border that the generated square leaves out, are nobody's patient."""
    head = np.ascontiguousarray(astronaut[:256, 96:352])
    scene = np.full((300, 640, 3), 127, np.uint8)
    scene[20:276, 20:276] = head
    behind, cut_off, both = scene.copy(), scene.copy(), scene.copy()
    behind[60:160, 400:500] = cv2.resize(head, (100, 100), interpolation=cv2.INTER_AREA)
    cut_off[20:276, 490:] = head[:, :150]
    both[20:276, 340:596] = head[:, ::-1]
    assert all(len(detector.detect(picture)) == 2 for picture in (behind, cut_off, both))
    rows = landmarks_of(photos_table(scene, behind, cut_off, both), model_files, detector).to_pylist()
    assert [row["reason"] for row in rows] == [None, None, None, "several_faces"]
    for row in rows[1:3]:  # the same person as without company
        assert np.abs(np.array(row["points"]) - rows[0]["points"]).max() < 6


def test_limits_are_applied(astronaut, model_files, detector):
    photos = photos_table(astronaut)
    task = model_files("face_landmarker")["face_landmarker.task"]
    (row,) = find_landmarks(photos, task, detector, OPTIONS | {"max_yaw": 0.001}, VIEWS).to_pylist()
    assert row["reason"] == "yaw_too_large"
    (row,) = find_landmarks(photos, task, detector, OPTIONS | {"min_inter_ocular": 400}, VIEWS).to_pylist()
    assert row["reason"] == "face_too_small"


def test_mirrored_face_turns_the_other_way(astronaut, model_files):
    with FaceLandmarker(model_files("face_landmarker")["face_landmarker.task"]) as landmarker:
        (face,), (mirrored,) = landmarker.detect(astronaut), landmarker.detect(astronaut[:, ::-1])
    assert abs(face.yaw + mirrored.yaw) < 4
    assert abs(face.roll + mirrored.roll) < 4
