"""Differentiable recognisers, opened."""

from __future__ import annotations

from functools import partial

from deidlib.embedders.lead import TRAINED
from deidlib.models import DATA_FOLDER, files
from deidlib.vision.networks import only


def embedder(name: str, perceptual=None):
    """Open a recogniser of :data:`deidlib.embedders.lead.LEADS`, on the CPU.

    Parameters
    ----------
    name : str
        Which.
    perceptual : STLPIPS, optional
        Whose features the discriminant takes; opened anew where it is not given.
    """
    from deidlib.embedders.dlib_torch import DlibTorch
    from deidlib.embedders.sface import SFaceTorch, read_weights

    known = {
        "sface": lambda: SFaceTorch(read_weights(only("sface"))),
        "dlib": lambda: DlibTorch(files("dlib_resnet")["dlib_face_recognition_resnet_model_v1.dat"]),
        **{trained: partial(_trained, trained, perceptual) for trained in TRAINED},
    }
    return known[name]()


def _trained(name: str, perceptual):
    from deidlib.embedders.trained import Discriminant, load
    from deidlib.inversion.perceptual import STLPIPS

    path = DATA_FOLDER / f"recogniser-{name}.npz"
    if name == "discriminant":
        return Discriminant(perceptual or STLPIPS(only("stlpips")), path)
    return load(name, path)
