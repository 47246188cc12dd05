"""Blending: the patient's pixels stay exact, nothing of them gets out, and no seam is seen."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deidlib.blending import blend, seam_score, warp_to_square
from deidlib.regions import distance_outside

OPTIONS = {"gain_limit": 1.25, "tint_limit": 1.02, "reach": 3.0}


def disc(side, radius):
    y, x = np.mgrid[:side, :side] - side / 2
    core = np.where(np.hypot(x, y) < radius, 255, 0).astype(np.uint8)
    outside = distance_outside(core)
    return core, np.where((outside > 0) & (outside <= 12), 255, 0).astype(np.uint8)


def picture(seed, side=96, low=60, high=200):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (side, side, 3), dtype=np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 30))
def test_core_is_exact(seed, radius):
    core, band = disc(96, radius)
    source, face = picture(seed), picture(seed + 1)
    result = blend(source, np.ones((96, 96), bool), face, core, band, OPTIONS)
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
    assert (blend(first, inside, face, core, band, OPTIONS) == blend(second, inside, face, core, band, OPTIONS)).all()


def test_equal_pictures_stay_equal():
    core, band = disc(96, 20)
    face = picture(5)
    assert (blend(face, np.ones((96, 96), bool), face, core, band, OPTIONS) == face).all()


def test_colour_cast_is_matched():
    """A face with another light and cast ends without a step at the core, and a bare paste has one."""
    core, band = disc(160, 30)
    y, x = np.mgrid[:160, :160] / 160
    source = np.stack([150 + 40 * x, 110 + 30 * y, 95 + 20 * x], axis=2).astype(np.uint8)
    face = np.clip(source * np.array([0.82, 0.9, 1.1]) - 6, 0, 255).astype(np.uint8)
    pasted = face.copy()
    pasted[core > 0] = source[core > 0]
    result = blend(source, np.ones((160, 160), bool), face, core, band, OPTIONS)
    assert seam_score(pasted, source, core, band) > 2
    assert seam_score(result, source, core, band) < 1.1
    assert seam_score(source, source, core, band) == 1


def test_outside_the_photograph_the_face_fills():
    core, band = disc(96, 20)
    inside = np.ones((96, 96), bool)
    inside[:, 60:] = False
    core[:, 60:] = 0
    source, face = picture(1), picture(2)
    other = source.copy()
    other[:, 60:] = 0
    assert (blend(source, inside, face, core, band, OPTIONS) == blend(other, inside, face, core, band, OPTIONS)).all()


def test_warp_puts_the_aligned_frame_into_the_native_grid():
    y, x = np.mgrid[:1024, :1024]
    face = np.stack([x / 4, y / 4, np.zeros_like(x)], axis=2).astype(np.uint8)
    matrix = np.array([[0.5, 0.0, 30.0], [0.0, 0.5, 10.0]])
    warped = warp_to_square(face, matrix, 40, 20, 400)
    # Native (140, 120) is square (100, 100) and aligned (220, 220).
    assert np.abs(warped[100, 100, :2].astype(int) - 55).max() <= 1
