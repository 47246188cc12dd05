"""StyleGAN2 checkpoints of users: drawn as the paper's equations say, in both layouts, and nothing in a file is run."""

import hashlib
import io
import os
import pickle
import pickletools

import numpy as np
import pytest
import torch
import yaml
from stylegan2_files import (
    nvidia_modules,
    portrait_network,
    random_network,
    reference_image,
    reference_map,
    rosinality_tensors,
    write_nvidia,
    write_rosinality,
)

from deidlib.generators.checkpoints import read_checkpoint
from deidlib.generators.convert import convert_checkpoint
from deidlib.generators.inert_pickle import Record, read_inert
from deidlib.generators.stylegan2 import StyleGAN2
from deidlib.generators.weights import CheckpointError, from_tensors, to_tensors
from deidlib.storage.tensors import read_tensors, write_tensors

NET = random_network()


@pytest.fixture
def pkl(tmp_path):
    return write_nvidia(tmp_path / "net.pkl", NET)


def codes_of(generator, n=1, seed=5):
    """W+ codes whose vectors all differ, so that each layer's place among them counts."""
    z = torch.randn(n * generator.n_styles, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return generator.map(z).reshape(n, generator.n_styles, -1)


# What is drawn --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "protocol"), [(4, 4), (16, 3), (32, 4)])
def test_image_is_that_of_the_equations(tmp_path, side, protocol):
    net = random_network(side)
    generator = StyleGAN2(read_checkpoint(write_nvidia(tmp_path / "net.pkl", net, protocol=protocol)))
    assert generator.n_styles == 2 * np.log2(side) - 2
    assert generator.own_resolution == side
    codes = codes_of(generator)
    reference = reference_image(net, codes[0].double().numpy())
    assert reference.std() > 0.3
    assert np.abs(generator.draw(codes)[0].numpy() - reference).max() < 1e-4


def test_mapping_and_truncation_are_those_of_the_equations(pkl):
    generator = StyleGAN2(read_checkpoint(pkl))
    z = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    reference = reference_map(NET, z.numpy())
    assert np.abs(generator.map(z).numpy() - reference).max() < 1e-5
    halfway = (reference + NET["mapping.w_avg"]) / 2
    assert np.abs(generator.map(z, truncation=0.5).numpy() - halfway).max() < 1e-5
    assert torch.equal(generator.map(z, truncation=0), generator.w_mean.expand(4, -1))


def test_clamp_of_the_checkpoint_is_applied(tmp_path):
    generator = StyleGAN2(read_checkpoint(write_nvidia(tmp_path / "net.pkl", NET, clamp=0.7)))
    codes = codes_of(generator)
    reference = reference_image(NET, codes[0].double().numpy(), clamp=0.7)
    assert np.abs(reference - reference_image(NET, codes[0].double().numpy())).max() > 0.1
    assert np.abs(generator.draw(codes)[0].numpy() - reference).max() < 1e-4


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_both_layouts_of_the_same_weights_draw_the_same_image(tmp_path, pkl, old_format, trained):
    one = StyleGAN2(read_checkpoint(pkl))
    path = write_rosinality(tmp_path / "net.pt", NET, trained, old_format)
    other = StyleGAN2(read_checkpoint(path))
    codes = codes_of(one, n=2)
    assert torch.allclose(one.draw(codes), other.draw(codes), atol=1e-5)
    z = torch.randn(3, 16)
    assert torch.allclose(one.map(z), other.map(z), atol=1e-6)
    if trained:  # without a stored mean it is estimated
        draws = other.map(torch.randn(20000, 16, generator=torch.Generator().manual_seed(3)))
        assert (other.w_mean - draws.mean(dim=0)).abs().max() < 0.1 * draws.std()
    else:
        assert torch.equal(one.w_mean, other.w_mean)


def test_every_style_matters_and_gradients_reach_it(pkl):
    generator = StyleGAN2(read_checkpoint(pkl))
    codes = codes_of(generator).requires_grad_()
    generator.draw(codes).square().mean().backward()
    assert (codes.grad.abs().amax(dim=2) > 1e-6).all()


def test_a_photograph_does_not_depend_on_its_batch(pkl):
    generator = StyleGAN2(read_checkpoint(pkl))
    codes = codes_of(generator, n=3)
    alone = torch.cat([generator.draw(code[None]) for code in codes])
    assert torch.allclose(generator.draw(codes), alone, atol=1e-5)


def test_half_precision_stays_near(pkl):
    generator = StyleGAN2(read_checkpoint(pkl))
    codes = codes_of(generator)
    exact = generator.draw(codes)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator.draw(codes)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.01 * exact.std()


# What is refused ------------------------------------------------------------------------------------------------------


class Attack:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("suffix", ["pkl", "pt"])
def test_a_pickle_that_runs_a_command_is_refused_unrun(tmp_path, suffix):
    ran, path = tmp_path / "ran", tmp_path / f"net.{suffix}"
    attack = Attack(os.system, f"touch {ran}")
    if suffix == "pkl":
        path.write_bytes(pickle.dumps({"G_ema": attack}))
    else:
        torch.save({"g_ema": rosinality_tensors(NET), "extra": attack}, path)
    with pytest.raises(CheckpointError, match=r"net\.(pkl|pt): ?.*(posix\.system|more than tensors)"):
        read_checkpoint(path)
    assert not ran.exists()
    pickle.loads(pickle.dumps(attack))
    assert ran.exists(), "the attack is one: the ordinary pickle runs it"


def test_an_attack_inside_the_bytes_of_a_tensor_is_refused_unrun(tmp_path):
    """PyTorch's own reader of a tensor's bytes is a full unpickler: a name that looks harmless, and is not."""
    ran, path = tmp_path / "ran", tmp_path / "net.pkl"
    inner = io.BytesIO()
    torch.save(Attack(os.system, f"touch {ran}"), inner)
    path.write_bytes(pickle.dumps({"G_ema": Attack(torch.storage._load_from_bytes, inner.getvalue())}))
    with pytest.raises(CheckpointError, match=r"net\.pkl"):
        read_checkpoint(path)
    assert not ran.exists()
    pickle.loads(path.read_bytes())
    assert ran.exists(), "the attack is one: the ordinary pickle runs it"


@pytest.mark.parametrize("function", [eval, getattr, __import__, np.load, torch.load, torch.hub.load])
def test_only_listed_names_are_known(tmp_path, function):
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(Attack(function, "1")))
    with pytest.raises(CheckpointError, match=r"refers to .*not run"):
        read_inert(path)


