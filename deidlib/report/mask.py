"""A page on which a clinician draws a mask: the preserved area of a photograph.

The page is one file without a server and without access to a network. It opens a photograph from the disk, or comes
with one and its proposed area, and saves the mask as intake reads it: a PNG of the upright photograph's size, white
where the photograph is preserved.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup

from deidlib.errors import InputError
from deidlib.pages.templates import render
from deidlib.review.masks import read_mask
from deidlib.storage import tables
from deidlib.storage.images import decode_png, encode_png
from deidlib.storage.results import Results, stage_table


@dataclass(frozen=True)
class Photograph:
    """A photograph that comes with the page.

    Attributes
    ----------
    image : np.ndarray
        RGB uint8 (H, W, 3), upright: the native frame.
    area : np.ndarray or None
        Proposed area, uint8 (H, W), inside where above 127.
    path : str
        Path of the photograph as the sheet names it; the page derives the mask's path from it.
    """

    image: np.ndarray
    area: np.ndarray | None
    path: str


def mask_page(photograph: Photograph | None = None, sends: bool = False) -> str:
    """HTML of the page, with a photograph or without.

    With a photograph the page shows a patient: it belongs into the results' private folder.

    Parameters
    ----------
    photograph : Photograph, optional
        What the page shows at first.
    sends : bool
        The page is served: it sends the mask to its own address (POST, PNG) instead of saving a file, and opens no
        other photograph.
    """
    given = None
    if photograph is not None:
        given = {
            "photo": _base64(photograph.image),
            "area": None if photograph.area is None else _base64(np.where(photograph.area > 127, 255, 0)),
            "name": photograph.path.replace("\\", "/").rsplit("/", 1)[-1],
            "path": photograph.path,
        }
    text = json.dumps(given).replace("<", "\\u003c")  # so that no name ends the script
    return render("mask/mask.html.j2", preloaded=Markup(text), sends=sends)


def read_photograph(private: Path, shards: list[str], release_photo_id: str) -> Photograph:
    """Photograph of a run by its pseudonym, with the mask that a reviewer drew, else that of the sheet, else its area.

    The area is what landmarks gave.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shards : list of str
        Names of the shards.
    release_photo_id : str
        The photograph, by the `release_photo_id` of the quarantine list.

    Raises
    ------
    InputError
        No shard has it, or it could not be decoded.
    """
    for shard in shards:
        folder = Results(private).shard(shard)
        photo = _row(stage_table(folder, "photos"), "PHOTOS", release_photo_id, ["row", "image", "mask"])
        if photo is None:
            continue
        if photo["image"] is None:
            raise InputError("this photograph could not be decoded (see quarantine.tsv), so no mask can be drawn on it")
        image = decode_png(photo["image"])
        cohort = tables.read(stage_table(folder, "cohort"), tables.COHORT, ["row", "path"])
        path = cohort.filter(pc.equal(cohort["row"], photo["row"]))["path"][0].as_py()
        drawn = read_mask(private, shard, release_photo_id)
        if drawn is not None and drawn.shape == image.shape[:2]:
            return Photograph(image, drawn, path)
        if photo["mask"] is not None:
            return Photograph(image, decode_png(photo["mask"]), path)
        columns = ["crop_left", "crop_top", "crop_side", "core"]
        region = _row(stage_table(folder, "regions"), "REGIONS", release_photo_id, columns)
        return Photograph(image, _area(region, image.shape[:2]), path)
    raise InputError("no photograph of this run has that id; quarantine.tsv in the private folder lists ids")


def _row(path: Path, schema: str, release_photo_id: str, columns: list[str]) -> dict | None:
    if not path.is_file():
        return None
    for part in tables.read_parts(path, getattr(tables, schema), ["release_photo_id", *columns]):
        rows = part.filter(pc.equal(part["release_photo_id"], release_photo_id)).to_pylist()
        if rows:
            return rows[0]
    return None


def _area(region: dict | None, shape: tuple[int, int]) -> np.ndarray | None:
    """Area of a region in the native frame, (H, W); None where landmarks gave none, or the whole is preserved."""
    if region is None or region["core"] is None or region["crop_side"] is None:
        return None
    core, left, top = decode_png(region["core"]), region["crop_left"], region["crop_top"]
    area = np.zeros(shape, np.uint8)
    height, width = core.shape
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, shape[0]), min(left + width, shape[1])
    area[y0:y1, x0:x1] = core[y0 - top : y1 - top, x0 - left : x1 - left]
    return area


def _base64(image: np.ndarray) -> str:
    return base64.b64encode(encode_png(image.astype(np.uint8))).decode("ascii")
