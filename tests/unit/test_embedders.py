"""Differentiable recognisers: each is the network that it is said to be, and sees what it is said to see."""

import pickle

import dlib
import numpy as np
import pytest
import torch

from deidlib.donors.bank import drawn, read_bank
from deidlib.donors.model import donor_model
from deidlib.embedders.framing import Framing, mouth_shown, zoomed
from deidlib.embedders.lead import LEADS, LED_BY, TRAINED
from deidlib.embedders.onnx_torch import OnnxTorch
from deidlib.embedders.opened import embedder
from deidlib.errors import InputError
from deidlib.inversion.identity import fit_template
from deidlib.training.discriminant import fit
from deidlib.training.identities import VIEWS, draw_people
from deidlib.training.views import embed, verification
from deidlib.vision import networks
from deidlib.vision.dlib_file import read_layers
from deidlib.vision.dlib_torch import SIDE, DlibTorch
from deidlib.vision.facexzoo import FaceXZoo


@pytest.fixture(scope="module")
def dlib_file(model_files):
    return model_files("dlib_resnet")["dlib_face_recognition_resnet_model_v1.dat"]


@pytest.fixture(scope="module")
def dlib_torch(dlib_file):
    return DlibTorch(dlib_file)


def as_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_dlib_in_torch_is_dlib(dlib_file, dlib_torch, dlib_resnet, generator, astronaut):
    """The same embedding as dlib's own run of the file, on a photograph, virtual people, and noise."""
    own = dlib.face_recognition_model_v1(str(dlib_file))
    chips = [np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)]
    for image in (astronaut, *drawn(read_bank().w[[3, 40]], generator)):
        chips.append(dlib_resnet.align(image, dlib_resnet.detect(image)))
    for chip in chips:
        expected = np.asarray(own.compute_face_descriptor(chip))
        assert np.abs(dlib_torch(as_tensor(chip))[0].numpy() - expected).max() < 1e-5
        assert np.abs(dlib_resnet.embed_aligned(chip) - expected).max() < 1e-5


def test_dlib_in_torch_has_a_gradient_everywhere(dlib_torch):
    chip = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (gradient,) = torch.autograd.grad(dlib_torch(chip).sum(), chip)
    # the last rows and columns lie in no whole stride
    assert (gradient[0].abs().amax(dim=0)[2:-6, 2:-6] > 0).float().mean() > 0.99


def test_another_file_is_refused(tmp_path, dlib_file, model_files):
    text = tmp_path / "notes.dat"
    text.write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"notes\.dat holds no known layer"):
        read_layers(text)
    with pytest.raises(ValueError, match="shape_predictor"):
        DlibTorch(model_files("dlib_resnet")["shape_predictor_5_face_landmarks.dat"])


def test_dlib_s_frame_is_dlib_s_alignment(dlib_torch, dlib_resnet, generator, yunet):
    """An aligned face cut by the table's framing is, to dlib, the person that its own alignment shows."""
    import cv2

    for image in drawn(read_bank().w[[3, 40, 77]], generator):
        image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)
        (box,) = yunet.detect(image)
        to_arcface = fit_template(box[4:14].reshape(5, 2).astype(np.float64))
        to_chip = LEADS["dlib"].framing.matrix @ np.vstack([to_arcface, [0, 0, 1]])
        chip = cv2.warpAffine(image, to_chip, (SIDE, SIDE), flags=cv2.INTER_AREA)
        found = dlib_torch(as_tensor(chip))[0].numpy()
        assert np.linalg.norm(found - dlib_resnet.embed(image)) < 0.35  # 0.6: another person


def test_a_recogniser_from_which_the_mouth_is_hidden_sees_all_but_the_mouth():
    framing = Framing(96, zoomed(96, 132.0, (56.0, 60.0)), mouth=False)
    shown = mouth_shown(framing)
    places = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2], [56.0, 100.0]])
    x, y = np.round(places @ framing.matrix[:, :2].T + framing.matrix[:, 2]).astype(int).T
    assert (shown[y[:2], x[:2]] == 1).all()  # eyes
    assert (shown[y[3:], x[3:]] == 0).all()  # mouth corners, lower lip
    assert (mouth_shown(framing._replace(mouth=True)) == 1).all()


