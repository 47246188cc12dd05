"""The seam score: what the eye sees along the preserved area's edge fails the gate, the untouched photograph passes."""

import cv2
import numpy as np
import pytest
from skimage import data

from deidlib.blending.seam import seam_score
from deidlib.cli.common import stage_options
from deidlib.regions.area import distance_outside

BOUND = stage_options("checks", "{}")["seam_max"]


def edges(side, middle, axes, width):
    """Core and band of an elliptic mouth."""
    core = cv2.ellipse(np.zeros((side, side), np.uint8), middle, axes, 0, 0, 360, 255, -1)
    outside = distance_outside(core)
    return core, np.where((outside > 0) & (outside <= width), 255, 0).astype(np.uint8)


@pytest.fixture(params=[256, 512, 1024])
def scene(request):
    """A photograph with texture, edges and flat parts, and an area in the middle of it."""
    portrait = data.astronaut()
    if request.param == 256:  # the face in its own pixels
        return np.ascontiguousarray(portrait[20:276, 100:356]), *edges(256, (124, 124), (34, 17), 12)
    if request.param == 512:
        return portrait, *edges(512, (224, 200), (64, 34), 25)
    larger = cv2.resize(portrait, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    return larger, *edges(1024, (448, 400), (128, 68), 50)


def shifted(image, core, level, beyond=0.0, turn=None):
    """Grey levels added from a distance of the core on, in pixels; within a range of degrees around its centre."""
    outside = distance_outside(core)
    where = outside > beyond
    if turn:
        y, x = np.indices(core.shape)
        middle = [at.mean() for at in np.nonzero(core)]
        degrees = np.degrees(np.arctan2(y - middle[0], x - middle[1])) % 360
        where &= (degrees >= turn[0]) & (degrees < turn[1])
    return np.clip(image.astype(int) + level * where[:, :, None], 0, 255).astype(np.uint8)


def noisy(image, deviation, seed=4):
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def test_the_untouched_photograph_has_no_seam(scene):
    photo, core, band = scene
    assert seam_score(photo, photo, core, band) == 1
    assert seam_score(noisy(photo, 2), photo, core, band) < 1.4
    _, jpeg = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert seam_score(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), photo, core, band) < 1.7 < BOUND


@pytest.mark.parametrize("level", [-20, 20])
@pytest.mark.parametrize("part", [0, 0.3, 0.5, 0.8, 1])
def test_a_step_all_round_fails_wherever_in_the_band_it_is(scene, part, level):
    photo, core, band = scene
    width = distance_outside(core)[band > 0].max()
    assert seam_score(shifted(photo, core, level, part * width), photo, core, band) > 1.1 * BOUND


def test_a_faint_step_at_the_core_fails(scene):
    photo, core, band = scene
    assert all(seam_score(shifted(photo, core, level), photo, core, band) > BOUND for level in (-10, 10))


@pytest.mark.parametrize("start", range(0, 360, 60))
def test_a_step_in_one_part_fails(scene, start):
    photo, core, band = scene
    result = shifted(photo, core, 40, turn=(start, start + 60))
    assert seam_score(result, photo, core, band) > 1.2 * BOUND


def test_a_colour_step_fails_without_a_step_in_brightness(scene):
    photo, core, band = scene
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).astype(int)
    lab[..., 2] += np.where(core == 0, 12, 0)
    result = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    result[core > 0] = photo[core > 0]
    assert seam_score(result, photo, core, band) > BOUND


def test_a_line_along_the_border_fails(scene):
    photo, core, band = scene
    outside = distance_outside(core)
    line = (outside > 0) & (outside <= max(1, len(photo) / 256))
    result = np.clip(photo.astype(int) + 40 * line[:, :, None], 0, 255).astype(np.uint8)
    assert seam_score(result, photo, core, band) > 1.2 * BOUND


def test_grain_that_ends_at_the_core_fails(scene):
    photo, core, band = scene
    grain = np.where(core[:, :, None] > 0, photo, noisy(photo, 8))
    assert seam_score(grain, photo, core, band) > BOUND


def test_a_slope_is_no_step():
    core, band = edges(256, (128, 128), (40, 20), 12)
    photo = np.full((256, 256, 3), (190, 150, 130), np.uint8)
    slope = np.clip(distance_outside(core) / 60, 0, 1)[:, :, None] * 40
    assert seam_score(np.rint(photo - slope).astype(np.uint8), photo, core, band) < 1.3


def test_an_edge_of_the_photograph_along_the_border_is_no_seam_and_hides_none():
    """Lips that end where the area does: the edge is the patient's, a shift of the skin next to it is not."""
    core, band = edges(256, (128, 128), (40, 20), 12)
    skin = np.full((256, 256, 3), (200, 160, 140), np.uint8)
    drawn = np.where(core[:, :, None] > 0, np.uint8((150, 70, 70)), skin)
    photo = noisy(drawn, 2)
    face = np.where(core[:, :, None] > 0, photo, noisy(drawn, 2, seed=5))
    assert seam_score(face, photo, core, band) < 1.4
    assert seam_score(shifted(face, core, -10), photo, core, band) > BOUND
    assert seam_score(shifted(face, core, 10), photo, core, band) > BOUND


def test_an_edge_that_crosses_the_band_is_no_seam():
    """Strands of hair of the new face, sharp and dark, that end in the band."""
    core, band = edges(256, (128, 128), (40, 20), 12)
    photo = noisy(np.full((256, 256, 3), (200, 160, 140), np.uint8), 2)
    face = photo.copy()
    cv2.line(face, (128, 160), (170, 255), (60, 40, 30), 4)
    cv2.line(face, (60, 60), (95, 103), (60, 40, 30), 3)
    assert seam_score(face, photo, core, band) < BOUND


def test_small_photographs_with_a_band_of_three_pixels():
    portrait = cv2.resize(data.astronaut()[20:276, 100:356], (96, 96), interpolation=cv2.INTER_AREA)
    core, band = edges(96, (47, 47), (13, 6), 3)
    assert seam_score(noisy(portrait, 1), portrait, core, band) < 1.5
    assert all(seam_score(shifted(portrait, core, level), portrait, core, band) > BOUND for level in (-40, 40))


def test_an_area_at_the_edge_of_the_photograph_is_scored_where_there_are_pixels():
    photo = np.ascontiguousarray(data.astronaut()[20:276, 100:356])
    core, band = edges(256, (124, 250), (34, 17), 12)
    assert seam_score(photo, photo, core, band) == 1
    assert seam_score(shifted(photo, core, 20), photo, core, band) > BOUND


def test_without_a_border_there_is_no_score():
    photo = data.astronaut()
    nothing, everything = np.zeros((512, 512), np.uint8), np.full((512, 512), 255, np.uint8)
    assert seam_score(photo, photo, nothing, nothing) is None
    assert seam_score(photo, photo, everything, nothing) is None
    speck = nothing.copy()
    speck[200, 200] = 255
    assert seam_score(photo, photo, speck, nothing) is None
