"""The models, opened for a command. Imported inside commands only, for it pulls in OpenCV."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from deidlib.errors import InputError
from deidlib.intake.routes import GENERATE
from deidlib.logs import say
from deidlib.models import bank_file, files, preview_file
from deidlib.storage import tables
from deidlib.storage.images import decode_png


def landmarker_file() -> Path:
    """Give MediaPipe's Face Landmarker."""
    return files("face_landmarker")["face_landmarker.task"]


def yunet():
    """Open the YuNet face detector."""
    from deidlib.vision.detectors import YuNet

    return YuNet(only("yunet"))


def sface(detector):
    """Open the SFace recogniser, aligned by YuNet's points."""
    from deidlib.vision.recognisers import SFace

    return SFace(only("sface"), detector)


def dlib_resnet():
    """Dlib's recogniser."""
    from deidlib.vision.recognisers import DlibResNet

    found = files("dlib_resnet")
    return DlibResNet(found["dlib_face_recognition_resnet_model_v1.dat"], found["shape_predictor_5_face_landmarks.dat"])


def recogniser(name: str, detector=None):
    """Open a recogniser by its name in the registry: SFace, dlib, or the user's own ONNX file."""
    from deidlib.models import recognisers

    known = recognisers()
    if name not in known:
        raise InputError(f"no recogniser called {name}; config/models.yaml has {', '.join(sorted(known))}")
    if name == "dlib":
        return dlib_resnet()
    if name == "sface":
        return sface(detector or yunet())
    from deidlib.vision.recognisers import OnnxRecogniser

    about = known[name]
    return OnnxRecogniser(name, only(about["model"]), detector or yunet(), **about.get("preprocessing", {}))


def age_sex():
    """Open the estimator of apparent age and sex."""
    from deidlib.vision.detectors import AgeSex

    age, sex = files("age_net"), files("gender_net")
    return AgeSex(
        age["age_net.caffemodel"],
        age["deploy_age.prototxt"],
        sex["gender_net.caffemodel"],
        sex["deploy_gender.prototxt"],
    )


def only(model: str) -> Path:
    """Give the file of a model that has one."""
    (path,) = files(model).values()
    return path


def generator(name: str):
    """Open a generator, on the CPU."""
    from deidlib.generators import load_generator

    return load_generator(name, files(name), preview_file(name))


def fit_preview(name: str, network) -> None:
    """Fit the preview of a StyleGAN2 generator and write it beside the checkpoint; the default's is shipped."""
    if name != "stylegan2" or network.own_resolution <= 256:
        return
    from deidlib.generators.running_rgb import LEAST_PSNR, fit_running_rgb, save_running_rgb, use_running_rgb

    estimate = fit_running_rgb(network)
    save_running_rgb(estimate, preview_file(name))
    use_running_rgb(network, preview_file(name))
    verdict = "used" if estimate.psnr >= LEAST_PSNR else "too low: previews are whole images shrunk, which is slower"
    say(f"preview: {estimate.psnr:.1f} dB, {verdict}")


def donor_model(name: str) -> tuple:
    """Open a generator, the linear model of its donor bank, and the bank."""
    from deidlib.donors.bank import read_bank
    from deidlib.donors.edit import fit_editor
    from deidlib.generators import latent_prior

    network, bank = generator(name), read_bank(_built_bank(name))
    return network, fit_editor(bank, latent_prior(network)), bank


def _built_bank(name: str) -> Path:
    path = bank_file(name)
    if not path.is_file():
        raise InputError(f"generator {name} has no donor bank yet; run `deidlib donors build --generator {name}` once")
    return path


def inversion_networks(name: str, place):
    """Open what inversion works with, on a device."""
    from deidlib.generators import latent_prior
    from deidlib.inversion.identity import Guide, read_weights
    from deidlib.inversion.mesh import Mesh
    from deidlib.inversion.objective import Networks
    from deidlib.inversion.perceptual import STLPIPS
    from deidlib.vision.landmarks import LIPS_INNER, LIPS_OUTER

    network = generator(name)
    prior = latent_prior(network)  # before it is moved: the same samples on every device
    perceptual, guide = STLPIPS(only("stlpips")), Guide(read_weights(only("sface")))
    mesh = Mesh(landmarker_file(), [*LIPS_OUTER, *LIPS_INNER])
    return Networks(*(part.to(place) for part in (network, perceptual, guide, mesh)), prior)


def realism():
    """Open the network that scores a generated face's pixels, on the CPU."""
    from deidlib.checks.realism import Realism, read_network

    return Realism(read_network())


def observer(network, landmarker):
    """Codes w, (n, 512), to what the faces look like that the generator's preview draws of them.

    In float32 wherever it runs: bfloat16 is a third faster, but not every processor has it, and those that have not
    would choose other donors.

    Returns
    -------
    callable
        ``see`` of :func:`deidlib.donors.choose.choose_donors`.
    """
    from deidlib.donors.bank import describe_faces, drawn

    detector, estimate = yunet(), age_sex()
    recogniser = sface(detector)

    def see(codes: np.ndarray) -> tuple:
        return describe_faces(drawn(codes, network), landmarker, detector, recogniser, estimate)

    return see


def device(asked: str) -> str:
    """``cuda`` where it is asked for, or where ``auto`` finds a GPU; else ``cpu``."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is asked for, but no GPU can be used here; set device to auto or cpu")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def pin_order() -> None:
    """Have torch sum in the same order every time, or the same photograph would give other bytes.

    On a CPU that is one thread. Cores are used by handling several photographs, or shards, at a time: twice as fast on
    two cores, where two threads of torch are a fifth faster than one. On a GPU it is the deterministic algorithms.
    """
    import torch

    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS wants for it, before its first use
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a check, at the price of writing memory twice


def likenesses(photos: pa.Table, landmarks: pa.Table, handle: list[str], jaws: Collection[str] = ()) -> dict:
    """Measure the look of the patients whose photographs are handled: features and embedding.

    Parameters
    ----------
    photos, landmarks : Table
        Some patients' rows.
    handle : list of str
        ``release_photo_id`` of the photographs to handle.
    jaws : collection of str
        Those whose preserved area may reach the jaw.

    Returns
    -------
    dict
        ``release_photo_id`` → :class:`deidlib.donors.choose.Likeness`, for every photograph of these patients
        that gets a generated face (a donor must be unlike each of them).
    """
    from deidlib.donors.choose import Likeness
    from deidlib.donors.features import measure_photo
    from deidlib.vision.landmarks import Face, matrix_of, points_of

    detector, estimate = yunet(), age_sex()
    recogniser = sface(detector)
    patient_of = dict(
        zip(*(photos[name].to_pylist() for name in ("release_photo_id", "release_patient_id")), strict=True)
    )
    patients = {patient_of[photo_id] for photo_id in handle}
    faces = tables.of_routes(tables.handled(landmarks), GENERATE)
    found = {row["release_photo_id"]: row for row in faces.to_pylist()}
    known = {}
    for batch in tables.handled(photos).select(["release_photo_id", "image"]).to_batches(max_chunksize=1):
        (photo,) = batch.to_pylist()
        photo_id = photo["release_photo_id"]
        if photo_id not in found or patient_of[photo_id] not in patients:
            continue
        row, image = found[photo_id], decode_png(photo["image"])
        face = Face(points_of(row), np.array(row["blendshapes"], np.float32), row["yaw"], row["pitch"], row["roll"])
        features = measure_photo(image, matrix_of(row), face, estimate)
        known[photo_id] = Likeness(features, recogniser.embed(image), photo_id in jaws)
    return known
