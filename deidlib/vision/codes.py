"""Machine-readable codes in pictures: QR, Data Matrix, Aztec, PDF417 and bar codes.

They can hold patient numbers, as text can. The content of a code is never kept.
"""

from __future__ import annotations

import cv2
import numpy as np
import zxingcpp

from deidlib.vision.text import Mark

_TURNS = (0, 30, 60)  # degrees; the library reads bar codes within about 15 degrees of horizontal or vertical
_MOST_ENLARGED = 4_000_000  # px; a picture of at most this size is also enlarged, for codes with modules of one pixel


def find_codes(image: np.ndarray) -> list[Mark]:
    """Readable codes in an RGB uint8 image, (H, W, 3). What only looks like a code is often a tooth.

    Returns
    -------
    list of Mark
        Their score is infinite.
    """
    height, width = image.shape[:2]
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    found = []
    for scale in (1, 2) if height * width <= _MOST_ENLARGED else (1,):
        for degrees in _TURNS:
            to_turned, size = _turned(height, width, scale, degrees)
            seen = cv2.warpAffine(grey, to_turned, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            back = cv2.invertAffineTransform(to_turned)
            for code in zxingcpp.read_barcodes(seen):
                corners = np.array(_corners(code.position), np.float64)
                found.append(Mark((corners @ back[:, :2].T + back[:, 2]).astype(np.float32), float("inf")))
    return found


def _turned(height: int, width: int, scale: int, degrees: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Matrix from a picture's pixels to those of the picture turned and enlarged, and the size that holds it all."""
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    size = round(width * cosine + height * sine), round(width * sine + height * cosine)
    matrix = np.array([[cosine, sine, 0], [-sine, cosine, 0]])
    matrix[:, 2] = (np.array(size) - 1) / 2 - matrix[:, :2] @ ((np.array([width, height]) - 1) / 2)
    return matrix, size


def _corners(position: zxingcpp.Position) -> list[tuple[int, int]]:
    corners = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    return [(corner.x, corner.y) for corner in corners]
