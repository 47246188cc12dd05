"""Blending: the patient's pixels stay exact, nothing of them gets out, and no seam is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deidlib.blending.composite import blend, blend_faces, skin_tint, warp_to_square
from deidlib.blending.seam import seam_score
from deidlib.cli.common import stage_options
from deidlib.regions.area import cut_square, distance_outside, preserve_regions
from deidlib.storage import tables
from deidlib.storage.images import decode_png, encode_png
from deidlib.vision.detectors import YuNet
from deidlib.vision.landmarks import find_landmarks

OPTIONS = {"gain_limit": 1.25, "correction_width": 3.0}
NEUTRAL = np.ones(3)


def disc(side, radius):
    y, x = np.mgrid[:side, :side] - side / 2
    core = np.where(np.hypot(x, y) < radius, 255, 0).astype(np.uint8)
    outside = distance_outside(core)
    return core, np.where((outside > 0) & (outside <= 12), 255, 0).astype(np.uint8)


def found_in(image, model_files):
    """A photograph's row, and its landmarks."""
    photo = {
        "release_photo_id": "photo",
        "release_patient_id": "patient",
        "image": encode_png(image),
        "height": image.shape[0],
        "width": image.shape[1],
        "status": tables.OK,
    }
    detector = YuNet(next(iter(model_files("yunet").values())))
    task = model_files("face_landmarker")["face_landmarker.task"]
    options = {"max_yaw": 35, "min_inter_ocular": 32}, {"not_stated": "generate"}
    return photo, find_landmarks(tables.from_rows([photo], tables.PHOTOS), task, detector, *options)


def picture(seed, side=96, low=60, high=200):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (side, side, 3), dtype=np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 30))
def test_core_is_exact(seed, radius):
    core, band = disc(96, radius)
    source, face = picture(seed), picture(seed + 1)
    result = blend(source, np.ones((96, 96), bool), face, core, band, NEUTRAL, OPTIONS)
    assert (result[core > 0] == source[core > 0]).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_source_outside_core_and_band_does_not_matter(seed):
    """Two photographs that agree in core and band only give the same result everywhere."""
    core, band = disc(96, 20)
    first, second, face = picture(seed), picture(seed + 1), picture(seed + 2)
    near = (core > 0) | (band > 0)
    second[near] = first[near]
    inside = np.ones((96, 96), bool)
    results = [blend(photo, inside, face, core, band, NEUTRAL, OPTIONS) for photo in (first, second)]
    assert (results[0] == results[1]).all()


def test_equal_pictures_stay_equal():
    core, band = disc(96, 20)
    face = picture(5)
    assert (blend(face, np.ones((96, 96), bool), face, core, band, NEUTRAL, OPTIONS) == face).all()


def test_colour_cast_is_matched():
    """A face with another light and cast ends without a step at the core, and a bare paste has one."""
    core, band = disc(160, 30)
    y, x = np.mgrid[:160, :160] / 160
    source = np.stack([150 + 40 * x, 110 + 30 * y, 95 + 20 * x], axis=2).astype(np.uint8)
    face = np.clip(source * np.array([0.82, 0.9, 1.1]) - 6, 0, 255).astype(np.uint8)
    pasted = face.copy()
    pasted[core > 0] = source[core > 0]
    result = blend(source, np.ones((160, 160), bool), face, core, band, NEUTRAL, OPTIONS)
    assert seam_score(pasted, source, core, band) > 2 * stage_options("checks", "{}")["seam_max"]
    assert seam_score(result, source, core, band) < 1.2


def test_the_light_s_colour_is_read_from_the_area_s_skin():
    """A cast over the photograph is found, though a third of the skin is hair, and the rest of the picture is blue."""
    face = np.full((160, 160, 3), (180, 140, 120), np.uint8)
    cast = np.array([1.08, 1.0, 0.9])
    skin = np.zeros((160, 160), bool)
    skin[60:90, 40:120] = True
    photo = np.full_like(face, (40, 60, 200))
    photo[skin] = np.rint(face * cast)[skin]
    photo[60:70, 40:120] = (40, 30, 90)
    expected = cast / np.prod(cast) ** (1 / 3)
    assert np.allclose(skin_tint(photo, face, skin, 1.5), expected, atol=0.01)
    assert np.allclose(skin_tint(photo, face, skin, 1.02), np.clip(expected, 1 / 1.02, 1.02), atol=0.01)
    assert (skin_tint(photo, face, np.zeros_like(skin), 1.5) == 1).all()
    grey = np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2)
    assert np.allclose(skin_tint(grey, grey, skin, 1.5), 1)


@pytest.mark.parametrize("preserve", ["teeth", "mouth", "lower_face", "mask"])
def test_outside_the_area_nothing_of_the_photograph_shows(preserve, astronaut, model_files):
    """Another photograph that agrees in the preserved area gives the same result, to the last pixel."""
    photo, landmarks = found_in(astronaut, model_files)
    mask = np.zeros(astronaut.shape[:2], np.uint8)
    mask[148:172, 205:245] = 255
    photo |= {"mask": encode_png(mask)} if preserve == "mask" else {}
    photos = tables.from_rows([photo], tables.PHOTOS)
    regions = preserve_regions(photos, landmarks, preserve, stage_options("regions", '{"min_pixels": 16}'))
    (region,) = regions.to_pylist()
    core, band = (decode_png(region[name]) > 0 for name in ("core", "band"))
    assert core.any()
    assert band.any()
    if preserve == "mask":
        square, _ = cut_square(mask, region["crop_left"], region["crop_top"], region["crop_side"])
        assert ((core | band) == (square > 0)).all()  # the clinician's drawing, neither more nor less
    face = encode_png(picture(3, side=1024))
    faces = tables.from_rows(
        [{"release_photo_id": "photo", "attempt": 0, "image": face, "status": tables.OK}], tables.FACES
    )
    left, top, side = region["crop_left"], region["crop_top"], region["crop_side"]
    other = 255 - astronaut
    rows, columns = np.nonzero(core | band)
    other[rows + top, columns + left] = astronaut[rows + top, columns + left]
    results = []
    for image in (astronaut, other):
        again = tables.from_rows([photo | {"image": encode_png(image)}], tables.PHOTOS)
        (row,) = blend_faces(again, landmarks, regions, faces, stage_options("blending", "{}")).to_pylist()
        results.append(decode_png(row["image"]))
    assert (results[0] == results[1]).all()
    assert (results[0][core] == cut_square(astronaut, left, top, side)[0][core]).all()


def test_outside_the_photograph_the_face_fills():
    core, band = disc(96, 20)
    inside = np.ones((96, 96), bool)
    inside[:, 60:] = False
    core[:, 60:] = 0
    source, face = picture(1), picture(2)
    other = source.copy()
    other[:, 60:] = 0
    results = [blend(photo, inside, face, core, band, NEUTRAL, OPTIONS) for photo in (source, other)]
    assert (results[0] == results[1]).all()


def test_warp_puts_the_aligned_frame_into_the_native_grid():
    y, x = np.mgrid[:1024, :1024]
    face = np.stack([x / 4, y / 4, np.zeros_like(x)], axis=2).astype(np.uint8)
    matrix = np.array([[0.5, 0.0, 30.0], [0.0, 0.5, 10.0]])
    warped = warp_to_square(face, matrix, 40, 20, 400)
    # Native (140, 120) is square (100, 100) and aligned (220, 220).
    assert np.abs(warped[100, 100, :2].astype(int) - 55).max() <= 1
