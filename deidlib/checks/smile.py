"""Measurements of a smile that clinicians use, from landmarks and pixels, before and after.

Lengths are in per cent of one inter-ocular distance, the source's, for both images (they share one pixel grid, so
the scale cannot hide a change). Directions are measured against the face in each image, for the released face its own
eye line, since a reader of the release has nothing else. In an adult, 1 % is about 0.6 mm (mean interpupillary distance
63 mm: Dodgson 2004, Proc. SPIE 5291).

Sources of the definitions: R. Sabri, The eight components of a balanced smile, J. Clin. Orthod. 39(3):155-167, 2005
(lip line, corridor, cant, midline); M. B. and J. L. Ackerman, Smile analysis and design in the digital era,
J. Clin. Orthod. 36(4):221-236, 2002 (smile width); T. Moore et al., Buccal corridors and smile esthetics,
Am. J. Orthod. Dentofacial Orthop. 127(2):208-213, 2005 (the corridor as a share).
"""

from __future__ import annotations

import cv2
import numpy as np

from deidlib.vision.alignment import LIPS_INNER, LIPS_OUTER, MOUTH_CORNERS, eye_centres

#: The measures, in the order of ``tables.CHECKS``.
MEASURES = ("smile_width", "lip_line", "midline_offset", "buccal_corridor", "cant")

_NASION, _UPPER_LIP, _LOWER_LIP = 168, 13, 14
_INNER_CORNERS = [78, 308]
_OPEN = 3.0  # % of the inter-ocular distance; lips that are closer together count as closed
_BRIGHT = 0.6  # of the lightest L* between the lips; what is darker is corridor or tongue
_PALER = 10.0  # CIE a*; teeth are at least this much less red than the lips, or none are seen
_MIDDLE = 4.0  # % of the inter-ocular distance; half width of the strip in which the lip line is measured
_SUBPIXEL_BITS = 4


def smile_measures(image: np.ndarray, points: np.ndarray, inter_ocular: float) -> dict[str, float | None]:
    """Measure one smile.

    Parameters
    ----------
    image : ndarray, (side, side, 3), uint8
        Crop of the photograph, or the released image.
    points : ndarray, (478, 2)
        MediaPipe landmarks in pixels of ``image``.
    inter_ocular : float
        Distance between the eye centres that lengths are divided by, in pixels: the source's, for both images.

    Returns
    -------
    dict
        ``smile_width``
            Between the corners of the mouth; %.
        ``lip_line``
            From the upper lip's lower border down to the lower edge of the teeth, at the midline: what shows of
            teeth and gum; %. None where no teeth are seen.
        ``midline_offset``
            Middle of the upper lip against the line through the nasion at right angles to the eye line; %,
            positive to the image's right. The contact of the incisors lies in preserved pixels and cannot move; what
            can is the face around it.
        ``buccal_corridor``
            Share of the width between the inner corners of the mouth in which no teeth are seen; %. None where no
            teeth are seen. Shade counts as dark space.
        ``cant``
            Line through the corners of the mouth against the eye line; degrees, positive where it falls to the
            image's right.
    """
    points = points.astype(np.float64)
    left_eye, right_eye = eye_centres(points)
    along = (right_eye - left_eye) / np.linalg.norm(right_eye - left_eye)
    down = np.array([-along[1], along[0]])
    left, right = points[MOUTH_CORNERS]
    percent = 100 / inter_ocular
    teeth = teeth_pixels(image, points, inter_ocular)
    return {
        "smile_width": float(percent * np.linalg.norm(right - left)),
        "lip_line": _lip_line(teeth, points, along, down, percent),
        "midline_offset": float(percent * (points[_UPPER_LIP] - points[_NASION]) @ along),
        "buccal_corridor": _buccal_corridor(teeth, points),
        "cant": float(np.degrees(np.arctan2((right - left) @ down, (right - left) @ along))),
    }


def before_and_after(
    source: np.ndarray, source_points: np.ndarray, result: np.ndarray, result_points: np.ndarray
) -> dict[str, float | None]:
    """Measure source and result, as the columns ``<measure>_source`` and ``<measure>_result`` of tables.CHECKS.

    Parameters
    ----------
    source, result : ndarray, (side, side, 3), uint8
        The photograph's crop and the de-identified image.
    source_points, result_points : ndarray, (478, 2)
        Their landmarks, in pixels of the crop frame.
    """
    left, right = eye_centres(source_points)
    inter_ocular = float(np.linalg.norm(right - left))
    before = smile_measures(source, source_points, inter_ocular)
    after = smile_measures(result, result_points, inter_ocular)
    return {
        f"{name}_{which}": values[name]
        for name in MEASURES
        for which, values in (("source", before), ("result", after))
    }


def teeth_pixels(image: np.ndarray, points: np.ndarray, inter_ocular: float) -> np.ndarray | None:
    """Pixels of visible teeth, (N, 2) as (x, y): light and less red than the lips; None where none are seen.

    Both bounds follow the photograph itself (its lightest pixels between the lips, its lips' colour), so that
    exposure and white balance matter little. A photograph without colour gives None.
    """
    if np.linalg.norm(points[_LOWER_LIP] - points[_UPPER_LIP]) < _OPEN / 100 * inter_ocular:
        return None
    left, top = np.maximum(np.floor(points[LIPS_OUTER].min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.ceil(points[LIPS_OUTER].max(axis=0)).astype(int) + 2
    mouth = image[top:bottom, left:right]
    lab = cv2.cvtColor(mouth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lightness, redness = lab[..., 0], lab[..., 1]
    inner, outer = (_inside(points[lips] - (left, top), mouth.shape[:2]) for lips in (LIPS_INNER, LIPS_OUTER))
    lips = outer & ~inner
    if not (inner.any() and lips.any()):
        return None
    light = inner & (lightness >= _BRIGHT * np.percentile(lightness[inner], 95))
    lip_red, pale_red = np.median(redness[lips]), np.percentile(redness[light], 10)
    if lip_red - pale_red < _PALER:
        return None
    y, x = np.nonzero(light & (redness < (lip_red + pale_red) / 2))
    return np.column_stack([x + left, y + top])


def _inside(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 2**_SUBPIXEL_BITS).astype(np.int32)], 1, shift=_SUBPIXEL_BITS)
    return mask > 0


def _lip_line(
    teeth: np.ndarray | None, points: np.ndarray, along: np.ndarray, down: np.ndarray, percent: float
) -> float | None:
    if teeth is None:
        return None
    from_lip = teeth - points[_UPPER_LIP]
    strip = from_lip[np.abs(from_lip @ along) * percent <= _MIDDLE]
    return float(percent * np.percentile(strip @ down, 98)) if len(strip) else None


def _buccal_corridor(teeth: np.ndarray | None, points: np.ndarray) -> float | None:
    if teeth is None:
        return None
    left, right = points[_INNER_CORNERS]
    width = np.linalg.norm(right - left)
    first, last = np.percentile((teeth - left) @ (right - left) / width, [1, 99])
    return float(100 * (1 - (last - first) / width))
