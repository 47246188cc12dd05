"""Face recognisers, each behind two plain methods: embed and compare.

A recogniser detects, aligns and embeds by its own published procedure, so that its published threshold holds.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import dlib
import numpy as np

from deidlib.detectors import YuNet

#: Thresholds their authors publish for "the same person".
SFACE_SAME_PERSON = 0.363  # cosine, above; OpenCV Zoo, SFace (Zhong et al. 2021, arXiv 2205.12010)
DLIB_SAME_PERSON = 0.6  # Euclidean distance, below; dlib's dlib_face_recognition_resnet_model_v1


class SFace:
    """SFace recogniser with YuNet's alignment; similarity is the cosine (higher: more alike)."""

    name = "sface"

    def __init__(self, model_file: Path, detector: YuNet):
        self._recogniser = cv2.FaceRecognizerSF.create(str(model_file), "")
        self._detector = detector

    def embed(self, image: np.ndarray) -> np.ndarray | None:
        """Unit embedding, (128,), of the largest face of an RGB uint8 image; None where no face is found."""
        faces = self._detector.detect(image)
        if len(faces) == 0:
            return None
        aligned = self._recogniser.alignCrop(np.ascontiguousarray(image[:, :, ::-1]), faces[0])
        feature = self._recogniser.feature(aligned).reshape(-1).astype(np.float32)
        return feature / np.linalg.norm(feature)

    @staticmethod
    def compare(a: np.ndarray, b: np.ndarray) -> float:
        """Cosine similarity of two embeddings."""
        return float(a @ b)


class DlibResNet:
    """dlib's ResNet recogniser with its five-point alignment; score is the distance (lower: more alike)."""

    name = "dlib"
    _SIDE = 400  # px; the longer side that dlib's detector sees

    def __init__(self, model_file: Path, predictor_file: Path):
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(predictor_file))
        self._network = dlib.face_recognition_model_v1(str(model_file))

    def embed(self, image: np.ndarray) -> np.ndarray | None:
        """Embedding, (128,), of the largest face of an RGB uint8 image; None where no face is found."""
        scale = min(1.0, 1.5 * self._SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        small = np.ascontiguousarray(small)
        faces = self._detector(small, 0) or self._detector(small, 1)  # 1: doubled, which finds smaller faces
        if not faces:
            return None
        box = max(faces, key=lambda f: f.area())
        return np.asarray(self._network.compute_face_descriptor(small, self._predictor(small, box)), np.float32)

    @staticmethod
    def compare(a: np.ndarray, b: np.ndarray) -> float:
        """Euclidean distance of two embeddings."""
        return float(np.linalg.norm(a - b))
