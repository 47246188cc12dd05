"""The photographs of a study: released pictures and, where an arm needs them, originals cut alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.contract.routes import GENERATE
from deidlib.donors.features import skin_lab
from deidlib.intake.consent import agrees
from deidlib.panel.errors import PanelError
from deidlib.panel.source import Source
from deidlib.regions.area import cut_region
from deidlib.storage import tables
from deidlib.storage.images import decode_png, encode_png
from deidlib.storage.results import Results, stage_table
from deidlib.vision.alignment import points_of

GREY = 128  # what surrounds the mouth where it is shown alone
#: Least part of the released square that the photograph itself must fill, or an original is not comparable with it.
_LEAST_FILLED = 0.8
#: Versions of a photograph: as it was taken, as it is released, and the preserved core of that on grey.
ORIGINAL, RESULT, MOUTH = "original", "result", "mouth"


@dataclass(frozen=True)
class Original:
    """A photograph of the private folder that may be shown, and how it is cut.

    ``box`` is left, top and side of the square that is shown, in the grid of the released square: what of that
    square lies inside the photograph.
    """

    photo: str
    patient: str
    view: str | None
    sex: str | None
    age: float | None
    yaw: float | None
    box: tuple[int, int, int]


def originals(private: Path, consent_column: str | None, consent_reference: str | None) -> dict[str, Original]:
    """Originals that may be shown to a panel, by release photo id.

    A photograph counts if its patient agreed to the release, the sheet's ``consent_column`` says yes (or a
    ``consent_reference`` covers all), it has a generated face, and its frame lies in the photograph but for a fifth.

    Parameters
    ----------
    private : Path
        The private folder of a run.
    """
    if not consent_column and not consent_reference:
        return {}
    found = {}
    for folder in _shards(private):
        names = ["release_photo_id", "release_patient_id", "view", "age", "sex", "columns", "width", "height", "status"]
        photos = tables.handled(tables.read(stage_table(folder, "photos"), tables.PHOTOS, names)).to_pylist()
        landmarks = _by_photo(stage_table(folder, "landmarks"), tables.LANDMARKS, ["route", "yaw", "status"])
        regions = _by_photo(
            stage_table(folder, "regions"), tables.REGIONS, ["crop_left", "crop_top", "crop_side", "status"]
        )
        for photo in photos:
            name = photo["release_photo_id"]
            landmark, region = landmarks.get(name), regions.get(name)
            if landmark is None or region is None or landmark["route"] != GENERATE:
                continue
            agreed = json.loads(photo["columns"] or "{}").get(consent_column) if consent_column else "yes"
            box = filled_box(region, photo["width"], photo["height"])
            if agrees(agreed) and box[2] >= _LEAST_FILLED * region["crop_side"]:
                found[name] = Original(
                    name, photo["release_patient_id"], photo["view"], photo["sex"], photo["age"], landmark["yaw"], box
                )
    return dict(sorted(found.items()))


def agreed_photos(private: Path) -> set[str]:
    """Release ids of the photographs of a run whose patients agree, as intake read the sheet last."""
    names = ["release_photo_id", "status"]
    return {
        name
        for folder in _shards(private)
        for name in tables.handled(tables.read(stage_table(folder, "photos"), tables.PHOTOS, names))[
            "release_photo_id"
        ].to_pylist()
    }


def filled_box(region: Mapping, width: int, height: int) -> tuple[int, int, int]:
    """Largest centred square of a released square that lies inside a photograph of ``width`` × ``height`` pixels.

    Returns
    -------
    left, top, side : int
        In pixels of the released square.
    """
    left, top = max(0, -region["crop_left"]), max(0, -region["crop_top"])
    right = min(region["crop_side"], width - region["crop_left"])
    bottom = min(region["crop_side"], height - region["crop_top"])
    side = max(0, min(right - left, bottom - top))
    return left + (right - left - side) // 2, top + (bottom - top - side) // 2, side


def looks(private: Path, wanted: Mapping[str, Original]) -> np.ndarray:
    """Look of some originals in comparable units, a row each, in the order of ``wanted``.

    Sex (a man and a woman are 5 apart), age (10 years are 1), skin (10 units of CIE Lab are 1), turn of the head
    (20° are 1), view (another is 1). NaN: not known.
    """
    skin = {}
    for folder in _shards(private):
        points = _by_photo(stage_table(folder, "landmarks"), tables.LANDMARKS, ["points", "status"])
        for row in _images(folder, set(wanted)):
            name = row["release_photo_id"]
            if points[name]["points"] is not None:
                skin[name] = np.nanmedian(skin_lab(decode_png(row["image"]), points_of(points[name])), axis=0)
    views = sorted({one.view or "" for one in wanted.values()})
    unknown, nan = np.full(3, np.nan), float("nan")
    return np.array(
        [
            [
                {"F": 0.0, "M": 5.0}.get(one.sex or "", nan),
                nan if one.age is None else one.age / 10,
                *skin.get(name, unknown) / 10,
                nan if one.yaw is None else one.yaw / 20,
                *((one.view or "") == view for view in views[1:]),
            ]
            for name, one in wanted.items()
        ],
        float,
    ).reshape(len(wanted), -1)


def pictures(
    source: Source,
    private: Path | None,
    boxes: Mapping[str, tuple[int, int, int]],
    wanted: Iterable[tuple[str, str]],
    side: int,
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Draw the pictures that raters see, one photograph in memory at a time.

    Parameters
    ----------
    source : Source
        Where the results are read.
    private : Path or None
        The private folder that holds the originals.
    boxes : mapping
        How a photograph is cut, the original and its result alike; the whole square where there is no entry.
    wanted : iterable of (str, str)
        Photograph and version (original, result, mouth).
    side : int
        Of each picture, in pixels.

    Yields
    ------
    photo, version : str
    picture : ndarray, (side, side, 3), uint8
    """
    wanted = set(wanted)
    cores = _cores(private, {photo for photo, version in wanted if version == MOUTH}) if private else {}
    released = {one.photo: one for one in source.photos}
    for photo in sorted({photo for photo, version in wanted if version != ORIGINAL}):
        image = decode_png(source.read(released[photo]))
        if (photo, RESULT) in wanted:
            yield photo, RESULT, framed(image, boxes.get(photo), side)
        if (photo, MOUTH) in wanted:
            alone = np.where(cores[photo][..., None] > 0, image, GREY).astype(np.uint8)
            yield photo, MOUTH, framed(alone, boxes.get(photo), side)
    originals_wanted = {photo for photo, version in wanted if version == ORIGINAL}
    if originals_wanted:
        yield from _original_pictures(private, originals_wanted, boxes, side)


