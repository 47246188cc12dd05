"""The seam score: the change along the preserved area's border that a composite has and its photograph does not."""

from __future__ import annotations

import cv2
import numpy as np

from deidlib.regions.area import band_width, distance_outside, smoothstep

_SECTORS = 24, 12, 6  # of the whole turn; fewer where the border is too short for more
_SECTOR_PIXELS = 6  # least pixels of the strip at the border that a sector has in the mean
_STRIP_LEAST = 3  # pixels of a strip in a sector; one with fewer is left out
_ARCS = 1 / 24, 1 / 12, 1 / 6, 1 / 3, 1.0  # of the whole turn
_ARC_LEAST = 0.6  # share of an arc's sectors that have a step; an arc with fewer is left out
_VISIBLE = 1.8  # Lab units; the smallest visible step that goes all round
_ROUGHER = 0.5  # smallest visible increase of the band's roughness, as a share
_FLOOR = 1.0  # Lab units; invisible roughness
_NATURAL = 1.2  # Lab units; a generated face's own change over a strip, mean over the whole turn


def seam_score(result: np.ndarray, source: np.ndarray, core: np.ndarray, band: np.ndarray) -> float | None:
    """1 plus the larger of two values: the largest new step along the band, and the band's new roughness.

    **Steps.** Strips of width t = max(2 px, w/8) follow the core's border, w being the band's width. At the contour of
    signed distance c, in a sector of the angle around the core's centre, the step is the jump of the mean Lab colour m
    between the two strips that meet there, beyond the slope that the next two show (0 on any ramp):

        s = 3/2 (m₁ − m₀) − 1/2 (m₂ − m₋₁)

    A seam is a step that many neighbouring sectors share; texture, and edges that cross the contour, are not. So an
    arc, of share θ of the whole turn, has the median s of its sectors (by channel). Nor are the photograph's own edges
    seams: the new step of an arc is n = min(‖s of the result‖, ‖s of the result − s of the source‖). With f the share
    of the photograph in the blend (:func:`deidlib.regions.area.fade_weight`), it counts as visible from

        v = 1.8 θ^(−1/2) + 1.2 (1 − f(c + t)) θ^(−1)

    on: the first term follows what noise leaves in the mean of so many pixels; the second, the steps that faces have
    of their own, which the result may have where it is no longer the photograph. Contours lie every t/2 from the
    core's border to the band's outer edge; arcs have 15°, 30°, 60°, 120° and the whole turn.

    **Roughness.** With g the mean length of the high-passed Lab colour plus 1, result over source, in the band's inner
    half: r = (g / g of the core's rim − 1) / 0.5.

    The score is 1 + max(0, r, n / v over all contours and arcs).

    Parameters
    ----------
    result, source : ndarray, (S, S, 3), uint8
        The blended image and the photograph's released square.
    core, band : ndarray, (S, S), uint8
        Masks, 255 inside.

    Returns
    -------
    float or None
        1 for the untouched photograph, 2 for a seam that is just visible. None where there is no border to look at:
        the core is empty, or so is the rest, or one of them has a few pixels only.

    Notes
    -----
    The constants were set on 16 portraits (squares of 234 to 962 px) and their generated faces. Blended, these score
    1.28 to 1.82 (median 1.43), as the untouched photograph does after JPEG of quality 90 (1.27 to 1.92); pasted, 2.8 to
    6.2. Not seen: a step of 20 grey levels in a sixth of the turn at the band's middle or outer edge, where faces
    have such steps of their own.
    """
    if not core.any() or core.all():
        return None
    near = core | band
    width = band_width(*(_near(mask, near, 0) for mask in (core, band)))
    strip = max(2.0, width / 8)
    result, source, core = (_near(image, near, int(np.ceil(3 * strip))) for image in (result, source, core))
    images, distance = (_lab(result), _lab(source)), _distance(core)
    labels, shape = _labels(distance, strip, round(2 * width / strip))
    step, own = (_steps(image, labels, shape) for image in images)
    if not np.isfinite(step).any():
        return None
    contours = np.arange(len(step)) * strip / 2
    blended = smoothstep((contours + strip) / width)
    sectors = step.shape[1]
    score = max(0.0, _rougher(*images, distance, width) / _ROUGHER)
    for arc in _ARCS:
        if (many := round(arc * sectors)) >= 1:
            new = np.minimum(_shared(step, many), _shared(step - own, many)).max(axis=1)
            score = max(score, (new / (_VISIBLE * arc**-0.5 + _NATURAL * blended / arc)).max())
    return 1 + float(score)