def test_what_a_pickle_does_to_the_names_it_is_given_ends_with_it(tmp_path, pkl):
    """BUILD sets attributes on whatever is there; the next file must not feel it."""
    path = tmp_path / "other.pkl"
    slots = pickle.dumps((None, {"get": None, "__len__": None}), protocol=4)[2:-1]
    path.write_bytes(b"\x80\x04cdnnlib.util\nEasyDict\n" + slots + b"b.")
    assert "BUILD" in [op.name for op, *_ in pickletools.genops(path.read_bytes())]
    read_inert(path)
    assert StyleGAN2(read_checkpoint(pkl)).n_styles == 6


def test_the_source_text_in_a_checkpoint_stays_text(pkl):
    assert b"raise SystemExit" in pkl.read_bytes()
    network = read_inert(pkl)["G_ema"]
    assert isinstance(network, Record)
    assert network.class_name == "Generator"
    with nvidia_modules(), pytest.raises(SystemExit, match="was run"):
        pickle.loads(pkl.read_bytes())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("writer", [write_nvidia, write_rosinality])
def test_truncated_file_is_a_clear_error(tmp_path, writer, share):
    path = writer(tmp_path / "net.bin", NET)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"net\.bin.*copy or download it again"):
        read_checkpoint(path)


@pytest.mark.parametrize("writer", [write_nvidia, write_rosinality])
def test_changed_bytes_change_a_weight_or_are_an_error(tmp_path, writer):
    path, rng = tmp_path / "net.bin", np.random.default_rng(7)
    whole = np.frombuffer(writer(path, random_network(8, 2, 4, 1)).read_bytes(), np.uint8)
    refusals = []
    for _ in range(80):
        changed = whole.copy()
        changed[rng.integers(0, len(whole), 2)] = rng.integers(0, 256, 2)
        path.write_bytes(changed.tobytes())
        try:
            StyleGAN2(read_checkpoint(path))
        except CheckpointError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all(text.startswith("net.bin") for text in refusals)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or no pickle"),
        (b"<!DOCTYPE html><html>Not found</html>", "damaged or no pickle"),
        (pickle.dumps({"weights": [1, 2]}), "no network G_ema"),
        (pickle.dumps([1, 2]), "no network G_ema"),
        (b"\x80\x03cdnnlib.tflib.network\nNetwork\n.", r"TensorFlow checkpoint.*legacy\.py"),
    ],
)
def test_foreign_file_is_a_clear_error(tmp_path, content, message):
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"net\.pkl.*{message}"):
        read_checkpoint(path)


