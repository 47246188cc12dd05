"""What several tests share: the real models from the cache, opened once a session."""

from __future__ import annotations

import hypothesis
import pytest

from deidlib import models

hypothesis.settings.register_profile("deidlib", deadline=None)  # timings belong to tests/bench
hypothesis.settings.load_profile("deidlib")

#: Files that take longest: they begin first, so that at the end no process is left alone with one of them.
LONGEST_FIRST = (
    "test_review_rounds.py",
    "test_whole_run.py",
    "test_workflow.py",
    "test_content_decides.py",
    "test_panel_analysis.py",
    "test_routes.py",
    "test_donors.py",
    "test_cli_reid.py",
    "test_report_attacks.py",
    "test_report.py",
    "test_inversion.py",
    "test_stylegan2.py",
    "test_checks.py",
    "test_text.py",
    "test_hostile_release.py",
    "test_intake.py",
)


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def model_files():
    """``model_files(name)``: the checked files of a model; a clear failure where the cache lacks them."""

    def of(name: str):
        try:
            return models.files(name)
        except models.ModelError as error:
            pytest.fail(f"{error} (`make test` does so first)", pytrace=False)

    return of


@pytest.fixture(scope="session")
def yunet(model_files):
    from deidlib.vision.detectors import YuNet

    return YuNet(model_files("yunet")["face_detection_yunet_2023mar_int8bq.onnx"])


@pytest.fixture(scope="session")
def sface(model_files, yunet):
    from deidlib.vision.recognisers import SFace

    return SFace(model_files("sface")["face_recognition_sface_2021dec_int8bq.onnx"], yunet)


@pytest.fixture(scope="session")
def dlib_resnet(model_files):
    from deidlib.vision.recognisers import DlibResNet

    found = model_files("dlib_resnet")
    return DlibResNet(found["dlib_face_recognition_resnet_model_v1.dat"], found["shape_predictor_5_face_landmarks.dat"])


@pytest.fixture(scope="session")
def landmarker(model_files):
    from deidlib.vision.landmarks import FaceLandmarker

    with FaceLandmarker(model_files("face_landmarker")["face_landmarker.task"]) as opened:
        yield opened


@pytest.fixture(scope="session")
def text_search(model_files):
    from deidlib.vision.networks import text_search

    model_files("text_detector")
    return text_search()


@pytest.fixture(scope="session")
def networks(model_files):
    """What inversion works with."""
    import torch

    from deidlib.inversion.networks import inversion_networks

    return inversion_networks("mobilestylegan", torch.device("cpu"))


@pytest.fixture(scope="session")
def generator(networks):
    return networks.generator


@pytest.fixture(scope="session")
def realism():
    from deidlib.checks.realism import Realism, read_network

    return Realism(read_network())


@pytest.fixture(scope="session")
def astronaut():
    """The portrait that scikit-image ships (NASA, public domain)."""
    import skimage.data

    return skimage.data.astronaut()