def _lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _distance(core: np.ndarray) -> np.ndarray:
    """Signed distance in pixels to the core's border, which runs between pixels; negative inside."""
    rest = np.where(core > 0, 0, 255).astype(np.uint8)
    return np.where(core > 0, 0.5 - distance_outside(rest), distance_outside(core) - 0.5)


def _rougher(result: np.ndarray, source: np.ndarray, distance: np.ndarray, width: float) -> float:
    """Increase of roughness in the band's inner half relative to the core's rim, as a share."""
    # A pixel's roughness is that of its neighbourhood: the rim stays clear of what lies outside.
    zones = (distance > 0) & (distance <= width / 2), (distance < -1) & (distance >= -max(4, width / 2))
    lengths = [np.sqrt(((lab - cv2.blur(lab, (3, 3))) ** 2).sum(axis=2)) for lab in (result, source)]
    ratio = [np.divide(*(length[zone].mean() + _FLOOR for length in lengths)) for zone in zones if zone.any()]
    return ratio[0] / ratio[-1] - 1 if len(ratio) == len(zones) else 0.0


def _near(image: np.ndarray, near: np.ndarray, room: int) -> np.ndarray:
    """The part of an image around a mask, with a border of so many pixels."""
    left, top, width, height = cv2.boundingRect(near)
    return image[max(0, top - room) : top + height + room, max(0, left - room) : left + width + room]


def _labels(distance: np.ndarray, strip: float, layers: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Label of each pixel, layer · sectors + sector, −1 where it has none; numbers of layers and sectors.

    Layers are half a strip thick; the fifth begins at the core's border, and ``layers`` of them cover the band.
    """
    layer = np.floor(distance / (strip / 2)).astype(int) + 4
    room = np.count_nonzero((distance > 0) & (distance < strip)) // _SECTOR_PIXELS
    sectors = next((number for number in _SECTORS if number <= room), _SECTORS[-1])
    y, x = np.indices(distance.shape)
    middle_y, middle_x = (at.mean() for at in np.nonzero(distance < 0))
    turn = np.arctan2(y - middle_y, x - middle_x) / (2 * np.pi) % 1
    sector = np.minimum((turn * sectors).astype(int), sectors - 1)
    shape = layers + 8, sectors
    return np.where((layer >= 0) & (layer < shape[0]), layer * sectors + sector, -1), shape


def _steps(lab: np.ndarray, labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Step s at each contour and sector, (contours, sectors, 3) in Lab units; NaN where a strip has too few pixels."""
    labelled = labels >= 0
    at = labels[labelled]
    lab = lab[labelled]

    def in_strips(values: np.ndarray | None) -> np.ndarray:
        layers = np.bincount(at, values, np.prod(shape)).reshape(shape)
        return layers[:-1] + layers[1:]

    pixels = in_strips(None)
    sums = np.stack([in_strips(channel) for channel in lab.T], axis=2)
    mean = np.where(pixels >= _STRIP_LEAST, 1.0, np.nan)[:, :, None] * sums / np.maximum(pixels, 1)[:, :, None]
    farther_in, just_in, just_out, farther_out = (mean[k : len(mean) - 6 + k] for k in (0, 2, 4, 6))
    return 1.5 * (just_out - just_in) - 0.5 * (farther_out - farther_in)


def _shared(steps: np.ndarray, many: int) -> np.ndarray:
    """Length of the median step of each arc of ``many`` sectors, (contours, arcs); 0 where too few have one."""
    sectors = steps.shape[1]
    starts = np.arange(sectors if many < sectors else 1)
    arcs = np.sort(steps[:, (starts[:, None] + np.arange(many)) % sectors], axis=2)  # NaN last
    number = np.isfinite(arcs[..., 0]).sum(axis=2)
    middle = [np.maximum(number - 1, 0) // 2, number // 2]
    rows, columns = np.indices(number.shape)
    median = sum(arcs[rows, columns, np.minimum(k, many - 1)] for k in middle) / 2
    return np.where(number >= _ARC_LEAST * many, np.linalg.norm(median, axis=2), 0)
