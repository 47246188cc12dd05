"""Clutter in a generated face's background. The generator draws plain backgrounds well, foliage and crowds badly."""

from __future__ import annotations

import cv2
import numpy as np

_ROWS, _WIDTH = slice(0, 180), 30  # px of the aligned frame at 256²: above the shoulders, and from either side inwards


def clutter(aligned: np.ndarray) -> float:
    """Natural logarithm of the contrast beside the head: RMS gradient in grey levels per pixel; −0.7 if it is even.

    Parameters
    ----------
    aligned : ndarray, (256, 256, 3), uint8
        The face in the aligned frame.
    """
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) / 8
    sides = gradient[_ROWS, :_WIDTH], gradient[_ROWS, -_WIDTH:]
    return float(np.mean([np.log(0.5 + np.sqrt(np.mean(side**2))) for side in sides]))
