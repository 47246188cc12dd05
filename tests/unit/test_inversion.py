"""Inversion: it fits the preserved area, stays near the donor, and treats each photograph by itself."""

import copy
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from deidlib.cli.common import stage_options
from deidlib.donors.bank import read_bank, to_uint8
from deidlib.inversion.going_on import factors
from deidlib.inversion.identity import _Resampled, crop, fit_template, looks_of_step, sampling_grid
from deidlib.inversion.invert import BatchSize, invert
from deidlib.inversion.mesh import SIDE, Mesh, fit_square
from deidlib.inversion.networks import inversion_networks
from deidlib.inversion.objective import BOX_SIDE, WORK_SIDE, Targets, box_corners, objective, prepare
from deidlib.vision.alignment import LIPS_INNER, LIPS_OUTER

SETTINGS = {
    "steps": 7,
    "learning_rate": 0.05,
    "perceptual_weight": 2.0,
    "pixel_weight": 2.0,
    "latent_weight": 0.05,
    "layer_variance_weight": 0.2,
    "identity_weight": 0.5,
    "upper_face_weight": 20.0,
    "background_weight": 5.0,
    "mouth_landmark_weight": 10.0,
    "batch": 1,
    "bf16": False,
    "compile": False,
}


@pytest.fixture(scope="module")
def perceptual(networks):
    return networks.perceptual


@pytest.fixture(scope="module")
def sface_torch(networks):
    return networks.ensemble.networks["sface"]


@pytest.fixture(scope="module")
def prior(networks):
    return networks.prior


