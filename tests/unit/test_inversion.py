"""Inversion: it fits the preserved area, stays near the donor, and treats each photograph by itself."""

import numpy as np
import pytest
import torch

from deidlib.donors.bank import read_bank, to_uint8
from deidlib.generators import latent_prior
from deidlib.inversion import BOX_SIDE, WORK_SIDE, Targets, box_origins, invert
from deidlib.perceptual import STLPIPS

SETTINGS = {
    "steps": 6,
    "refine_steps": 1,
    "learning_rate": 0.05,
    "refine_rate": 0.5,
    "perceptual": 2.0,
    "pixel": 2.0,
    "stay": 0.05,
    "spread": 0.2,
    "batch": 1,
    "bf16": False,
}


@pytest.fixture(scope="module")
def perceptual(model_files):
    return STLPIPS(next(iter(model_files("stlpips").values())))


@pytest.fixture(scope="module")
def prior(generator):
    return latent_prior(generator, n=4000)


@pytest.fixture(scope="module")
def targets(generator):
    """Two virtual patients, each towards another person's code."""
    w = torch.from_numpy(read_bank().w[[11, 12, 13, 14]].astype(np.float32))
    with torch.no_grad():
        images = generator.synthesise(w[:2, None].expand(-1, generator.n_styles, -1))
    images = to_uint8(torch.nn.functional.avg_pool2d(images, 1024 // WORK_SIDE))
    y, x = np.mgrid[:WORK_SIDE, :WORK_SIDE]
    weight = (np.hypot((x - 256) / 70, (y - 370) / 45) < 1).astype(np.float32)
    return Targets(
        images=images,
        weights=np.stack([weight, weight]),
        centres=np.array([[256.0, 370.0], [256.0, 370.0]]),
        donors=w[2:].numpy(),
        grey=np.array([False, False]),
    )


def test_area_is_fitted_and_the_code_stays_near_the_donor(generator, perceptual, prior, targets):
    start = invert(
        generator, perceptual, prior, targets, SETTINGS | {"steps": 0, "refine_steps": 1, "refine_rate": 0.0}
    )
    after = invert(generator, perceptual, prior, targets, SETTINGS | {"steps": 15})
    assert (after.loss < start.loss).all()
    assert (after.psnr > start.psnr + 1).all()
    assert after.images.shape == (2, 1024, 1024, 3)
    assert after.latents.shape == (2, generator.n_styles, 512)
    assert (after.distance < 0.6).all()
    distances = np.sqrt(np.mean(prior.distance(after.latents, targets.donors[:, None]) ** 2, axis=1))
    assert np.allclose(distances, after.distance, rtol=0.02)


def test_result_does_not_depend_on_company_or_order(generator, perceptual, prior, targets):
    both = invert(generator, perceptual, prior, targets, SETTINGS)
    second = invert(generator, perceptual, prior, targets.part(1, 2), SETTINGS)
    assert (both.images[1] == second.images[0]).all(), "one at a time: the same bytes"
    batched = invert(generator, perceptual, prior, targets, SETTINGS | {"batch": 2})
    difference = np.abs(batched.images.astype(int) - both.images.astype(int))
    assert difference.mean() < 1, "in a batch: the same but for rounding"


def test_grey_photographs_give_grey_faces(generator, perceptual, prior, targets):
    one = targets.part(0, 1)
    grey = Targets(one.images, one.weights, one.centres, one.donors, np.array([True]))
    image = invert(generator, perceptual, prior, grey, SETTINGS | {"steps": 2}).images[0]
    assert np.ptp(image.astype(int), axis=2).max() == 0


def test_progress_counts_photographs(generator, perceptual, prior, targets):
    counted = []
    invert(generator, perceptual, prior, targets, SETTINGS | {"steps": 1, "refine_steps": 0}, counted.append)
    assert counted == [1, 1]


def test_boxes_stay_inside_the_frame():
    origins = box_origins(np.array([[0.0, 0.0], [511.0, 511.0], [256.4, 371.0]]))
    assert origins.min() >= 0
    assert origins.max() <= WORK_SIDE - BOX_SIDE
    assert (origins % 2 == 0).all(), "the preview halves them"


def test_perceptual_distance_orders_images(perceptual, targets):
    a, b = (torch.from_numpy(i).permute(2, 0, 1)[None].float() / 127.5 - 1 for i in targets.images)
    shifted, noisy = (
        torch.roll(a, 1, dims=3),
        a + 0.3 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1)),
    )
    assert perceptual(a, a).item() == 0
    assert perceptual(a, shifted).item() < perceptual(a, noisy).item()
    assert perceptual(a, shifted).item() < perceptual(a, b).item()
