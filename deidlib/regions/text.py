"""Text in the preserved area, whose pixels would be released unchanged."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa

from deidlib.regions.area import cut_region
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.vision.text import Mark

#: A search for text and codes: RGB uint8 image (H, W, 3) → marks in its pixels.
Search = Callable[[np.ndarray], list[Mark]]

_CONTEXT, _LEAST_CONTEXT = 0.5, 64  # border around the area, so that lines are read whole: share of its longer side; px


def text_in_area(picture: np.ndarray, area: np.ndarray, search: Search) -> list[np.ndarray]:
    """Text and codes that reach into an area of a picture.

    Parameters
    ----------
    picture : ndarray, (H, W, 3), uint8
        RGB.
    area : ndarray, (H, W), bool
        The pixels that are released unchanged. The search sees them with a border of half their size.
    search : callable
        From :func:`deidlib.vision.networks.text_search`.

    Returns
    -------
    list of ndarray, (4, 2), float32
        Corners in the picture's pixels.
    """
    if not area.any():
        return []
    left, top, width, height = cv2.boundingRect(area.astype(np.uint8))
    border = max(_LEAST_CONTEXT, round(_CONTEXT * max(width, height)))
    left, top, right, bottom = (
        max(0, left - border),
        max(0, top - border),
        left + width + border,
        top + height + border,
    )
    found = search(np.ascontiguousarray(picture[top:bottom, left:right]))
    quads = (mark.quad + np.array([left, top], np.float32) for mark in found)
    return [quad for quad in quads if _reaches(quad, area)]


def released_as_it_is(region: dict, inside: np.ndarray) -> np.ndarray:
    """Pixels of the crop that show the photograph, for a row of the regions table: core and band, (H, W), bool."""
    return ((decode_png(region["core"]) > 0) | (decode_png(region["band"]) > 0)) & inside


def hold_text(
    photos: pa.Table, regions: pa.Table, search: Search, progress: Callable[[], None] | None = None
) -> pa.Table:
    """Quarantine the photographs with text or codes in pixels that would be released unchanged.

    Parameters
    ----------
    photos, regions : Table
        ``tables.PHOTOS`` and ``tables.REGIONS`` of the same photographs.
    search : callable
        As for :func:`text_in_area`. If it raises an error, the photograph is quarantined.
    progress : callable, optional
        Called once for each photograph.

    Returns
    -------
    Table
        ``tables.REGIONS``; ``text_boxes`` hold the places of the text.
    """
    images = {row["release_photo_id"]: row for row in photos.select(["release_photo_id", "image"]).to_pylist()}
    rows = regions.to_pylist()
    for row in rows:
        if row["status"] == tables.OK:
            row |= _verdict(decode_png(images[row["release_photo_id"]]["image"]), row, search)
        if progress:
            progress()
    return tables.from_rows(rows, tables.REGIONS)


def _verdict(image: np.ndarray, region: dict, search: Search) -> dict:
    try:
        found = text_in_area(image, _in_photograph(image, region), search)
    except Exception:  # any failure counts: a photograph that was not searched is not released
        return {"status": tables.QUARANTINED, "reason": "text_unchecked"}
    if not found:
        return {"text_boxes": []}
    boxes = [quad.reshape(-1).tolist() for quad in found]
    return {"text_boxes": boxes, "status": tables.QUARANTINED, "reason": "text_in_picture"}


def _in_photograph(image: np.ndarray, region: dict) -> np.ndarray:
    """The released pixels in the photograph's own grid: a line of text may continue beyond the crop."""
    _, inside = cut_region(image, region)
    shown = released_as_it_is(region, inside)
    if region["crop_side"] is None:
        return shown
    area = np.zeros(image.shape[:2], bool)
    y, x = np.nonzero(shown)
    area[y + region["crop_top"], x + region["crop_left"]] = True
    return area


def _reaches(quad: np.ndarray, area: np.ndarray) -> bool:
    """Whether a quadrilateral has a pixel in common with an area."""
    covered = np.zeros(area.shape, np.uint8)
    cv2.fillConvexPoly(covered, np.round(quad).astype(np.int32), 1)
    return bool((covered[area] > 0).any())
