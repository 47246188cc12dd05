"""The search for faces in results that must show none: every detector, at eight rotations and three sizes.

A detector that sees the picture once, upright, overlooks a face that lies on its side, fills the frame or is small.
Here each detector sees the picture rotated by multiples of 45° and with neutral borders. The highest count over all
these views is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from deidlib.contract.routes import NEUTRAL
from deidlib.vision.detectors import HogDetector

TURNS = range(0, 360, 45)  # degrees
#: Longer side of the picture and side of its canvas, in pixels; and the rotations. Faces in close-ups are found best
#: with a wide border: in 16 portraits cropped to half the nose, mouth and chin, YuNet found 7 faces without a border
#: and 15 with the last of these settings.
_SIZES = ((640, 640, (0,)), (640, 960, TURNS), (256, 640, TURNS))


class FaceSearch:
    """Counts the faces of a picture with YuNet, MediaPipe and dlib's HOG detector.

    Parameters
    ----------
    yunet, mediapipe
        Detectors with ``detect(image)``, whose length is the number of faces in an RGB uint8 image.
    """

    def __init__(self, yunet: Any, mediapipe: Any):
        self._detectors = {"yunet": yunet, "mediapipe": mediapipe, "dlib": HogDetector()}

    def finds(self, image: np.ndarray) -> bool:
        """Whether any detector finds a face at any rotation and size of an RGB uint8 image."""
        return any(len(one.detect(picture)) for picture in _pictures(image) for one in self._detectors.values())

    def count(self, image: np.ndarray) -> dict[str, int]:
        """Most faces that ``yunet``, ``mediapipe`` and ``dlib`` each find at any rotation and size of the image."""
        most = dict.fromkeys(self._detectors, 0)
        for picture in _pictures(image):
            for name, detector in self._detectors.items():
                most[name] = max(most[name], len(detector.detect(picture)))
        return most


def _pictures(image: np.ndarray) -> Iterator[np.ndarray]:
    for longer, side, turns in _SIZES:
        for degrees in turns:
            yield _set_into(image, longer, side, degrees)


def _set_into(image: np.ndarray, longer: int, side: int, degrees: float) -> np.ndarray:
    """The picture, rotated, in the middle of a neutral canvas of ``side``²."""
    height, width = image.shape[:2]
    scale = longer / max(height, width)
    if scale < 1:  # shrunk by averaging first, so that the rotation only interpolates
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        (height, width), scale = image.shape[:2], 1.0
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix[:, 2] += np.array([side - width, side - height]) / 2
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=NEUTRAL)