def test_an_onnx_network_in_torch_is_the_network(generator, yunet):
    """The same embedding as OpenCV's run of the file; a batch of any size; a gradient."""
    arcface = networks.recogniser("arcface", yunet)
    chips = [arcface.align(image, arcface.detect(image)) for image in drawn(read_bank().w[[3, 40]], generator)]
    network, faces = embedder("arcface"), torch.cat([as_tensor(chip) for chip in chips]).requires_grad_()
    found = network(faces)
    (gradient,) = torch.autograd.grad(found.sum(), faces)
    assert np.abs(found.detach().numpy() - [arcface.embed_aligned(chip) for chip in chips]).max() < 1e-4
    assert (gradient.abs().amax(dim=1) > 0).float().mean() > 0.99


def test_an_onnx_network_of_other_layers_does_not_lead(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "network", values[:1], values[1:])
    onnx.save(helper.make_model(graph), str(tmp_path / "own.onnx"))
    with pytest.raises(InputError, match=r"Softmax.*reid\.recognisers"):
        OnnxTorch(tmp_path / "own.onnx")


def test_facexzoo_s_file_is_read_without_running_what_is_in_it(tmp_path):
    """A pickle that would call something is refused, and calls nothing; so is a damaged file."""

    class Call:
        def __reduce__(self):
            return (tmp_path.joinpath("called").touch, ())

    hostile = tmp_path / "hostile.pkl"
    with open(hostile, "wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {}, Call(), []):
            pickle.dump(part, file, protocol=2)
    damaged = tmp_path / "damaged.pkl"
    damaged.write_bytes(networks.only("facexzoo").read_bytes()[:100_000])
    for path in (hostile, damaged):
        with pytest.raises(InputError, match="models fetch"):
            FaceXZoo(path)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("name", ["arcface", "facexzoo"])
def test_a_recogniser_knows_a_virtual_person_again(name, generator, yunet):
    """Mirrored, darker and softer, a face is nearer to itself than to anybody else."""
    import cv2

    recogniser = networks.recogniser(name, yunet)
    faces = drawn(read_bank().w[[3, 40, 77]], generator)
    again = [np.ascontiguousarray(cv2.GaussianBlur(face, (0, 0), 2)[:, ::-1] // 4 * 3) for face in faces]
    found, other = (np.stack([recogniser.embed(face) for face in images]) for images in (faces, again))
    alike = found @ other.T
    assert (alike.argmax(axis=1) == np.arange(3)).all()
    assert np.diag(alike).min() > 0.6 > 0.4 > alike[~np.eye(3, dtype=bool)].max()


def test_the_judge_does_not_lead():
    assert "dlib" not in LED_BY


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TRAINED)
def test_what_was_fitted_knows_people_again_in_another_pose_and_light(name, generator):
    """Virtual people that nothing was fitted to: most of their views lie nearer together than impostors do."""
    _, editor, bank = donor_model("mobilestylegan")
    people = np.concatenate(list(draw_people(generator, editor, bank, 12, seed=99)))
    framing = LEADS[name].framing
    found = embed(embedder(name), people, framing)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    assert verification(found, np.repeat(np.arange(12), VIEWS))["auc"] > 0.85


def test_a_discriminant_keeps_what_tells_people_apart():
    """Of features of which a few differ between people and the others, larger, within them."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(500), 4)
    x = 4 * rng.standard_normal((2000, 200))
    x[:, :5] = 2 * rng.standard_normal((500, 5))[labels] + rng.standard_normal((2000, 5))
    mean, projection = fit(x.astype(np.float32), labels)

    def auc(vectors):
        return verification(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels)["auc"]

    assert auc((x - mean) @ projection[:, :5]) > 0.95
    assert auc((x - mean) @ projection[:, :5]) > auc(x - mean) + 0.2