def without(*names):
    def edit(generator):
        for name in names:
            owner, _, last = name.rpartition(".")
            delattr(generator.get_submodule(owner), last)

    return edit


def with_architecture(generator):
    generator.synthesis.b8.architecture = "resnet"


def with_another_filter(generator):
    generator.synthesis.b8.conv0.resample_filter.copy_(torch.eye(4))


def with_a_further_layer(generator):
    generator.synthesis.b8.skip = torch.nn.Module.get_submodule(generator, "synthesis.b8.conv0")


def with_another_shape(generator):
    generator.synthesis.b8.conv0.weight = torch.nn.Parameter(torch.zeros(8, 8, 1, 1))


def with_no_numbers(generator):
    generator.synthesis.b8.conv0.weight.fill_(np.nan)


def as_stylegan3(generator):
    generator.synthesis.input = generator.synthesis.b4


@pytest.mark.parametrize(
    ("edit", "changes", "message"),
    [
        (None, {"c_dim": 10}, "conditional"),
        (None, {"img_channels": 1}, "no RGB"),
        (as_stylegan3, {}, r"no StyleGAN2 network .*--cfg=stylegan2"),
        (with_architecture, {}, "'resnet'; only skip"),
        (with_another_filter, {}, r"b8\.conv0\.resample_filter is a resampling filter other"),
        (with_a_further_layer, {}, r"holds synthesis\.b8\.skip"),
        (with_another_shape, {}, r"b8\.conv0\.weight has the shape \(8, 8, 1, 1\)"),
        (with_no_numbers, {}, r"b8\.conv0\.weight holds values that are no numbers"),
        (without("synthesis.b8.torgb.bias"), {}, r"no tensor synthesis\.b8\.torgb\.bias"),
        (without("synthesis.b8.conv0"), {}, "not laid out as a StyleGAN2 checkpoint"),
        (without("synthesis.b8"), {}, r"sizes \[4, 16\]"),
        (without("mapping.fc0", "mapping.fc1"), {}, "no mapping network"),
    ],
)
def test_another_network_is_refused_with_what_does_not_fit(tmp_path, edit, changes, message):
    path = write_nvidia(tmp_path / "net.pkl", NET, edit=edit, **changes)
    with pytest.raises(CheckpointError, match=rf"net\.pkl: .*{message}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"generator": {}}, "no g_ema"),
        ({"g_ema": {"linear.weight": torch.zeros(2, 2)}}, r"no mapping network \(style\.1\.weight\)"),
        ({"g_ema": rosinality_tensors(NET) | {"conv2.weight": torch.zeros(1)}}, "holds conv2.weight"),
        ({"g_ema": rosinality_tensors(NET) | {"noises.noise_1": torch.zeros(1, 1, 4, 4)}}, "noise_1 has the shape"),
        (torch.zeros(3), "no g_ema"),
    ],
)
def test_another_pt_file_is_refused_with_what_does_not_fit(tmp_path, content, message):
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"net\.pt: .*{message}"):
        read_checkpoint(path)


def test_a_tensor_never_reads_beyond_its_bytes(tmp_path):
    path = tmp_path / "net.pkl"
    storage = torch.arange(6.0).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    for size, stride, offset in [
        ((3, 3), (3, 1), 0),
        ((2, 3), (3, 1), 1),
        ((2,), (10,), 0),
        ((6,), (-1,), 5),
        ((7,), (0,), 0),
    ]:
        call = Attack(torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, {})
        path.write_bytes(pickle.dumps(call))
        with pytest.raises(CheckpointError, match="a tensor"):
            read_inert(path)


