"""Opens the differentiable recognisers."""

from __future__ import annotations

from pathlib import Path

import cv2

from deidlib.models import DATA_FOLDER, files
from deidlib.vision.networks import only


def embedder(name: str, perceptual=None):
    """Open a recogniser of :data:`deidlib.embedders.lead.LEADS`, on the CPU.

    Parameters
    ----------
    name : str
        Its name.
    perceptual : STLPIPS, optional
        The network whose features the discriminant uses; opened if it is not given.
    """
    from deidlib.embedders.onnx_torch import OnnxTorch
    from deidlib.embedders.sface import SFaceTorch, read_weights
    from deidlib.embedders.trained import Discriminant
    from deidlib.vision.dlib_torch import DlibTorch
    from deidlib.vision.facexzoo import FaceXZoo

    known = {
        "sface": lambda: SFaceTorch(read_weights(only("sface"))),
        "arcface": lambda: OnnxTorch(only("arcface")),
        "facexzoo": lambda: FaceXZoo(only("facexzoo")),
        "dlib": lambda: DlibTorch(files("dlib_resnet")["dlib_face_recognition_resnet_model_v1.dat"]),
    }
    return known[name]() if name in known else Discriminant(features(name, perceptual), fitted_file(name))


def features(name: str, perceptual=None):
    """Open the feature network of a recogniser that was fitted to the generator's people."""
    from deidlib.embedders.perceptual import STLPIPS
    from deidlib.embedders.trained import PerceptualFeatures, SexFeatures

    if name == "discriminant":
        return PerceptualFeatures(perceptual or STLPIPS(only("stlpips")))
    found = files("gender_net")
    network = cv2.dnn.readNetFromCaffe(str(found["deploy_gender.prototxt"]), str(found["gender_net.caffemodel"]))
    layers = "conv1", "conv2", "conv3"
    kernels, biases = ([network.getParam(layer, k).copy() for layer in layers] for k in (0, 1))
    return SexFeatures(kernels, [bias.reshape(-1) for bias in biases])


def fitted_file(name: str) -> Path:
    """File with the projection of a recogniser that was fitted to the generator's people."""
    return DATA_FOLDER / f"recogniser-{name}.npz"
