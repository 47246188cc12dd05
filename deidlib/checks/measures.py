"""What the gate measures on one released photograph: pure functions on pixels and points.

All images are RGB uint8 (side, side, 3) in the ``crop`` frame: the released square in the photograph's grid.
"""

from __future__ import annotations

import functools

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
    weight = outside.astype(np.float32)
    whole = _patches(_block_mean(weight, block) > 1 - 0.5 / block**2, block, np.logical_and)
    if not whole.any():
        return None
    grey, found = _luminance(source), _Blocks(_high_pass(_luminance(result), weight), block)
    best = -1.0
    for blur in SOURCE_BLURS:
        detail = _high_pass(_mean_outside(grey, weight, blur) if blur else grey, weight)
        scores = _patches(_block_correlation(_Blocks(detail, block), found), block, np.minimum)
        best = max(best, float(scores[whole].max()))
    return min(best, 1.0)


def _luminance(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _mean_outside(grey: np.ndarray, weight: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian mean of the pixels of weight 1, from those alone (normalised convolution)."""
    near = cv2.GaussianBlur(weight, (0, 0), deviation)
    return cv2.GaussianBlur(grey * weight, (0, 0), deviation) / np.maximum(near, 1e-6)


def _high_pass(grey: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Detail of the pixels of weight 1; 0 elsewhere."""
    return (grey - _mean_outside(grey, weight, HIGH_PASS)) * weight


def _block_mean(values: np.ndarray, block: int) -> np.ndarray:
    """Mean over the block² pixels whose upper left one is at each index that leaves room for them."""
    rows, columns = (n - block + 1 for n in values.shape)
    means = cv2.boxFilter(values, cv2.CV_32F, (block, block), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    return means[: max(rows, 0), : max(columns, 0)]


class _Blocks:
    """A picture's detail with mean and variance in the block at each pixel."""

    def __init__(self, detail: np.ndarray, block: int):
        self.detail, self.block = detail, block
        self.mean = _block_mean(detail, block)
        self.variance = _block_mean(detail * detail, block) - self.mean**2


def _block_correlation(a: _Blocks, b: _Blocks) -> np.ndarray:
    flat = np.minimum(a.variance, b.variance) < TEXTURE_LEAST**2
    product = np.where(flat, np.float32(1), a.variance * b.variance)
    covariance = _block_mean(a.detail * b.detail, a.block) - a.mean * b.mean
    return np.where(flat, np.float32(-1), covariance / np.sqrt(product))


def _patches(blocks: np.ndarray, block: int, join: np.ufunc) -> np.ndarray:
    """Join the values of all adjacent blocks of a patch, at the index of the upper left one."""
    for _ in range(2):  # along the rows, then, turned, along the columns
        room = max(len(blocks) - (PATCH_BLOCKS - 1) * block, 0)
        blocks = functools.reduce(join, [blocks[i * block :][:room] for i in range(PATCH_BLOCKS)]).T
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
