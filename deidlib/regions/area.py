"""Regions: the released square, the preserved area with its core and blend band, in the photograph's own pixels.

The band lies inside the preserved area: the core is the area without the band. Outside the area no pixel of the
photograph is released, not even blended.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa

from deidlib.contract.routes import GENERATE, INTRAORAL
from deidlib.errors import InputError
from deidlib.intake.missing import is_blank
from deidlib.storage import tables
from deidlib.storage.images import decode_png, encode_png
from deidlib.vision.alignment import ALIGNED_SIDE, LIPS_INNER, LIPS_OUTER, matrix_of, points_of

_SUBPIXEL_BITS = 4
_NOSE_BASE = 2
_INTER_OCULAR_SHARE = 0.25  # distance between the eyes of a frontal face, as a share of the released square's side
_BORDER = 0.25  # border around a mask without landmarks, as a share of the mask's longer side
_BAND_SHARE = 0.3  # largest share of a mask's half width that the band takes
_EDGE = 2.0  # px of the aligned frame; margin at its border, so that released pixels are interpolated from inside


def released_square(aligned_to_native: np.ndarray) -> tuple[int, int, int]:
    """Largest upright square of the native grid inside the generated (possibly rolled) one.

    Parameters
    ----------
    aligned_to_native : ndarray, (2, 3)
        Similarity from the aligned to the native frame.

    Returns
    -------
    left, top, side : int
        In pixels of the native frame; the square may reach beyond the photograph, where the generated face fills it.
    """
    cosine, sine = np.abs(aligned_to_native[:, 0])
    centre = aligned_to_native @ np.array([(ALIGNED_SIDE - 1) / 2, (ALIGNED_SIDE - 1) / 2, 1.0])
    scale = np.hypot(cosine, sine)
    side = (
        int(np.floor((ALIGNED_SIDE - 2 * _EDGE) * scale**2 / (cosine + sine))) - 1
    )  # 1, because the grid's position is arbitrary
    left, top = np.ceil(centre - (side - 1) / 2).astype(int)
    return int(left), int(top), side


def square_around(mask: np.ndarray) -> tuple[int, int, int]:
    """Square around a clinician's mask, with a border of a quarter of its longer side: left, top, side in px."""
    left, top, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    side = round(max(width, height) * (1 + 2 * _BORDER))
    return left - (side - width) // 2, top - (side - height) // 2, side


