"""The realism check: it lets the generator's own faces and photographs pass, and no face that left the domain."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from stylegan2_files import random_network, write_nvidia

from deidlib.checks.realism import SIDE, seen, view_matrix
from deidlib.cli.common import stage_options
from deidlib.donors.bank import read_bank, to_uint8
from deidlib.regions.area import area_of_landmarks, distance_outside
from deidlib.training.specimens import draw, weakened
from deidlib.vision.alignment import aligned_to_native, eye_centres

#: Codes of faces that were met broken, and looked at, (N, n_styles, 512).
BROKEN = Path(__file__).with_name("broken_codes.npz")


@pytest.fixture(scope="module")
def bound():
    return stage_options("checks", "{}")["realism_min"]


def area(side: int = 256) -> np.ndarray:
    """Core and band where an aligned face has its mouth."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    return (np.hypot((x - 0.5) / 0.17, (y - 0.72) / 0.11) < 1).astype(np.uint8)


def scores(realism, faces: np.ndarray) -> np.ndarray:
    """Of faces in the aligned frame, (N, side, side, 3)."""
    side = faces.shape[1]
    return realism.score_views(np.stack([seen(face, area(side), view_matrix(side)) for face in faces]))


def test_donors_pass(generator, realism, bound):
    """At the bound 2 % of unselected samples fail: of sixteen, one may."""
    w = np.repeat(read_bank().w[100 + 37 * np.arange(16), None], generator.n_styles, axis=1)
    assert (scores(realism, draw(generator, w, bf16=False)) >= bound).sum() >= 15


def test_codes_that_were_met_broken_fail(generator, realism, bound):
    with np.load(BROKEN) as stored:
        codes = stored["codes"].astype(np.float64)
    assert len(codes) >= 8
    assert (scores(realism, draw(generator, codes, bf16=False)) < bound).all()


def test_codes_of_broken_texture_fail(generator, realism, bound):
    """A network that was trained for a tenth as long let them pass."""
    with np.load(BROKEN) as stored:
        codes = stored["missed"].astype(np.float64)
    assert (scores(realism, draw(generator, codes, bf16=False)) < bound).all()


def test_full_image_and_preview_agree(generator, realism, bound):
    with np.load(BROKEN) as stored:
        broken = stored["codes"][:1].astype(np.float64)
    sound = np.repeat(read_bank().w[[100], None], generator.n_styles, axis=1)
    found = scores(realism, draw(generator, np.concatenate([broken, sound]), full=True, bf16=False))
    assert found[0] < bound <= found[1]


def test_worse_generators_fail(generator, realism, bound, tmp_path):
    """One whose kernels are disturbed, and a StyleGAN2 that never learned a face."""
    from deidlib.generators.checkpoints import read_checkpoint
    from deidlib.generators.stylegan2 import StyleGAN2

    w = np.repeat(read_bank().w[100 + 37 * np.arange(4), None], generator.n_styles, axis=1)
    assert (scores(realism, draw(weakened(generator, 0.6, seed=3), w, bf16=False)) < bound).all()
    path = write_nvidia(tmp_path / "net.pkl", random_network(64, w_dim=512))
    other = StyleGAN2(read_checkpoint(path))
    with torch.no_grad():
        codes = other.map(torch.from_numpy(np.random.default_rng(2).standard_normal((4, 512)).astype(np.float32)))
        faces = to_uint8(other.synthesise(codes[:, None].expand(-1, other.n_styles, -1)))
    assert (scores(realism, faces) < bound).all()


@pytest.fixture(scope="module")
def portrait(landmarker, astronaut):
    """The photograph, its landmarks, and core with band."""
    (face,) = landmarker.detect(astronaut)
    inter_ocular = np.hypot(*np.subtract(*eye_centres(face.points)))
    core = area_of_landmarks(face.points, astronaut.shape[0], "mouth", 0.06 * inter_ocular)
    return astronaut, face.points, (distance_outside(core) <= 0.22 * inter_ocular).astype(np.uint8)


def test_a_photograph_passes_at_any_size_and_the_preserved_area_does_not_count(realism, bound, portrait):
    image, points, preserved = portrait
    whole = realism.score(image, points, preserved)
    assert whole >= bound
    painted = np.where(preserved[:, :, None] > 0, np.uint8(200), image)
    assert realism.score(painted, points, cv2.dilate(preserved, None, iterations=3)) == pytest.approx(
        realism.score(image, points, cv2.dilate(preserved, None, iterations=3)), abs=0.05
    )
    for scale in (0.5, 2.0):
        side = round(scale * len(image))
        other = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        area = cv2.resize(preserved, (side, side), interpolation=cv2.INTER_NEAREST)
        assert realism.score(other, (points + 0.5) * scale - 0.5, area) >= bound


def test_a_photograph_whose_eyes_are_smeared_fails(realism, bound, portrait):
    image, points, preserved = portrait
    smeared = image.copy()
    for centre in eye_centres(points):
        x, y = np.round(centre).astype(int)
        patch = np.s_[y - 22 : y + 22, x - 22 : x + 22]
        smeared[patch] = cv2.GaussianBlur(image, (0, 0), 9)[patch]
    assert realism.score(smeared, points, preserved) < bound


def test_scores_do_not_depend_on_company(generator, realism):
    faces = draw(generator, np.repeat(read_bank().w[[3, 5, 7], None], generator.n_styles, axis=1), bf16=False)
    together = scores(realism, faces)
    assert together == pytest.approx([scores(realism, face[None])[0] for face in faces], abs=1e-4)


def test_the_view_is_where_the_face_is(astronaut, landmarker):
    """The eyes of an aligned photograph lie in the view where those of a generated face do."""
    (face,) = landmarker.detect(astronaut)
    to_image = aligned_to_native(face.points) @ np.vstack([view_matrix(1024), [0, 0, 1]])
    eyes = np.array(eye_centres(face.points)) - to_image[:, 2]
    places = eyes @ np.linalg.inv(to_image[:, :2]).T
    assert places == pytest.approx(np.array([[44, 61], [84, 61]]), abs=4)
    assert SIDE == 128
