"""Windows: pixels as they are, and their slope."""

import torch

from deidlib.generators.window import window


def test_windows_are_cut_where_they_begin():
    images = torch.arange(2 * 3 * 6 * 7.0).reshape(2, 3, 6, 7)
    cut = window(images, torch.tensor([[0, 2], [3, 1]]), 4)
    assert torch.equal(cut[0], images[0, :, 2:6, 0:4])
    assert torch.equal(cut[1], images[1, :, 1:5, 3:7])


def test_slope_reaches_the_pixels_taken_and_no_others():
    images = torch.randn(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    corners = torch.tensor([[0, 2], [3, 1]])
    assert torch.autograd.gradcheck(lambda x: window(x, corners, 4), images)
