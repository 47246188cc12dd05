"""Photographs that were held back for text, with the place marked; for use inside the institution only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc

from deidlib.report import gallery
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.storage.results import stage_table

_SIDE = 640  # px
_COLOUR = (255, 0, 255)


def mark_boxes(picture: np.ndarray, boxes: list[list[float]]) -> np.ndarray:
    """Draw quadrilaterals (four corners x, y each, flat) around what they mark, a little larger than they are."""
    shown = picture.copy()
    width = max(2, round(max(picture.shape[:2]) / _SIDE * 3))
    for box in boxes:
        quad = np.array(box, np.float32).reshape(4, 2)
        centre, (long, short), angle = cv2.minAreaRect(quad)
        around = cv2.boxPoints((centre, (long + 4 * width, short + 4 * width), angle))
        cv2.polylines(shown, [np.round(around).astype(np.int32)], True, _COLOUR, width, cv2.LINE_AA)
    return shown


def text_found(folder: Path, most: int) -> Iterator[dict]:
    """Photographs of a shard that were held back for text or a code.

    Parameters
    ----------
    folder : Path
        The shard's private folder.
    most : int
        Most photographs to give.

    Yields
    ------
    dict
        ``release_photo_id``, ``release_patient_id``, ``row`` of the sheet, ``picture`` as data URI.
    """
    columns = ["release_photo_id", "reason", "text_boxes"]
    regions = tables.read(stage_table(folder, "regions"), tables.REGIONS, columns)
    held = regions.filter(pc.equal(regions["reason"], "text_in_picture")).slice(0, most)
    boxes = {row["release_photo_id"]: row["text_boxes"] for row in held.to_pylist()}
    if not boxes:
        return
    wanted = ["release_photo_id", "release_patient_id", "row", "image"]
    for part in tables.read_parts(stage_table(folder, "photos"), tables.PHOTOS, wanted):
        for row in part.to_pylist():
            if row["release_photo_id"] in boxes:
                picture = mark_boxes(decode_png(row.pop("image")), boxes[row["release_photo_id"]])
                yield row | {"picture": gallery.thumbnail_of(picture, _SIDE)}
