"""Opens the detectors, recognisers and estimators of the registry."""

from __future__ import annotations

from pathlib import Path

from deidlib.compute import quiet_native_libraries
from deidlib.errors import InputError
from deidlib.models import files


def landmarker_file() -> Path:
    """Open MediaPipe's Face Landmarker."""
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
    """Open dlib's recogniser."""
    from deidlib.vision.recognisers import DlibResNet

    found = files("dlib_resnet")
    return DlibResNet(found["dlib_face_recognition_resnet_model_v1.dat"], found["shape_predictor_5_face_landmarks.dat"])


def recogniser(name: str, detector=None):
    """Open a recogniser by its name in the registry: a shipped one, or the user's own ONNX file."""
    from deidlib.models import recognisers

    known = recognisers()
    if name not in known:
        raise InputError(f"no recogniser called {name}; config/models.yaml has {', '.join(sorted(known))}")
    if name == "dlib":
        return dlib_resnet()
    if name == "sface":
        return sface(detector or yunet())
    from deidlib.vision.recognisers import FaceXZooRecogniser, OnnxRecogniser

    if name == "facexzoo":
        return FaceXZooRecogniser(only("facexzoo"), detector or yunet())
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


def text_search():
    """Open the search for text and codes in pictures.

    Returns
    -------
    callable
        :data:`deidlib.regions.text.Search`.
    """
    from deidlib.vision.codes import find_codes
    from deidlib.vision.text import TextFinder

    finder = TextFinder(only("text_detector"), only("text_reader"))
    return lambda image: [*finder.find(image), *find_codes(image)]


def only(model: str) -> Path:
    """The file of a model that has a single file."""
    (path,) = files(model).values()
    return path


def open_recognisers(names: list[str]) -> list:
    """Open recognisers by their names in the registry; those that use YuNet share one detector."""
    quiet_native_libraries()
    detector = yunet()
    return [recogniser(name, detector) for name in names]


def measure_of(name: str) -> dict:
    """How to read a recogniser's scores, without opening it."""
    from deidlib.vision.recognisers import DlibResNet, Recogniser

    kind = DlibResNet if name == DlibResNet.name else Recogniser
    return {"measure": kind.measure, "same_above": kind.same_above}