@pytest.fixture(scope="module")
def targets(generator, landmarker):
    """Two virtual patients, each towards another person's code."""
    w = torch.from_numpy(read_bank().w[[11, 12, 13, 14]].astype(np.float32))
    with torch.no_grad():
        images = generator.synthesise(w[:2, None].expand(-1, generator.n_styles, -1))
    images = to_uint8(torch.nn.functional.avg_pool2d(images, 1024 // WORK_SIDE))
    y, x = np.mgrid[:WORK_SIDE, :WORK_SIDE]
    weight = (np.hypot((x - 256) / 70, (y - 370) / 45) < 1).astype(np.float32)
    five = np.array([[193.0, 240.0], [319.0, 240.0], [256.0, 310.0], [205.0, 369.0], [307.0, 369.0]])
    frame = fit_template(five)
    (points,) = (face.points for face in landmarker.detect(images[0]))
    square = fit_square(points)
    return Targets(
        images=images,
        weights=np.stack([weight, weight]),
        centres=np.array([[256.0, 370.0], [256.0, 370.0]]),
        donors=w[2:].numpy(),
        grey=np.array([False, False]),
        fades=np.stack([weight, weight]),
        frames=np.stack([frame, frame]),
        squares=np.stack([square, square]),
        inter_ocular=np.array([126.0, 126.0]),
        likenesses=np.array([0.1, 0.1], np.float32),
    )


@pytest.fixture(scope="module")
def inverted(networks, targets):
    return invert(networks, targets, SETTINGS | {"batch": 2, "steps": 8})


def test_area_is_fitted_and_the_code_stays_near_the_donor(networks, prior, targets, inverted):
    generator, after = networks.generator, inverted
    start = invert(networks, targets, SETTINGS | {"steps": 1, "learning_rate": 0.0})
    assert (after.loss < start.loss).all()
    assert (after.psnr > start.psnr + 1).all()
    assert after.images.shape == (2, 1024, 1024, 3)
    assert after.latents.shape == (2, generator.n_styles, 512)
    assert (after.distance < 0.6).all()
    distances = np.sqrt(np.mean(prior.distance(after.latents, targets.donors[:, None]) ** 2, axis=1))
    assert np.allclose(distances, after.distance, rtol=0.02)


@pytest.mark.exhaustive
def test_the_background_stays_the_donors(networks, targets):
    def drift(background: float) -> np.ndarray:
        made = invert(networks, targets, SETTINGS | {"steps": 12, "background_weight": background})
        with torch.no_grad():
            donors = torch.from_numpy(targets.donors)[:, None].expand(-1, networks.generator.n_styles, -1)
            own = to_uint8(networks.generator.synthesise(donors))
        beside = np.r_[:150, 874:1024]
        apart = made.images[:, :730, beside].astype(np.float32) - own[:, :730, beside]
        return np.abs(apart.reshape(2, 73, 10, 30, 10, 3).mean(axis=(2, 4))).mean(axis=(1, 2, 3))

    assert (drift(20.0) < 0.8 * drift(0.0)).all()


def test_sface_is_the_published_network(sface_torch, sface, yunet, astronaut):
    """The same embedding as OpenCV's own run of the file, on the same aligned face."""
    (box,) = yunet.detect(astronaut)
    photo = torch.from_numpy(astronaut).permute(2, 0, 1)[None].float() / 127.5 - 1
    frame = fit_template(box[4:14].reshape(5, 2).astype(np.float64))
    embedding = sface_torch(crop(photo, torch.tensor(frame[None], dtype=torch.float32)))[0].numpy()
    assert embedding @ sface.embed(astronaut) > 0.999


def test_samples_in_a_fixed_order_have_the_slope_of_samples():
    """What a GPU uses, compared on the CPU; some samples lie outside the images."""
    rng = torch.Generator().manual_seed(4)
    matrices = torch.tensor([[[0.9, -0.2, 6.0], [0.2, 0.9, -3.0]], [[2.1, 0.0, -9.0], [0.0, 2.1, -14.0]]])
    grid = sampling_grid(matrices, 20, 24)
    images = torch.randn(2, 3, 20, 20, generator=rng, requires_grad=True)
    pattern = torch.randn(2, 3, 24, 24, generator=rng)
    gradients = []
    for sample in (_Resampled.apply, lambda *x: torch.nn.functional.grid_sample(*x, align_corners=False)):
        (gradient,) = torch.autograd.grad((sample(images, grid) * pattern).sum(), images)
        gradients.append(gradient)
    assert torch.allclose(*gradients, atol=1e-4)


def test_mesh_is_the_published_network(model_files, landmarker, astronaut, tmp_path):
    """The same landmarks as OpenVINO's own run of the file, on the same square."""
    openvino = pytest.importorskip("openvino")
    model_file = model_files("face_landmarker")["face_landmarker.task"]
    (face,) = landmarker.detect(astronaut)
    photo = torch.from_numpy(astronaut).permute(2, 0, 1)[None].float() / 127.5 - 1
    square = crop(photo, torch.tensor(fit_square(face.points)[None], dtype=torch.float32), SIDE)
    core, name = openvino.Core(), "face_landmarks_detector.tflite"
    network = core.read_model(zipfile.ZipFile(model_file).extract(name, tmp_path))
    exact = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = exact(((square + 1) / 2).permute(0, 2, 3, 1).numpy())[0].reshape(-1, 3)[:, :2]
    found = Mesh(model_file)(square)[0].numpy()
    assert np.abs(found - expected).max() < 0.01
    lips = [*LIPS_OUTER, *LIPS_INNER]
    assert np.array_equal(Mesh(model_file, lips)(square)[0].numpy(), found[lips])


def test_mesh_looks_where_mediapipe_does(model_files, landmarker, astronaut, targets):
    """From landmarks to landmarks: nearly those that MediaPipe gives, which cuts its square around a detector's box."""
    mesh = Mesh(model_files("face_landmarker")["face_landmarker.task"])
    for image in (astronaut, *targets.images):
        points = landmarker.detect(image)[0].points
        square = fit_square(points)
        photo = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
        found = mesh(crop(photo, torch.tensor(square[None], dtype=torch.float32), SIDE))[0].numpy()
        back = (found - square[:, 2]) @ np.linalg.inv(square[:, :2]).T
        apart = np.linalg.norm(back - points, axis=1).mean() / np.linalg.norm(points[263] - points[33])
        assert apart < 0.008


@pytest.mark.exhaustive
def test_mouth_is_read_where_it_was(networks, landmarker, targets):
    """By MediaPipe itself, which finds the face anew in every image."""

    def shifts(strength):
        settings = SETTINGS | {"steps": 25, "mouth_landmark_weight": strength}
        faces = invert(networks, targets, settings).images.reshape(2, WORK_SIDE, 2, WORK_SIDE, 2, 3).mean(axis=(2, 4))
        fade = targets.fades[..., None]
        results = np.rint(fade * targets.images + (1 - fade) * faces).astype(np.uint8)
        points = [[landmarker.detect_steadily(i)[0].points for i in images] for images in (targets.images, results)]
        apart = np.linalg.norm(np.subtract(*points), axis=2)[:, networks.mesh.which]
        return apart.mean(axis=1)

    assert shifts(25.0).mean() < 0.8 * shifts(0.0).mean(), "25 is the default"


@pytest.mark.exhaustive
def test_those_that_lead_bring_an_impostors_likeness_and_the_donor(networks, targets):
    """As each of them sees the composite at full size, in a crop that the loss does not look at."""
    ensemble = networks.ensemble
    aims = prepare(networks, targets, SETTINGS, torch.device("cpu")).looks
    grid = sampling_grid(torch.tensor(targets.frames, dtype=torch.float32), WORK_SIDE)

    def seen(strength):
        settings = SETTINGS | {"steps": 20, "identity_weight": strength, "mouth_landmark_weight": 0.0}
        images = invert(networks, targets, settings).images
        faces, photos = (
            torch.nn.functional.avg_pool2d(torch.from_numpy(i).permute(0, 3, 1, 2).float() / 127.5 - 1, scale)
            for i, scale in ((images, 2), (targets.images, 1))
        )
        fades = torch.from_numpy(targets.fades)[:, None]
        with torch.no_grad():
            found = ensemble.embed("sface", fades * photos + (1 - fades) * faces, grid)
        look = aims["sface"][0]
        return (found * look.patient).sum(1), (found * look.donor).sum(1)

    (free, free_donor), (led, led_donor) = seen(0.0), seen(1.0)
    aim = torch.from_numpy(targets.likenesses)
    assert ((led - aim).abs() < (free - aim).abs()).all()
    assert (led_donor > free_donor).all()


def test_every_recogniser_that_leads_looks_and_no_step_looks_at_all(networks, targets):
    looks = prepare(networks, targets, SETTINGS, torch.device("cpu")).looks
    steps = [looks_of_step(looks, step) for step in range(SETTINGS["steps"] * 3)]
    assert {look.name for step in steps for look in step} == set(networks.ensemble.names)
    assert len({id(look) for step in steps for look in step}) > len(looks)  # several crops of each
    assert max(len(step) for step in steps) <= 2


def test_who_leads_is_who_the_configuration_names():
    assert inversion_networks("mobilestylegan", "cpu", ["dlib"]).ensemble.names == ("dlib",)
    assert "dlib" not in stage_options("inversion", "{}")["identity_led_by"]  # it judges


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
def test_result_does_not_depend_on_company_order_or_place(networks, targets, batch):
    settings = SETTINGS | {"batch": batch, "steps": 2}
    one, other = invert(networks, targets, settings).images
    other_first, one_second, one_alone = invert(networks, targets.take([1, 0, 0]), settings).images
    assert (other == other_first).all()
    assert (one == one_second).all()
    assert (one == one_alone).all(), "the last batch is filled up"


def test_what_goes_on_starts_at_its_code_and_is_led_by_what_failed(networks, targets, inverted):
    """In one batch: the seam's photograph comes to agree better with its source, one that is far out comes back."""
    settings = SETTINGS | {"batch": 2, "steps": 12}
    starts = inverted.latents.copy()
    starts[1] += 3 * (starts[1] - targets.donors[1])
    raised = np.stack([factors(["seam"]), factors(["latent_distance"])])
    on = replace(targets, starts=starts, raised=raised)
    still = invert(networks, on, settings | {"steps": 1, "learning_rate": 0.0})
    assert np.abs(still.latents - starts).max() < 1e-3
    after = invert(networks, on, settings)
    assert after.psnr[0] > inverted.psnr[0]
    assert after.distance[1] < 0.95 * still.distance[1]
    both, alone = (invert(networks, some, settings | {"steps": 2}) for some in (on, on.take([1])))
    assert (alone.images[0] == both.images[1]).all(), "each is led by its own failures"


@pytest.mark.exhaustive
def test_a_batch_is_as_good_as_one_at_a_time(networks, targets):
    settings = SETTINGS | {"steps": 25}
    single, batched = (invert(networks, targets, settings | {"batch": n}) for n in (1, 2))
    assert (batched.psnr > single.psnr - 1).all()
    assert np.abs(batched.distance - single.distance).max() < 0.02


def test_grey_photographs_give_grey_faces(networks, targets):
    one = targets.take([0])
    grey = replace(one, grey=np.array([True]))
    image = invert(networks, grey, SETTINGS | {"steps": 2}).images[0]
    assert np.ptp(image.astype(int), axis=2).max() == 0


def test_a_batch_that_finds_no_memory_is_halved(networks, generator, targets):
    """The generator really is given smaller batches, and the result is that of one at a time."""
    sizes = []

    class Tight(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.n_styles, self.w_dim = generator, generator.n_styles, generator.w_dim

        def close_up(self, w, *where):
            sizes.append(len(w))
            if len(w) > 1:
                raise torch.OutOfMemoryError("no batch_size for two")
            return self.inner.close_up(w, *where)

        def synthesise(self, w):
            return self.inner.synthesise(w)

        def preview(self, w):
            return self.inner.preview(w)

    settings = SETTINGS | {"steps": 1, "batch": 2}
    with pytest.warns(UserWarning, match="going on with 1 at a time"):
        tight = invert(networks._replace(generator=Tight()), targets, settings)
    assert sizes[0] == 2
    assert set(sizes[1:]) == {1}
    alone = invert(networks, targets, settings | {"batch": 1})
    assert (tight.images == alone.images).all()


def test_what_fits_is_remembered(networks, targets):
    """Not every batch of a shard has to run out of memory first."""
    batch_size = BatchSize(5)
    with pytest.warns(UserWarning, match="going on with 2 at a time"):
        batch_size.halve()
    settings = SETTINGS | {"steps": 1, "batch": 5}
    halved, asked = invert(networks, targets, settings, batch_size), invert(networks, targets, settings | {"batch": 2})
    assert batch_size.size == 2
    assert (halved.images == asked.images).all()


def test_a_step_stays_on_its_device(networks, targets):
    """On a device without data: whatever a step left on the CPU, or read back, would be an error."""
    settings = SETTINGS | {"bf16": False}  # torch has no autocast there
    problem = prepare(networks, targets, settings, torch.device("cpu"))
    away = networks._replace(
        **{name: copy.deepcopy(getattr(networks, name)).to("meta") for name in networks._fields[:4]}
    )
    there = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, problem)
    for marks in (None, there.marks[0]):
        offset = torch.zeros(2, networks.generator.n_styles, 512, device="meta", requires_grad=True)
        loss = objective(away, there, settings, offset, marks, looks_of_step(there.looks, 0))
        (gradient,) = torch.autograd.grad(loss.sum(), offset)
        assert loss.device.type == gradient.device.type == "meta"


@pytest.mark.exhaustive
def test_a_step_compiles_whole(networks, targets):
    """Without a break, which is what CUDA graphs need; and to the loss and gradient that it has uncompiled."""
    settings = SETTINGS | {"bf16": False}
    problem = prepare(networks, targets, settings, torch.device("cpu"))
    compiled = torch.compile(objective, fullgraph=True, dynamic=False, backend="aot_eager")
    found = []
    for step_loss in (objective, compiled):
        offset = torch.zeros(2, networks.generator.n_styles, 512, requires_grad=True)
        loss = step_loss(networks, problem, settings, offset, problem.marks[0], looks_of_step(problem.looks, 0))
        found.append((loss.detach(), *torch.autograd.grad(loss.sum(), offset)))
    (loss, gradient), (loss_compiled, gradient_compiled) = found
    assert loss_compiled.numpy() == pytest.approx(loss.numpy(), rel=1e-4)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), gradient_compiled.flatten(), dim=0) > 0.99