def _filled(polygon: np.ndarray, side: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    points = np.round(polygon * 2**_SUBPIXEL_BITS).astype(np.int32)
    return cv2.fillPoly(mask, [points], 255, shift=_SUBPIXEL_BITS)


def distance_outside(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels of each pixel outside a mask to the mask; 0 inside."""
    return cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Cubic step: 0 up to 0, 1 from 1 on, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def depth_inside(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels from each pixel of a mask to the outside, at least 1; 0 outside."""
    return cv2.distanceTransform((mask > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def preserved_area(core: np.ndarray, band: np.ndarray) -> np.ndarray:
    """The whole preserved area, (side, side) bool: core and band."""
    return (core > 0) | (band > 0)


def band_width(core: np.ndarray, band: np.ndarray) -> float:
    """Width of the band in pixels, at least 1."""
    return max(1.0, float(distance_outside(core)[band > 0].max(initial=0)))


def band_depth(core: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Depth of each pixel in the band, (side, side): 0 outside the area, rising over the band to 1 in the core."""
    depth = depth_inside(preserved_area(core, band))
    width = float(depth[band > 0].max(initial=0)) + 1
    return np.where(core > 0, 1.0, np.minimum(depth / width, 1.0))


def fade_weight(core: np.ndarray, band: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Share of the photograph in the blended result, (side, side) in 0–1: 1 in the core, falling to 0 over the band."""
    return smoothstep(band_depth(core, band)) * inside


def _dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    return np.where(distance_outside(mask) <= radius, 255, 0).astype(np.uint8) if mask.any() else mask


def core_within(area: np.ndarray, width: float, most: float = 1.0) -> np.ndarray:
    """The core of an area, (side, side) uint8: the pixels deeper inside it than the band's ``width`` in pixels.

    The band takes at most the share ``most`` of the area's half width, so that a narrow area keeps a core.
    """
    depth = depth_inside(area)
    return np.where(depth > min(width, most * depth.max(initial=0)), 255, 0).astype(np.uint8)


def _lower_face(points: np.ndarray, side: int, margin: float, along: np.ndarray | None) -> np.ndarray:
    """The face below the nose base, cut parallel to the line through the eyes (or ``along``), grown except at the cut.

    The face is the convex hull of its landmarks, because the lips of a turned head reach beyond the mesh's oval.
    """
    face = _dilated(_filled(cv2.convexHull(points)[:, 0], side), margin)
    along = points[263] - points[33] if along is None else along
    down = np.array([-along[1], along[0]]) / np.hypot(*along)
    y, x = np.mgrid[:side, :side]
    below = (x - points[_NOSE_BASE, 0]) * down[0] + (y - points[_NOSE_BASE, 1]) * down[1] > 0
    return np.where(below, face, 0).astype(np.uint8)


def area_of_landmarks(
    points: np.ndarray, side: int, method: str, margin: float, along: np.ndarray | None = None
) -> np.ndarray:
    """Mask of the preserved area, its band included.

    Parameters
    ----------
    points : ndarray, (478, 2)
        Landmarks in pixels of the released square.
    side : int
        Side of the released square.
    method : str
        ``teeth`` (inside the lips), ``mouth`` (the lips) or ``lower_face`` (the face below the nose).
    margin : float
        How far the area reaches beyond the outline of the landmarks, in pixels.
    along : ndarray, (2,), optional
        Direction of the cut of ``lower_face``; by default the line through the eyes, which a profile does not show.

    Returns
    -------
    ndarray, (side, side), uint8
        255 inside.
    """
    if method == "teeth":
        return _dilated(_filled(points[LIPS_INNER], side), margin)
    if method == "mouth":
        return _dilated(_filled(points[LIPS_OUTER], side), margin)
    if method == "lower_face":
        return _lower_face(points, side, margin, along)
    raise InputError(f"preserve: {method!r} is not one of teeth, mouth, lower_face")


def cut_square(image: np.ndarray, left: int, top: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The released square of a native image, and which of its pixels lie inside the photograph.

    Returns
    -------
    square : ndarray, (side, side, …)
        The image's pixels; outside the photograph, the nearest pixel of its edge.
    inside : ndarray, (side, side), bool
        Which pixels belong to the photograph.
    """
    height, width = image.shape[:2]
    rows, columns = np.arange(top, top + side), np.arange(left, left + side)
    square = image[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)[None, :]]
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
    return square, inside


def cut_region(image: np.ndarray, region: dict) -> tuple[np.ndarray, np.ndarray]:
    """The part of a native image that a row of the regions table releases: :func:`cut_square`, or the whole image."""
    if region["crop_side"] is None:
        return image, np.ones(image.shape[:2], bool)
    return cut_square(image, region["crop_left"], region["crop_top"], region["crop_side"])


def _whole_row(photo: dict) -> dict:
    """The region of the whole photograph (route ``intraoral``): no square, and no band."""
    core = np.full((photo["height"], photo["width"]), 255, np.uint8)
    return {
        "method": "whole",
        "crop_left": 0,
        "crop_top": 0,
        "crop_side": None,
        "core": encode_png(core),
        "band": encode_png(np.zeros_like(core)),
        "core_pixels": core.size,
        "status": tables.OK,
    }


def _masked_area(photo: dict, left: int, top: int, side: int) -> tuple[np.ndarray, bool]:
    """The clinician's mask in the released square, and whether a part of it lies outside."""
    mask = decode_png(photo["mask"])
    square, inside = cut_square(mask, left, top, side)
    area = np.where(inside, square, 0).astype(np.uint8)
    return area, np.count_nonzero(area) < np.count_nonzero(mask)


def _drawn_area(
    photo: dict, landmark: dict, left: int, top: int, side: int, method: str, margin: float
) -> tuple[np.ndarray, bool]:
    """The area that the landmarks give in the released square, and whether a part of it lies outside the photograph."""
    points, along, unit = points_of(landmark) - np.array([left, top], np.float32), None, landmark["inter_ocular"]
    if landmark["route"] != GENERATE:  # a profile shows one eye only
        along, unit = matrix_of(landmark)[:, 0], max(unit, _INTER_OCULAR_SHARE * side)
    area = area_of_landmarks(points, side, method, margin * unit, along)
    blank = np.zeros((photo["height"], photo["width"]), np.uint8)
    return area, bool(area[~cut_square(blank, left, top, side)[1]].any())


def _region_row(photo: dict, landmark: dict, method: str, options: dict) -> dict:
    if landmark["route"] == INTRAORAL:
        return _whole_row(photo)
    has_face, generated = landmark["points"] is not None, landmark["route"] == GENERATE
    left, top, side = released_square(matrix_of(landmark)) if has_face else square_around(decode_png(photo["mask"]))
    # A result without a generated face has no band: the area itself is kept.
    band, most, margin = options["band"] if generated else 0.0, 1.0, options["margin"]
    if photo["mask"] is not None:
        method, most = "mask", _BAND_SHARE  # a drawn mask is not extended: its band lies inside it
        area, lost = _masked_area(photo, left, top, side)
    else:
        if method == "teeth":  # the lips need not be preserved: the margin is used as the band
            band, margin = min(band, margin), 0.0
        area, lost = _drawn_area(photo, landmark, left, top, side, method, margin + band)
    core = core_within(area, band * landmark["inter_ocular"], most) if generated else area
    if lost or np.count_nonzero(core) < options["min_pixels"]:
        return {"status": tables.QUARANTINED, "reason": "region_empty"}
    return {
        "method": method,
        "crop_left": left,
        "crop_top": top,
        "crop_side": side,
        "core": encode_png(core),
        "band": encode_png(area & ~core),
        "core_pixels": int(np.count_nonzero(core)),
        "status": tables.OK,
    }


def _is_blank(photo: dict, row: dict) -> bool:
    square, _ = cut_region(decode_png(photo["image"]), row)
    return is_blank(square[decode_png(row["core"]) > 0])


def preserve_regions(
    photos: pa.Table,
    landmarks: pa.Table,
    method: str,
    options: dict,
    progress: Callable[[], None] | None = None,
) -> pa.Table:
    """Regions of every photograph that passed the landmarks stage.

    Parameters
    ----------
    photos, landmarks : Table
        ``tables.PHOTOS`` and ``tables.LANDMARKS`` of a shard or a part of it. A photograph's own ``mask`` takes the
        place of ``method``; an area without content is quarantined (:func:`deidlib.intake.missing.is_blank`).
    method : str
        ``teeth``, ``mouth`` or ``lower_face``.
    options : dict
        ``margin`` and ``band`` in inter-ocular distances; ``min_pixels`` of the core. An area from landmarks is grown
        by both, and its core by the margin alone; that of the teeth is grown by a band as wide as the margin; the band
        of a mask takes a part of it.
    progress : callable, optional
        Called once for each photograph.

    Returns
    -------
    Table
        ``tables.REGIONS``.
    """
    columns = ["release_photo_id", "mask", "width", "height", "image"]
    by_id = {row["release_photo_id"]: row for row in photos.select(columns).to_pylist()}
    rows = []
    for landmark in tables.handled(landmarks).to_pylist():
        photo = by_id[landmark["release_photo_id"]]
        row = _region_row(photo, landmark, method, options)
        if row["status"] == tables.OK and _is_blank(photo, row):
            row = {"status": tables.QUARANTINED, "reason": "area_blank"}
        rows.append({"release_photo_id": landmark["release_photo_id"], "route": landmark["route"], **row})
        if progress:
            progress()
    return tables.from_rows(rows, tables.REGIONS)
