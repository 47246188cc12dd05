"""The optimiser: goes down, and leaves coordinates that matter little nearly where they are."""

import numpy as np
import pytest
import torch

from deidlib.inversion.optimiser import Adam, step_sizes


def test_coordinates_that_hardly_matter_move_little():
    offset = torch.zeros(1, 2, 512)
    gradient = torch.full_like(offset, 0.001)
    gradient[:, :, :256] = 1.0
    Adam(offset).step(gradient, 0.05)
    steep, flat = offset[:, :, :256], offset[:, :, 256:]
    assert steep.numpy() == pytest.approx(-0.05, rel=0.05)
    assert (flat < 0).all()
    assert (flat.abs() < 0.01 * 0.05).all(), "Adam would move them as far as the others"


def test_layers_do_not_share_and_the_least_of_a_parabola_is_found():
    offset = torch.zeros(1, 2, 8)
    height = torch.tensor([1.0, 1e-3])[None, :, None]  # a steep layer and a flat one
    optimiser = Adam(offset)
    for rate in step_sizes(200, 0.05):
        optimiser.step(height * (offset - 1), rate)
    assert offset.numpy() == pytest.approx(1.0, abs=0.02)


def test_steps_stay_and_then_fall_to_a_tenth():
    sizes = np.array(step_sizes(20, 0.05))
    assert (sizes[:12] == 0.05).all()
    assert (np.diff(sizes[12:]) < 0).all()
    assert sizes[-1] == pytest.approx(0.05 / 8)
    assert min(step_sizes(100, 1.0)) >= 0.1