def test_codes_that_melt_are_refused(generator, prior):
    """Offsets from the donor beyond the gate's bound, as seen: at 0.3 and 0.5 twelve of twelve faces are sound, at 0.9
    (every layer by itself) seven are broken, at 1.2 and 1.8 in the first six layers alone six and ten.
    """
    rng, donors = np.random.default_rng(5), read_bank().w[100 + 37 * np.arange(12)]
    bound = stage_options("checks", "{}")["latent_distance_max"]
    for deviation, layers, sound in ((0.3, 16, True), (0.9, 16, False), (1.2, 6, False), (1.8, 6, False)):
        offsets = np.zeros((12, generator.n_styles, 512))
        shape = (12, layers, 512) if layers == generator.n_styles else (12, 1, 512)
        offsets[:, :layers] = deviation * rng.standard_normal(shape)
        codes = donors[:, None] + offsets @ prior.axes.T
        distance = np.sqrt(np.mean(prior.distance(codes, donors[:, None]) ** 2, axis=1))
        assert ((distance <= bound) == sound).all()


def test_boxes_stay_inside_the_frame():
    corners = box_corners(np.array([[0.0, 0.0], [511.0, 511.0], [256.4, 371.0]]))
    assert corners.min() >= 0
    assert corners.max() <= WORK_SIDE - BOX_SIDE


