"""The face detectors YuNet and HOG, and an estimator of apparent age and sex."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import cv2
import dlib
import numpy as np

_AGE_CENTRES = np.array([1.0, 5.0, 10.0, 17.5, 28.5, 40.5, 50.5, 70.0])  # years; centres of the network's classes


class YuNet:
    """YuNet face detector (Wu et al. 2023), OpenCV Zoo.

    Parameters
    ----------
    model_file : Path
        ``face_detection_yunet_2023mar_int8bq.onnx``.
    score : float
        Lowest detection score that counts as a face.
    """

    _SIDE = 640  # px; the longer side that the detector sees
    _LEAST = 0.3  # lowest score that the network reports
    _BEYOND = 0.25  # of the picture's width, by which it is extended with its reflection

    def __init__(self, model_file: Path, score: float = 0.7):
        self._detector = cv2.FaceDetectorYN.create(str(model_file), "", (320, 320), self._LEAST, 0.3, 200)
        self._score = score

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Faces in an RGB uint8 image, largest first: (N, 15) boxes, five points and score, in the image's pixels."""
        found = self._found(image)
        return found[found[:, 14] >= self._score]

    def second_face(self, image: np.ndarray) -> float:
        """Highest score of a second face, whole or cut by the left or right edge.

        A detector does not recognise half a face. So the picture is extended by its reflection, which completes a face
        that the edge cuts.

        Parameters
        ----------
        image : ndarray, (H, W, 3), uint8
            The picture of one person, whose face is in the middle.

        Returns
        -------
        float
            0 to 1; 0 if no second face scores 0.3 or more.
        """
        width = image.shape[1]
        beyond = round(self._BEYOND * width)
        found = self._found(cv2.copyMakeBorder(image, 0, 0, beyond, beyond, cv2.BORDER_REFLECT))
        middle, across = found[:, 0] + found[:, 2] / 2 - beyond - width / 2, found[:, 2] / 4
        person = np.flatnonzero(np.abs(middle) < width / 4)[:1]  # the largest, since faces are sorted by size
        there = np.abs(middle) - across < width / 2  # not the reflection of a face that is wholly inside
        there[person] = False
        return float(found[there, 14].max(initial=0.0))

    def _found(self, image: np.ndarray) -> np.ndarray:
        """All faces that the network reports, whatever their score, as :meth:`detect` gives them."""
        height, width = image.shape[:2]
        scale = self._SIDE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        self._detector.setInputSize(size)
        _, found = self._detector.detect(np.ascontiguousarray(small[:, :, ::-1]))
        if found is None:
            return np.zeros((0, 15), np.float32)
        found = found.copy()
        found[:, :14] /= scale
        return found[np.argsort(-found[:, 2] * found[:, 3], kind="stable")]


class HogDetector:
    """dlib's frontal face detector (histograms of oriented gradients; Dalal and Triggs 2005); part of the library."""

    _SIDE = 640  # px; the longer side of the picture that the detector sees, at most

    @cached_property
    def _detector(self) -> dlib.fhog_object_detector:
        return dlib.get_frontal_face_detector()  # slow: a cohort without intraoral photographs goes without

    def detect(self, image: np.ndarray) -> list:
        """Rectangles of the faces in an RGB uint8 image, in pixels of the reduced image that the detector saw."""
        scale = min(1.0, self._SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        return list(self._detector(np.ascontiguousarray(small), 0))


class AgeSex:
    """Apparent age and sex (Levi and Hassner 2015), for donors that fit the patient; never released."""

    _MEAN = (78.43, 87.77, 114.90)

    def __init__(self, age_net: Path, age_prototxt: Path, gender_net: Path, gender_prototxt: Path):
        self._age = cv2.dnn.readNetFromCaffe(str(age_prototxt), str(age_net))
        self._sex = cv2.dnn.readNetFromCaffe(str(gender_prototxt), str(gender_net))

    def estimate(self, face: np.ndarray) -> tuple[float, float]:
        """Expected age in years and probability of female, from an RGB uint8 face crop (H, W, 3)."""
        blob = cv2.dnn.blobFromImage(np.ascontiguousarray(face[:, :, ::-1]), 1.0, (227, 227), self._MEAN, swapRB=False)
        self._age.setInput(blob)
        age = float(self._age.forward().reshape(-1) @ _AGE_CENTRES)
        self._sex.setInput(blob)
        return age, float(self._sex.forward().reshape(-1)[1])
