"""Face recognisers behind one small interface: detect, align, embed, compare.

A recogniser detects, aligns and embeds by its own published procedure, so that its published threshold holds. Detection
and alignment are separate steps, so that a partly hidden picture can be embedded with the alignment of the whole one:
an attacker knows where in a released square the face lies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np

from deidlib.errors import InputError
from deidlib.vision.detectors import YuNet

#: Five points (eyes, nose tip, mouth corners; image left first) in the 112² chip of ArcFace (Deng et al. 2019).
ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


class Recogniser(ABC):
    """The interface of every recogniser.

    Attributes
    ----------
    name : str
        Name in configuration, tables and audit.
    measure : str
        What :meth:`compare` returns.
    same_above : bool
        Whether a higher score means more alike (a similarity) or less (a distance).
    """

    name: str
    measure: str = "cosine similarity"
    same_above: bool = True

    @property
    def finder(self) -> object:
        """What finds the faces: recognisers that share it find the same place in a picture."""
        return self

    @abstractmethod
    def detect(self, image: np.ndarray) -> Any | None:
        """Position of the largest face in an RGB uint8 image, in the form that :meth:`align` takes; None: no face."""

    @abstractmethod
    def align(self, image: np.ndarray, face: Any) -> np.ndarray:
        """Aligned face for the network, RGB uint8. ``face`` may come from another picture of the same size."""

    @abstractmethod
    def embed_aligned(self, chip: np.ndarray) -> np.ndarray:
        """Embedding, (D,) float32, of an aligned face."""

    def embed(self, image: np.ndarray) -> np.ndarray | None:
        """Embedding, (D,), of the largest face of an RGB uint8 image; None where no face is found."""
        face = self.detect(image)
        return None if face is None else self.embed_aligned(self.align(image, face))

    def compare(self, a: np.ndarray, b: np.ndarray) -> float:
        """Score of two embeddings: cosine similarity of unit vectors, or Euclidean distance."""
        return float(a @ b) if self.same_above else float(np.linalg.norm(a - b))


class SFace(Recogniser):
    """SFace (Zhong et al. 2021) with YuNet's five points, aligned and run by OpenCV's own class."""

    name = "sface"

    def __init__(self, model_file: Path, detector: YuNet):
        self._recogniser = cv2.FaceRecognizerSF.create(str(model_file), "")
        self._detector = detector

    @property
    def finder(self) -> YuNet:
        """The detector."""
        return self._detector

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        """YuNet's row of the largest face, (15,), or None."""
        return _largest(self._detector, image)

    def align(self, image: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Chip of 112² pixels."""
        return np.ascontiguousarray(self._recogniser.alignCrop(_reversed(image), face)[:, :, ::-1])

    def embed_aligned(self, chip: np.ndarray) -> np.ndarray:
        """Unit vector, (128,)."""
        return _unit(self._recogniser.feature(_reversed(chip)))


class DlibResNet(Recogniser):
    """dlib's ResNet recogniser with its own detector and five-point alignment; PyTorch runs its network."""

    name = "dlib"
    measure = "Euclidean distance"
    same_above = False
    _SIDE = 400  # px; the longer side of the picture that dlib's detector sees
    _CHIP, _PADDING = 150, 0.25  # px and share, as the network was trained

    def __init__(self, model_file: Path, predictor_file: Path):
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(predictor_file))
        from deidlib.vision.dlib_torch import DlibTorch  # dlib's wheels have no fast product of matrices

        self._network = DlibTorch(model_file)

    def _reduced(self, image: np.ndarray) -> np.ndarray:
        scale = min(1.0, 1.5 * self._SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        return np.ascontiguousarray(small)

    def detect(self, image: np.ndarray) -> dlib.full_object_detection | None:
        """Five landmarks of the largest face, in the reduced image that :meth:`align` also makes; or None."""
        small = self._reduced(image)
        faces = self._detector(small, 0) or self._detector(small, 1)  # 1: doubled, which finds smaller faces
        return self._predictor(small, max(faces, key=lambda f: f.area())) if faces else None

    def align(self, image: np.ndarray, face: dlib.full_object_detection) -> np.ndarray:
        """Chip of 150² pixels."""
        return dlib.get_face_chip(self._reduced(image), face, size=self._CHIP, padding=self._PADDING)

    def embed_aligned(self, chip: np.ndarray) -> np.ndarray:
        """Vector, (128,)."""
        import torch

        with torch.inference_mode():
            chips = torch.from_numpy(np.ascontiguousarray(chip.transpose(2, 0, 1)))[None].float() / 127.5 - 1
            return self._network(chips)[0].numpy()


class ArcFaceAligned(Recogniser):
    """A recogniser of YuNet's five points and ArcFace's alignment; its embeddings are unit vectors.

    Parameters
    ----------
    name : str
        Its name in the registry.
    detector : YuNet
        Gives the five points.
    side : int
        Side of the network's input in pixels.
    """

    def __init__(self, name: str, detector: YuNet, side: int = 112):
        self.name = name
        self._detector, self._side = detector, side

    @property
    def finder(self) -> YuNet:
        """The detector."""
        return self._detector

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        """YuNet's row of the largest face, (15,), or None."""
        return _largest(self._detector, image)

    def align(self, image: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Chip of side² pixels with the five points at ArcFace's places."""
        to_chip = fit_similarity(face[4:14].reshape(5, 2).astype(np.float64), ARCFACE_112 * (self._side / 112))
        return cv2.warpAffine(image, to_chip, (self._side, self._side), flags=cv2.INTER_LINEAR)


class OnnxRecogniser(ArcFaceAligned):
    """An ArcFace-style network from an ONNX file.

    Parameters
    ----------
    name : str
        Its name in the registry.
    model_file : Path
        ONNX file that OpenCV's DNN module can load: one input (1, 3, side, side), one output (1, D).
    detector : YuNet
        Gives the five points.
    side : int
        Side of the network's input in pixels.
    mean, scale : float
        The input is (pixel − mean) × scale.
    colour : str
        Order of the input's channels, ``rgb`` or ``bgr``.
    """

    def __init__(
        self,
        name: str,
        model_file: Path,
        detector: YuNet,
        side: int = 112,
        mean: float = 127.5,
        scale: float = 1 / 127.5,
        colour: str = "rgb",
    ):
        if colour not in ("rgb", "bgr"):
            raise InputError(f"recogniser {name}: colour is rgb or bgr, not {colour}; correct its entry in models.yaml")
        super().__init__(name, detector, side)
        self._mean, self._scale, self._colour = mean, scale, colour
        try:
            self._network = cv2.dnn.readNetFromONNX(str(model_file))
        except cv2.error:
            raise InputError(
                f"recogniser {name}: OpenCV cannot load its ONNX file; export it with a fixed input 1×3×{side}×{side}"
            ) from None

    def embed_aligned(self, chip: np.ndarray) -> np.ndarray:
        """Unit vector, (D,)."""
        mean = (self._mean,) * 3
        size = (self._side, self._side)
        blob = cv2.dnn.blobFromImage(chip, self._scale, size, mean, swapRB=self._colour == "bgr")
        self._network.setInput(blob)
        return _unit(self._network.forward())


class FaceXZooRecogniser(ArcFaceAligned):
    """FaceX-Zoo's MobileFaceNet (Wang et al. 2021), run by PyTorch."""

    def __init__(self, model_file: Path, detector: YuNet):
        from deidlib.vision.facexzoo import FaceXZoo

        super().__init__("facexzoo", detector)
        self._network = FaceXZoo(model_file)

    def embed_aligned(self, chip: np.ndarray) -> np.ndarray:
        """Unit vector, (512,)."""
        import torch

        with torch.inference_mode():
            faces = torch.from_numpy(np.ascontiguousarray(chip.transpose(2, 0, 1)))[None].float() / 127.5 - 1
            return self._network(faces)[0].numpy()


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Similarity (2, 3) that takes the points ``source``, (N, 2), nearest to ``target`` in the least-squares sense."""
    x, y = source.T
    one, nought = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, one, nought], 1), np.stack([y, x, nought, one], 1)])
    (a, b, right, down), *_ = np.linalg.lstsq(rows, target.T.reshape(-1), rcond=None)
    return np.array([[a, -b, right], [b, a, down]])


def _largest(detector: YuNet, image: np.ndarray) -> np.ndarray | None:
    faces = detector.detect(image)
    return faces[0] if len(faces) else None


def _reversed(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, :, ::-1])


def _unit(feature: np.ndarray) -> np.ndarray:
    feature = feature.reshape(-1).astype(np.float32)
    return feature / max(float(np.linalg.norm(feature)), 1e-12)
