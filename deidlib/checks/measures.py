"""What the gate measures on one released photograph: pure functions on pixels and points.

All images are RGB uint8 (side, side, 3) in the ``crop`` frame: the released square in the photograph's grid.
"""

from __future__ import annotations

import cv2
import numpy as np

from deidlib.vision.alignment import LIPS_INNER, LIPS_OUTER, eye_centres

HIGH_PASS = 2.0  # px; standard deviation of the Gaussian that is subtracted
SOURCE_BLURS = (0.0, 0.7, 1.2)  # px; blurred copies are searched as well
TEXTURE_LEAST = 0.7  # grey levels; a block with less contrast than this after the high-pass counts as flat
BLOCK_LEAST, BLOCK_MOST = 8, 12  # px
PATCH_BLOCKS = 3  # a patch is this many blocks wide and high


def core_equals(source: np.ndarray, result: np.ndarray, core: np.ndarray, inside: np.ndarray) -> bool:
    """Whether the core is not empty, lies inside the photograph, and is equal in every pixel and channel.

    Parameters
    ----------
    source, result : ndarray, (side, side, 3), uint8
        The decoded photograph's crop and the decoded release.
    core : ndarray, (side, side), uint8
        255 inside the preserved core.
    inside : ndarray, (side, side), bool
        Pixels of the crop that belong to the photograph.
    """
    if not source.shape == result.shape == (*core.shape, 3):
        return False
    where = core > 0
    return bool(where.any() and inside[where].all() and np.array_equal(source[where], result[where]))


def block_side(side: int) -> int:
    """Side in pixels of the blocks of :func:`block_survival` for a crop of ``side`` pixels."""
    return int(np.clip(side // 48, BLOCK_LEAST, BLOCK_MOST))


def block_survival(
    source: np.ndarray, result: np.ndarray, outside: np.ndarray, block: int | None = None
) -> float | None:
    """Find the highest correlation, at zero shift, of a textured patch of the result with its source.

    Plain block correlation cannot tell a surviving patch from another face in the same place: lid, brow
    and jaw lines coincide in aligned faces, and one shared edge fills a block (median of the highest
    score over unrelated pairs of aligned faces: 0.95 for blocks of 16²). What a copy alone shares is fine
    texture over an area. Hence: the luminance is high-passed; the normalised cross-correlation is taken
    in blocks at every pixel position, which makes it blind to gain and offset; and a patch of 3×3
    adjacent blocks scores what its worst block scores, so that an edge, which crosses some of them, does
    not carry it. The source is compared as it is and slightly softened. Unrelated pairs (16 photographs
    and 12 images of the default generator, at 256², 512² and 1024²) score at most 0.61 for photograph
    against generated and 0.76 for generated against generated, whose fixed noise images are alike; a
    copied patch scores 1.0.

    Parameters
    ----------
    source, result : ndarray, (side, side, 3), uint8
        The decoded photograph's crop and the decoded release.
    outside : ndarray, (side, side), bool
        Pixels to compare: those of the photograph, outside core and band. Nothing else enters the score.
    block : int, optional
        Side of a block in pixels; by default :func:`block_side`. What is copied is found if a patch, and
        about 3 pixels around it, lie within the copy.

    Returns
    -------
    float or None
        −1 to 1; −1 where no patch is textured in both images; None where no patch lies wholly in
        ``outside``, so that there is nothing to judge.
    """
    block = block or block_side(source.shape[0])
    share = _block_mean(outside.astype(np.float64), block)
    whole = _patches(share > 1 - 0.5 / block**2, block, np.logical_and)
    if not whole.any():
        return None
    grey, target = _luminance(source), _high_pass(_luminance(result), outside)
    best = -1.0
    for blur in SOURCE_BLURS:
        detail = _high_pass(_mean_outside(grey, outside, blur) if blur else grey, outside)
        scores = _patches(_block_correlation(detail, target, block), block, np.minimum)
        best = max(best, float(scores[whole].max()))
    return min(best, 1.0)


def _luminance(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)


def _mean_outside(grey: np.ndarray, outside: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian mean of the pixels outside, from those alone (normalised convolution)."""
    weight = outside.astype(np.float64)
    near = cv2.GaussianBlur(weight, (0, 0), deviation)
    return cv2.GaussianBlur(grey * weight, (0, 0), deviation) / np.maximum(near, 1e-6)


def _high_pass(grey: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Detail of the pixels outside; 0 elsewhere."""
    return np.where(outside, grey - _mean_outside(grey, outside, HIGH_PASS), 0.0)


def _block_mean(values: np.ndarray, block: int) -> np.ndarray:
    """Mean over the block² pixels whose upper left one is at each index that leaves room for them."""
    rows, columns = (n - block + 1 for n in values.shape)
    means = cv2.boxFilter(values, cv2.CV_64F, (block, block), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    return means[: max(rows, 0), : max(columns, 0)]


def _block_correlation(a: np.ndarray, b: np.ndarray, block: int) -> np.ndarray:
    mean_a, mean_b = _block_mean(a, block), _block_mean(b, block)
    variance_a = _block_mean(a * a, block) - mean_a**2
    variance_b = _block_mean(b * b, block) - mean_b**2
    flat = np.minimum(variance_a, variance_b) < TEXTURE_LEAST**2
    product = np.where(flat, 1.0, variance_a * variance_b)
    return np.where(flat, -1.0, (_block_mean(a * b, block) - mean_a * mean_b) / np.sqrt(product))


def _patches(blocks: np.ndarray, block: int, join: np.ufunc) -> np.ndarray:
    """Join the values of all adjacent blocks of a patch, at the index of the upper left one."""
    for axis in (0, 1):
        room = max(blocks.shape[axis] - (PATCH_BLOCKS - 1) * block, 0)
        parts = (np.arange(room) + i * block for i in range(PATCH_BLOCKS))
        blocks = join.reduce([blocks.take(part, axis=axis) for part in parts])
    return blocks


def mouth_shift(source_points: np.ndarray, result_points: np.ndarray) -> float:
    """Largest displacement of a lip landmark, in per cent of the source's inter-ocular distance.

    Parameters
    ----------
    source_points, result_points : ndarray, (478, 2)
        MediaPipe landmarks of source and result, both in pixels of the crop frame.
    """
    lips = [*LIPS_OUTER, *LIPS_INNER]
    left, right = eye_centres(source_points)
    displacement = np.linalg.norm(result_points[lips] - source_points[lips], axis=1)
    return float(100 * displacement.max() / np.linalg.norm(right - left))