# As safetensors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "clamp"), [(write_nvidia, 0.7), (write_nvidia, None), (write_rosinality, None)])
def test_converted_weights_are_the_checkpoints_to_the_bit(tmp_path, write, clamp):
    path = write(tmp_path / "net.bin", random_network(32), **({"clamp": clamp} if clamp else {}))
    out = tmp_path / "net.safetensors"
    side, sha256 = convert_checkpoint(path, out)
    assert (side, sha256) == (32, hashlib.sha256(out.read_bytes()).hexdigest())
    tensors, about = read_tensors(out)
    assert about["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    one, other = (StyleGAN2(checkpoint) for checkpoint in (read_checkpoint(path), from_tensors(tensors, about)))
    state, again = one.state_dict(), other.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)
    codes = codes_of(one)
    assert torch.equal(one.draw(codes), other.draw(codes)), "the clamp is kept too"
    convert_checkpoint(path, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_the_command_converts_and_says_what_to_register(pkl):
    from typer.testing import CliRunner

    from deidlib.cli import app

    out = pkl.with_suffix(".safetensors")
    done = CliRunner().invoke(app, ["weights", "convert", str(pkl), str(out)])
    assert done.exit_code == 0, done.output
    assert hashlib.sha256(out.read_bytes()).hexdigest() in done.output
    assert CliRunner().invoke(app, ["weights", "convert", str(pkl), "net.pt"]).exit_code == 2
    out.unlink()
    pkl.write_bytes(pickle.dumps({"G_ema": Attack(os.system, "true")}))
    done = CliRunner().invoke(app, ["weights", "convert", str(pkl), str(out)])
    assert done.exit_code == 1
    assert not out.exists()


def test_other_tensors_than_a_generators_are_refused(tmp_path):
    tensors, about = to_tensors(read_checkpoint(write_nvidia(tmp_path / "net.pkl", NET)))
    for change, message in (
        ({"layers.1.bias": torch.zeros(3)}, r"layers\.1\.bias has the shape \(3,\)"),
        ({"layers.1.weight": torch.full_like(tensors["layers.1.weight"], torch.nan)}, "no numbers"),
        ({"further": torch.zeros(1)}, "holds further"),
    ):
        with pytest.raises(CheckpointError, match=message):
            from_tensors(tensors | change, about)
    with pytest.raises(CheckpointError, match="holds no tensor constant"):
        from_tensors({name: value for name, value in tensors.items() if name != "constant"}, about)
    for wrong, message in (({"layout": "other"}, "layout 'other'"), ({"clamp": "no"}, "clamp")):
        with pytest.raises(CheckpointError, match=message):
            from_tensors(tensors, about | wrong)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_damaged_file_of_tensors_is_a_clear_error(tmp_path, share):
    path = tmp_path / "net.safetensors"
    write_tensors(path, {"a": torch.zeros(1000)}, {"layout": "test"})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"net\.safetensors is damaged .*deidlib weights convert"):
        read_tensors(path)


def test_a_file_of_tensors_from_another_program_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"not written by `deidlib weights convert`"):
        read_tensors(tmp_path / "net.safetensors")


# In the pipeline ------------------------------------------------------------------------------------------------------


def registered(tmp_path, monkeypatch, net, **changes):
    """A user's own registry with converted weights, as config/README.md shows it."""
    checkpoint = tmp_path / "of-example-hospital.safetensors"
    convert_checkpoint(write_nvidia(tmp_path / "of-example-hospital.pkl", net), checkpoint)
    entry = {
        "task": "generator",
        "path": checkpoint.name,
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "licence": "NVIDIA Source Code License-NC",
        "citation": "Karras et al. 2020",
        "use": "research only",
        **changes,
    }
    file = tmp_path / "my-models.yaml"
    file.write_text(yaml.safe_dump({"stylegan2": entry}))
    monkeypatch.setenv("DEIDLIB_MODELS_FILE", str(file))
    return entry


