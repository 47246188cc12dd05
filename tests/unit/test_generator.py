"""The generator against the published network, run by OpenVINO in float32."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deidlib.generators import latent_prior
from deidlib.generators.mobilestylegan import MobileStyleGAN
from deidlib.generators.openvino_ir import read_constants
from deidlib.generators.preview import haar_analysis, haar_synthesis


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
    assert torch.allclose(haar_synthesis(haar_analysis(x)), x, atol=1e-5)


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
