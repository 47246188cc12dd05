"""The generator against the published network, run by OpenVINO in float32."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deidlib.generators import latent_prior
from deidlib.generators.haar import haar_analysis, haar_synthesis
from deidlib.generators.mobilestylegan import MobileStyleGAN, _NoiseAndLeaky
from deidlib.generators.openvino_ir import read_constants


def openvino_run(xml, array):
    import openvino

    model = openvino.Core().compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return next(iter(model({0: array}).values()))


def test_agrees_with_openvino(model_files, generator):
    files = model_files("mobilestylegan")
    z = torch.randn(2, 512, generator=torch.Generator().manual_seed(11))
    w_there = openvino_run(files["MappingNetwork.xml"], z[:1].numpy())
    w = generator.map(z)
    assert np.abs(w[:1].numpy() - w_there).max() < 1e-4
    image = generator.synthesise(w[:1, None].expand(-1, generator.n_styles, -1))
    there = openvino_run(files["SynthesisNetwork.xml"], w[:1].numpy())
    assert image.shape == there.shape == (1, 3, 1024, 1024)
    assert np.abs(image.numpy() - there).max() < 1e-3
    assert there.std() > 0.2


def test_every_style_matters_and_gradients_reach_it(generator):
    w = generator.map(torch.randn(1, 512, generator=torch.Generator().manual_seed(3)))
    code = w[:, None].repeat(1, generator.n_styles, 1).requires_grad_()
    generator.synthesise(code).square().mean().backward()
    assert (code.grad.abs().amax(dim=2) > 0).all()


def test_preview_resembles_the_full_image(generator):
    w = generator.map(torch.randn(2, 512, generator=torch.Generator().manual_seed(4))) * 0.8
    code = w[:, None].expand(-1, generator.n_styles, -1)
    with torch.no_grad():
        full = torch.nn.functional.avg_pool2d(generator.synthesise(code), 4)
        error = (generator.preview(code) - full).square().mean()
    assert 10 * torch.log10(4 / error) > 24  # dB; the trained head's figure is in tests/bench/RESULTS.md


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_haar_transform_inverts(channels, rows, columns):
    x = torch.randn(2, channels, 2 * rows, 2 * columns)
    assert torch.allclose(haar_synthesis(haar_analysis(x)) / 4, x, atol=1e-5)


def test_haar_transform_has_its_slope():
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(haar_synthesis, x)


def test_haar_transform_doubles_the_size():
    """Its low-pass band is the mean over 2×2 pixels; the other bands leave that as it is."""
    x = torch.randn(2, 12, 5, 4)
    image = haar_synthesis(x)
    assert image.shape == (2, 3, 10, 8)
    assert torch.allclose(torch.nn.functional.avg_pool2d(image, 2), x[:, :3], atol=1e-6)


@pytest.mark.parametrize("corners", [[[0, 0], [288, 288]], [[145, 262], [146, 255]], [[288, 1], [3, 288]]])
def test_close_up_is_the_image_itself(generator, corners):
    """At the frame's edges too, where the layers see zeros beyond it; each photograph has its own corner."""
    w = generator.map(torch.randn(2, 512, generator=torch.Generator().manual_seed(6)))
    code = w[:, None].expand(-1, generator.n_styles, -1)
    with torch.no_grad():
        preview, parts = generator.close_up(code, torch.tensor(corners), 224)
        whole = torch.nn.functional.avg_pool2d(generator.synthesise(code), 2)
        assert torch.equal(preview, generator.preview(code))
    for part, image, (x, y) in zip(parts, whole, corners, strict=True):
        assert (part - image[:, y : y + 224, x : x + 224]).abs().max() < 1e-4


def test_close_up_has_the_slope_of_the_image(generator):
    w = generator.map(torch.randn(1, 512, generator=torch.Generator().manual_seed(7)))
    code, corners = w[:, None].repeat(1, generator.n_styles, 1).requires_grad_(), torch.tensor([[150, 260]])
    pattern = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(8))
    _, part = generator.close_up(code, corners, 224)
    whole = torch.nn.functional.avg_pool2d(generator.synthesise(code), 2)[:, :, 260:484, 150:374]
    near, far = (torch.autograd.grad((x * pattern).sum(), code)[0] for x in (part, whole))
    assert torch.allclose(near, far, rtol=1e-3, atol=1e-3 * far.abs().max())


def test_slope_of_one_image_is_that_of_its_part_in_a_batch(generator):
    """A single image takes its own way to the gradient; in float32 both agree."""
    w = generator.map(torch.randn(2, 512, generator=torch.Generator().manual_seed(12)))
    codes, corners = w[:, None].repeat(1, generator.n_styles, 1), torch.tensor([[150, 260], [120, 250]])

    def slope(which):
        code = codes[which].requires_grad_()
        drawn = generator.close_up(code, corners[which], 224)
        return torch.autograd.grad(sum(image.square().sum() for image in drawn), code)[0]

    together = slope([0, 1])
    alone = torch.cat([slope([0]), slope([1])])
    assert torch.allclose(alone, together, rtol=1e-3, atol=1e-3 * together.abs().max())


def test_noise_and_activation_have_their_slope():
    noise = torch.randn(1, 1, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(13))
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(14), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: _NoiseAndLeaky.apply(x.clone(), noise), x)
    assert torch.equal(_NoiseAndLeaky.apply(x.clone(), noise), torch.nn.functional.leaky_relu(x + noise, 0.2))


def test_prior_whitens(generator):
    prior = latent_prior(generator, n=4000)
    assert np.allclose(prior.whiten @ prior.axes, np.eye(512), atol=1e-6)
    w = generator.map(torch.randn(500, 512, generator=torch.Generator().manual_seed(5))).numpy()
    assert 0.5 < prior.distance(w, prior.mean).mean() < 1.2


def test_truncated_weights_are_refused(model_files, tmp_path):
    files = model_files("mobilestylegan")
    xml = tmp_path / "MappingNetwork.xml"
    xml.write_bytes(files["MappingNetwork.xml"].read_bytes())
    xml.with_suffix(".bin").write_bytes(files["MappingNetwork.bin"].read_bytes()[:100_000])
    with pytest.raises(ValueError, match="models fetch"):
        list(read_constants(xml))


def test_foreign_network_is_refused(model_files):
    files = model_files("mobilestylegan")
    with pytest.raises(ValueError, match="not the mapping network"):
        MobileStyleGAN(files["SynthesisNetwork.xml"], files["SynthesisNetwork.xml"])