@pytest.fixture(scope="module")
def portrait():
    """The astronaut, grey, in the aligned frame at 256², in [−1, 1]."""
    import skimage.data

    from deidlib.vision.alignment import align_photo

    # The alignment that deidlib.vision.landmarks finds, written down so that this fixture needs no model.
    matrix = np.array([[0.1672, -0.0085, 143.3], [0.0085, 0.1672, 15.9]])
    return align_photo(skimage.data.astronaut(), matrix, 256).mean(axis=2) / 127.5 - 1


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_networks_of_every_size_draw_in_the_aligned_frame(tmp_path, monkeypatch, side):
    """A picture's parts lie at the same place of the frame, and preview and image agree."""
    from deidlib.generators import opened

    picture = np.full((side, side), -0.5)
    picture[side // 4 : side // 2, side // 8 : side // 2] = 0.5
    registered(tmp_path, monkeypatch, portrait_network(picture))
    generator = opened.generator("stylegan2")
    assert generator.n_styles == 2 * np.log2(side) - 2
    assert (generator.resolution, generator.own_resolution, generator.w_dim) == (1024, side, 512)
    w = generator.map(torch.zeros(1, 512))[:, None].expand(-1, generator.n_styles, -1)
    image, preview = generator.synthesise(w), generator.preview(w)
    assert image.shape == (1, 3, 1024, 1024)
    assert preview.shape == (1, 3, 256, 256)
    assert (torch.nn.functional.avg_pool2d(image, 4) - preview).abs().mean() < 0.01
    _assert_close_up_is_the_image(generator, w)
    bright = (preview[0, 0] > preview.mean()).nonzero()
    assert (bright.amin(dim=0).tolist(), bright.amax(dim=0).tolist()) == ([64, 32], [127, 127])


def _assert_close_up_is_the_image(generator, w):
    """In the middle and at the frame's corners, where the layers see zeros beyond it."""
    whole = generator.draw(w)
    if generator.own_resolution < 512:
        whole = torch.nn.functional.interpolate(whole, (512, 512), mode="bicubic")
    whole = torch.nn.functional.avg_pool2d(whole, whole.shape[-1] // 512)
    for x, y in ((151, 262), (288, 288), (1, 0)):
        preview, part = generator.close_up(w, torch.tensor([[x, y]]).expand(len(w), -1), 224)
        assert torch.allclose(preview, generator.preview(w), atol=1e-5)
        assert torch.allclose(part, whole[:, :, y : y + 224, x : x + 224], atol=1e-5)


@pytest.mark.exhaustive
def test_preview_is_fitted_measured_and_used_only_if_good(tmp_path):
    """Where the larger sizes repeat what lies below, the estimate is near; where they do not, it says so."""
    from deidlib.generators.running_rgb import LEAST_PSNR, fit_running_rgb, save_running_rgb, use_running_rgb

    net = random_network(512, channels=4, w_dim=512)
    for name in list(net):
        if "noise_strength" in name:
            net[name] = np.zeros_like(net[name])
        if "torgb" in name and not name.endswith("bias"):
            net[name] = 0.1 * net[name]
    good = StyleGAN2(read_checkpoint(write_nvidia(tmp_path / "good.pkl", net)))
    codes = codes_of(good)
    whole = good.preview(codes)
    running = good.features(codes, 256)[1]
    estimate = fit_running_rgb(good)
    save_running_rgb(estimate, tmp_path / "good.npz")
    use_running_rgb(good, tmp_path / "good.npz")
    assert good.preview_head is not None
    assert (good.preview(codes) - whole).square().mean() < 0.3 * (running - whole).square().mean()
    _assert_close_up_is_the_image(good, codes)

    net["synthesis.b512.conv1.noise_strength"] = np.float32(30).reshape(())
    net["synthesis.b512.torgb.weight"] = 100 * net["synthesis.b512.torgb.weight"]
    bad = StyleGAN2(read_checkpoint(write_nvidia(tmp_path / "bad.pkl", net)))
    estimate = fit_running_rgb(bad)
    assert estimate.psnr < LEAST_PSNR
    save_running_rgb(estimate, tmp_path / "bad.npz")
    use_running_rgb(bad, tmp_path / "bad.npz")
    assert bad.preview_head is None


def test_donor_bank_is_built_by_the_same_command(tmp_path, monkeypatch, portrait):
    from deidlib import models
    from deidlib.cli import attempts
    from deidlib.donors.bank import read_bank
    from deidlib.donors.model import donor_model
    from deidlib.errors import InputError

    monkeypatch.setenv("DEIDLIB_DEBUG", "1")  # leaves standard error to pytest
    entry = registered(tmp_path, monkeypatch, portrait_network(portrait))
    with pytest.raises(InputError, match="deidlib donors build --generator stylegan2"):
        donor_model("stylegan2")
    attempts.build(size=4, generator="stylegan2", device="cpu")
    assert models.bank_file("stylegan2") == tmp_path / f"donors-{entry['sha256'][:12]}.parquet"
    bank = read_bank(models.bank_file("stylegan2"))
    assert bank.w.shape == (4, 512)
    assert len(np.unique(bank.w, axis=0)) == 4
    assert np.abs(bank.scalars["yaw"]).max() < 25


def test_faces_out_of_place_make_no_bank(tmp_path, monkeypatch, portrait):
    from deidlib import models
    from deidlib.cli import attempts

    monkeypatch.setenv("DEIDLIB_DEBUG", "1")
    registered(tmp_path, monkeypatch, portrait_network(np.roll(portrait, 25, axis=1)))
    with pytest.raises(ValueError, match="not on FFHQ-U"):
        attempts.build(size=4, generator="stylegan2", device="cpu")
    assert not models.bank_file("stylegan2").exists()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (random_network(16, w_dim=512), "draws 16² pixels; bring one of 256²"),
        (random_network(256, channels=2, w_dim=16), "z and w of the checkpoint have 16 and 16 values"),
    ],
)
def test_networks_that_the_pipeline_cannot_use_are_refused(tmp_path, monkeypatch, net, message):
    from deidlib.generators import opened

    registered(tmp_path, monkeypatch, net)
    with pytest.raises(ValueError, match=message):
        opened.generator("stylegan2")
