"""Features that a donor must share with a patient so that the patient's mouth fits: pose, geometry, skin, age, sex."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from deidlib.vision.alignment import (
    ALIGNED_SIDE,
    LIPS_INNER,
    LIPS_OUTER,
    align_photo,
    invert_similarity,
    transform_points,
)

if TYPE_CHECKING:  # MediaPipe is slow to load
    from deidlib.vision.detectors import AgeSex
    from deidlib.vision.landmarks import Face

FEATURE_SIDE = 512  # px; side of the aligned face that is measured
_TO_FEATURE = FEATURE_SIDE / ALIGNED_SIDE

#: Points of the lower face that decide whether nose base, mouth corners and chin fit; the lips first.
_NOSE_BASE = [2, 98, 327]
_JAW = [58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288]
GEOMETRY_POINTS = [*LIPS_OUTER, *LIPS_INNER, *_NOSE_BASE, *_JAW]
N_LIPS = len(LIPS_OUTER) + len(LIPS_INNER)

#: Where skin is sampled: landmark index by patch name.
SKIN_PATCHES = {
    "cheek_left": 50,
    "cheek_right": 280,
    "forehead": 151,
    "philtrum": 164,
    "mouth_left": 212,
    "mouth_right": 432,
    "chin": 200,
    "jaw_left": 136,
    "jaw_right": 365,
}
_PATCH_RADIUS = 0.09  # of the inter-ocular distance

# MediaPipe blendshape indices.
EXPRESSION = {"jaw_open": [25], "smile": [44, 45], "upper_up": [48, 49], "pucker": [38]}


def skin_patches(points: np.ndarray, height: int, width: int | None = None) -> list[tuple[slice, slice] | None]:
    """Rows and columns of each of ``SKIN_PATCHES``; None where it lies outside an image of this size.

    Parameters
    ----------
    points : ndarray, (478, 2)
        Landmarks in pixels of the image.
    height, width : int
        Of the image; without a width it is square.
    """
    radius = max(2, round(_PATCH_RADIUS * np.hypot(*(points[263] - points[33]))))
    patches = []
    for x, y in np.round(points[list(SKIN_PATCHES.values())]).astype(int):
        rows = slice(max(0, y - radius), min(height, max(0, y + radius + 1)))
        columns = slice(max(0, x - radius), min(width or height, max(0, x + radius + 1)))
        patches.append((rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None)
    return patches


def skin_lab(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Median CIE Lab colour of each skin patch.

    Parameters
    ----------
    image : ndarray, (H, W, 3), uint8
        RGB face.
    points : ndarray, (478, 2)
        Landmarks in pixels of ``image``.

    Returns
    -------
    ndarray, (9, 3), float32
        L in 0–100, a and b, in the order of ``SKIN_PATCHES``; nan where a patch lies outside the image.
    """
    colours = np.full((len(SKIN_PATCHES), 3), np.nan, np.float32)
    for k, patch in enumerate(skin_patches(points, *image.shape[:2])):
        if patch:
            lab = cv2.cvtColor(np.ascontiguousarray(image[patch]).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
            colours[k] = np.median(lab.reshape(-1, 3), axis=0)
    return colours


def measure(aligned: np.ndarray, points: np.ndarray, face: Face, age_sex: AgeSex) -> dict:
    """Describe a face for matching.

    Parameters
    ----------
    aligned : ndarray, (512, 512, 3), uint8
        The face in the aligned frame, reduced to ``FEATURE_SIDE``.
    points : ndarray, (478, 2)
        Landmarks in pixels of the 1024² aligned frame.
    face : Face
        Its detection (pose and blendshapes are read).
    age_sex : AgeSex
        Estimator of apparent age and sex.

    Returns
    -------
    dict
        ``yaw``, ``pitch`` (degrees), ``jaw_open``, ``smile``, ``upper_up``, ``pucker`` (0–1), ``geometry``
        ((58, 2) pixels of the aligned frame), ``skin`` ((9, 3) Lab), ``age`` (years), ``female`` (probability).
    """
    side = slice(round(0.12 * FEATURE_SIDE), round(0.95 * FEATURE_SIDE))
    age, female = age_sex.estimate(aligned[side, side])
    return {
        "yaw": face.yaw,
        "pitch": face.pitch,
        **{name: float(face.blendshapes[indices].mean()) for name, indices in EXPRESSION.items()},
        "geometry": points[GEOMETRY_POINTS].astype(np.float32),
        "skin": skin_lab(aligned, (points + 0.5) * _TO_FEATURE - 0.5),
        "age": age,
        "female": female,
    }


def measure_photo(image: np.ndarray, aligned_to_native: np.ndarray, face: Face, age_sex: AgeSex) -> dict:
    """:func:`measure` for a photograph in its native frame (``face.points`` are native too)."""
    points = transform_points(invert_similarity(aligned_to_native), face.points.astype(np.float64))
    return measure(align_photo(image, aligned_to_native, FEATURE_SIDE), points, face, age_sex)