def framed(image: np.ndarray, box: tuple[int, int, int] | None, side: int) -> np.ndarray:
    """Cut a square out of an image, (H, W, 3) uint8, and bring it to ``side`` pixels."""
    if box is not None:
        left, top, length = box
        image = image[top : top + length, left : left + length]
    method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=method)


def as_file(picture: np.ndarray) -> bytes:
    """PNG of a picture: pixels alone, not compressed, so that files of one size have one length whatever they show."""
    return encode_png(picture, level=0)


def _original_pictures(
    private: Path, wanted: set[str], boxes: Mapping, side: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    for folder in _shards(private):
        regions = _by_photo(
            stage_table(folder, "regions"), tables.REGIONS, ["crop_left", "crop_top", "crop_side", "status"]
        )
        for row in _images(folder, wanted):
            name = row["release_photo_id"]
            square, _ = cut_region(decode_png(row["image"]), regions[name])
            yield name, ORIGINAL, framed(square, boxes[name], side)


def _images(folder: Path, wanted: set[str]) -> Iterator[dict]:
    photos = tables.read(stage_table(folder, "photos"), tables.PHOTOS, ["release_photo_id"])
    if wanted.isdisjoint(photos["release_photo_id"].to_pylist()):
        return
    for part in tables.read_parts(stage_table(folder, "photos"), tables.PHOTOS, ["release_photo_id", "image"]):
        mine = part.filter(pc.is_in(part["release_photo_id"], value_set=_array(wanted)))
        yield from mine.to_pylist()


def _cores(private: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    found = {}
    for folder in _shards(private):
        rows = _by_photo(stage_table(folder, "regions"), tables.REGIONS, ["core", "status"])
        found |= {name: decode_png(row["core"]) for name, row in rows.items() if name in wanted}
    return found


def _by_photo(path: Path, schema, columns: list[str]) -> dict[str, dict]:
    rows = tables.handled(tables.read(path, schema, ["release_photo_id", *columns])).to_pylist()
    return {row["release_photo_id"]: row for row in rows}


def _shards(private: Path) -> list[Path]:
    folders = sorted(path.parent for path in Results(private).shards.glob("*/photos.parquet"))
    if not folders:
        raise PanelError("this private folder holds no photographs; name the results' private folder of a finished run")
    return folders


def _array(names: set[str]) -> pa.Array:
    return pa.array(sorted(names), pa.string())