@pytest.mark.parametrize(("height", "width", "last"), [(64, 96, -1), (65, 97, None)])
def test_first_layer_is_the_published_one(perceptual, model_files, height, width, last):
    """Convolution, then the blur at every other pixel with its edges reflected; of even sides the last is left out."""
    state = torch.load(model_files("stlpips")["alex_shift_tolerant.pth"], map_location="cpu", weights_only=True)
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(3))
    sharp = torch.nn.functional.conv2d(x, state["net.slice1.0.weight"], state["net.slice1.0.bias"], padding=2)
    blur = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    padded = torch.nn.functional.pad(sharp, (2, 2, 2, 2), mode="reflect")
    expected = torch.nn.functional.conv2d(padded, blur.expand(64, 1, 3, 3), stride=2, groups=64)
    found = perceptual.net.first(x)
    assert found.shape == expected.shape
    assert torch.allclose(found[:, :, :last, :last], expected[:, :, :last, :last], atol=1e-4)


@pytest.mark.parametrize("sides", [(6, 9), (9, 6)])
def test_where_the_perceptual_layers_shrink_their_slope_is_that_of_differences(perceptual, sides):
    """Against finite differences, in double precision: edges and the last row of an even side included."""
    exact = copy.deepcopy(perceptual.net).double()
    x = torch.randn(2, 3, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(5), requires_grad=True)
    assert torch.autograd.gradcheck(exact._shrink, x)


