"""Finds missing parts of a picture: the traces that a lost piece of a file leaves in the decoded pixels.

If a copy broke off, or a disk lost a block, decoders fill the rest of the picture with one colour. In uncompressed
pixels, a line of zeros is left. Once such a file has been opened and saved again, only the picture itself shows the
damage. Pixels are stored row by row, so a lost piece begins and ends in the middle of a row. A drawn bar does not.
"""

from __future__ import annotations

import numpy as np

_REST_ROWS, _REST_SHARE = 64, 1 / 16  # least height of a lost end of the picture: rows, and share of the picture
_BLOCK = 16  # rows and columns in which a JPEG stores its picture
_EXTREME = 8  # levels from black or white: bars of these colours are drawn, margins of a scan above all
_FLAT_SHARE, _CLIPPED_SHARE = 0.15, 0.5
_LOST_PIXELS = 600  # least length of a line of zeros that counts
_SCATTERED = 0.2  # share of pixels of that colour that a photograph may have before it
_CONTRAST = 24  # mean difference in grey levels between such a line and the rows above and below


def is_missing_a_part(pixels: np.ndarray, plain: bool = False) -> bool:
    """Whether the end of a picture, or a piece of it, is missing.

    Parameters
    ----------
    pixels : ndarray, (H, W) or (H, W, C)
        As the file stores them: not yet turned upright, in the file's own colour space.
    plain : bool
        Whether they were stored without compression, so that a lost piece is zeros.
    """
    if pixels.dtype == bool or pixels.ndim not in (2, 3):
        return False
    return _rest_is_missing(pixels) or (plain and _line_is_missing(pixels))


def is_blank(pixels: np.ndarray) -> bool:
    """Whether an area has too many pixels of one colour to be a photograph of something.

    Parameters
    ----------
    pixels : ndarray, (n, 3), uint8
        Pixels of the area.

    Returns
    -------
    bool
        True if 15 % of the pixels have the same colour; 50 % if it is black or white, where light or shadow is clipped.
    """
    colours = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, counts = np.unique(colours, return_counts=True)
    levels = found[:, None] >> np.array([16, 8, 0], np.uint32) & 255
    clipped = (levels <= _EXTREME).all(axis=1) | (levels >= 255 - _EXTREME).all(axis=1)
    return bool((counts >= np.where(clipped, _CLIPPED_SHARE, _FLAT_SHARE) * len(pixels)).any())


def _rest_is_missing(pixels: np.ndarray) -> bool:
    """Whether one colour fills the picture from some row to the end, and is not black or white or begins in mid-row."""
    height = len(pixels)
    last = pixels[-1, -1]
    first = height
    while first and (pixels[first - 1] == last).all():
        first -= 1
    rest = height - first
    if not first or rest < max(_REST_ROWS, height * _REST_SHARE):
        return False
    white = np.iinfo(pixels.dtype).max
    margin = _EXTREME * white // 255
    if not ((last <= margin).all() or (last >= white - margin).all()):
        return True
    return _starts_within(pixels[max(0, first - _BLOCK) : first], last)


def _starts_within(rows: np.ndarray, colour: np.ndarray) -> bool:
    """Whether the colour begins at one column of the last intact rows and continues to the right edge."""
    filled = (rows == colour).reshape(*rows.shape[:2], -1).all(axis=2)
    edge = filled.shape[1] - filled[-1, ::-1].argmin()  # of the lowest row that is not wholly filled
    before = filled[-1, :edge]
    return filled.shape[1] - edge >= _BLOCK and len(before) >= _BLOCK and before.mean() < _SCATTERED


def _line_is_missing(pixels: np.ndarray) -> bool:
    """Whether there is a run of zeros, in storage order, that the rows above and below do not continue."""
    height, width = pixels.shape[:2]
    flat = pixels.reshape(height * width, -1)
    zero = np.concatenate([[False], ~flat.any(axis=1), [False]])
    starts, ends = (np.flatnonzero(zero[1:] & ~zero[:-1]), np.flatnonzero(~zero[1:] & zero[:-1]))
    for start, end in zip(starts, ends, strict=True):
        inner = start % width and end % width  # a drawn line or bar ends where the row does
        if end - start < min(_LOST_PIXELS, height * width // 4) or not inner:
            continue
        above, below = flat[max(0, start - width) : start], flat[end : end + width]
        span = min(end - start, width)
        if min(_level(above[:span]), _level(below[-span:])) >= _CONTRAST * np.iinfo(pixels.dtype).max / 255:
            return True
    return False


def _level(pixels: np.ndarray) -> float:
    return float(pixels.mean()) if pixels.size else 0.0
