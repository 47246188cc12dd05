"""The alignment of a face to the generator's frame, as a matrix: the photograph itself is never resampled."""

from __future__ import annotations

import cv2
import numpy as np

ALIGNED_SIDE = 1024  # px, the generator's frame

# Indices of the MediaPipe face mesh (canonical face model of google-ai-edge/mediapipe).
LEFT_EYE = [33, 160, 158, 133, 153, 144]  # the subject's right eye: left in the image
RIGHT_EYE = [362, 385, 387, 263, 373, 380]
MOUTH_CORNERS = [61, 291]
LIPS_OUTER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
LIPS_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]
FACE_OVAL = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
]  # fmt: skip


def eye_centres(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the image's left and right eye; same frame as ``points``, (478, 2)."""
    return points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)


def aligned_to_native(points: np.ndarray) -> np.ndarray:
    """FFHQ alignment (Karras et al. 2019, arXiv 1812.04948, appendix A) as a similarity.

    Parameters
    ----------
    points : ndarray, (478, 2)
        Landmarks in the ``native`` frame.

    Returns
    -------
    ndarray, (2, 3), float64
        Maps (x, y, 1) of the ``aligned`` frame (1024², pixel centres at integers) to the native frame.
    """
    left_eye, right_eye = (p.astype(np.float64) for p in eye_centres(points))
    mouth = points[MOUTH_CORNERS].astype(np.float64).mean(axis=0)
    eyes = (left_eye + right_eye) / 2
    eye_to_eye, eye_to_mouth = right_eye - left_eye, mouth - eyes
    x = eye_to_eye - np.array([-eye_to_mouth[1], eye_to_mouth[0]])
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * eye_to_mouth
    # The quad spans centre ± x ± y; column vectors per aligned pixel:
    ux, uy = 2 * x / ALIGNED_SIDE, 2 * y / ALIGNED_SIDE
    origin = centre - x - y + 0.5 * (ux + uy) - 0.5
    return np.column_stack([ux, uy, origin])


def invert_similarity(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a 2×3 affine matrix, as 2×3."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a 2×3 matrix to points, (N, 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def resample(image: np.ndarray, to_source: np.ndarray, side: int, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Resample an image through a similarity, smoothing first where the result has fewer pixels.

    Parameters
    ----------
    image : ndarray, (H, W) or (H, W, 3)
        The source.
    to_source : ndarray, (2, 3)
        Maps a pixel (x, y) of the result to the source.
    side : int
        The result is ``side``².
    border : int
        OpenCV border mode for what lies outside the source.
    """
    shrink = np.hypot(*to_source[:, 0])
    if shrink > 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(shrink**2 - 1) + 1e-3)
    flags = (cv2.INTER_LINEAR if shrink > 1 else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, to_source, (side, side), flags=flags, borderMode=border)


def align_photo(
    image: np.ndarray, aligned_to_native: np.ndarray, side: int, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """Resample a native image into the aligned frame at ``side``², for measuring and comparing, never for release."""
    scale = ALIGNED_SIDE / side
    matrix = aligned_to_native.copy()
    # Pixel centres: aligned = (small + 0.5) · scale − 0.5
    matrix[:, 2] = matrix @ np.array([0.5 * scale - 0.5, 0.5 * scale - 0.5, 1.0])
    matrix[:, :2] *= scale
    return resample(image, matrix, side, border)


def points_of(row: dict) -> np.ndarray:
    """Landmarks, (478, 2), of a row of the landmarks table."""
    return np.asarray(row["points"], np.float32).reshape(-1, 2)


def matrix_of(row: dict) -> np.ndarray:
    """Aligned-to-native matrix, (2, 3), of a row of the landmarks table."""
    return np.asarray(row["aligned_to_native"], np.float64).reshape(2, 3)