def test_perceptual_distance_orders_images(perceptual, targets):
    a, b = (torch.from_numpy(i).permute(2, 0, 1)[None].float() / 127.5 - 1 for i in targets.images)
    shifted, noisy = (
        torch.roll(a, 1, dims=3),
        a + 0.3 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1)),
    )
    assert perceptual(a, a).item() == 0
    assert perceptual(a, shifted).item() < perceptual(a, noisy).item()
    assert perceptual(a, shifted).item() < perceptual(a, b).item()


@pytest.mark.parametrize("weighted", [False, True])
def test_perceptual_distance_and_its_gradient_are_those_of_the_published_formula(perceptual, weighted):
    """Zhang et al. 2018, equation 1, on the layers' activations; in double precision, by equations alone."""
    rng = torch.Generator().manual_seed(4)
    a, b = (torch.rand(2, 3, 65, 97, generator=rng) * 2 - 1 for _ in range(2))
    weight = torch.rand(2, 1, 65, 97, generator=rng) if weighted else None
    found = a.clone().requires_grad_()
    distance = perceptual.distance(perceptual.features(found), perceptual.features(b), weight)
    distance.sum().backward()
    exact, expected = copy.deepcopy(perceptual).double(), a.double().requires_grad_()
    total = 0
    activations = (exact.net(exact.scaling_layer(images)) for images in (expected, b.double()))
    for *both, layer in zip(*activations, exact.lins, strict=True):
        x, y = (f / (torch.linalg.vector_norm(f, dim=1, keepdim=True) + 1e-10) for f in both)
        local = torch.einsum("nchw,c->nhw", (x - y) ** 2, layer.model[1].weight[0, :, 0, 0])
        at = torch.ones_like(local) if weight is None else F.adaptive_avg_pool2d(weight.double(), local.shape[1:])[:, 0]
        total = total + (local * at).sum(dim=(1, 2)) / at.sum(dim=(1, 2))
    total.sum().backward()
    assert torch.allclose(distance.double(), total, rtol=1e-5)
    assert (found.grad - expected.grad).abs().max() < 1e-4 * expected.grad.abs().max()
    if not weighted:
        assert torch.equal(distance, perceptual(a, b).flatten()), "the package's own forward"


def test_the_perceptual_distance_draws_no_random_numbers_and_downloads_nothing(model_files, tmp_path, monkeypatch):
    from deidlib.embedders.perceptual import STLPIPS, plain_lpips

    state = torch.random.get_rng_state()
    opened = STLPIPS(model_files("stlpips")["alex_shift_tolerant.pth"])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(tensor.is_meta for tensor in opened.state_dict().values())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert plain_lpips() is None, "its AlexNet is not in the cache"
