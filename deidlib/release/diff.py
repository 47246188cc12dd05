"""What changed from one version of a release to another, and why."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.errors import InputError, ReleaseError
from deidlib.logs import printable
from deidlib.release import redact
from deidlib.release.layout import INDEX_FILE, SETTINGS_FILE, reading_threads
from deidlib.release.reading import read_bytes, read_index, read_json
from deidlib.release.tombstones import read_tombstones
from deidlib.release.verify import layout_problems, layout_words
from deidlib.storage import images, tables
from deidlib.storage.png import png_problems, png_size
from deidlib.storage.reasons import text_of

#: Columns of the index that follow from the image or say where it lies: a change in them has the image's reason.
_OF_THE_IMAGE = ("sha256", "attempt", "route", "region_method", "width", "height", "core_pixels")
_MEASURED = tuple(tables.MEASURED_ON_ORIGINALS.names)
_CHECK = "; check it with `deidlib verify`"
#: Photographs that wait for a thread at a time.
_AT_A_TIME = 256
#: Images of more pixels are in memory one pair at a time; rows that are compared at once.
_LARGE, _ROWS = 16_000_000, 512
_ONE_LARGE = threading.Lock()


@dataclass(frozen=True)
class Difference:
    """Photographs (release ids) that one version added, removed or changed, each with the reason; and the settings.

    Attributes
    ----------
    added, removed, changed : dict of str to str
        Photograph → reason, in the order of the ids.
    settings : list of str
        Settings whose value differs, as ``key: old → new``.
    unchanged : int
        Photographs that are the same in both, image and row.
    layout : str or None
        What another layout of the index changed, in words; None where both have one layout. Columns that one layout
        lacks are not compared.
    """

    added: dict[str, str]
    removed: dict[str, str]
    changed: dict[str, str]
    settings: list[str]
    unchanged: int
    layout: str | None = None


@dataclass(frozen=True)
class PixelDifference:
    """How far the two images of a photograph are apart, |a − b| over all pixels and channels.

    Attributes
    ----------
    same_size : bool
        Otherwise nothing is compared.
    mean, largest : float, int
        Grey levels (of 255).
    values : int
        Compared values: pixels × channels.
    core_kept : bool
        False: fewer pixels are equal than the preserved core has, so it differs or lies elsewhere. True says less: a
        release does not say where the core lies, and only one of layout 1 says how large it is.
    """

    same_size: bool
    mean: float = 0.0
    largest: int = 0
    values: int = 0
    core_kept: bool = True


@dataclass(frozen=True)
class ImageDifference:
    """Images of the photographs in both versions.

    Attributes
    ----------
    equal : int
        Photographs with the same decoded pixels.
    differing : dict of str to PixelDifference
        The others, in the order of the ids.
    """

    equal: int
    differing: dict[str, PixelDifference]

    def overall(self) -> tuple[float, int]:
        """Mean and largest difference (grey levels) over the pixels of all that differ and are of the same size."""
        compared = [found for found in self.differing.values() if found.same_size]
        values = sum(found.values for found in compared)
        total = sum(found.mean * found.values for found in compared)
        return total / values if values else 0.0, max((found.largest for found in compared), default=0)


def compare_images(old: Path, new: Path) -> ImageDifference:
    """Compare the decoded pixels of the photographs that are in both of two versions.

    Where both indexes give one checksum the pixels are equal, and nothing is read.

    Parameters
    ----------
    old, new : Path
        Folders of two versions.

    Raises
    ------
    ReleaseError
        One of the two is no release, or an image is not what its index says.
    """
    before, after = _by_photo(_index(old)), _by_photo(_index(new))
    common = sorted(before.keys() & after.keys())
    altered = [name for name in common if before[name]["sha256"] != after[name]["sha256"]]
    differing = {}
    with ThreadPoolExecutor(reading_threads()) as pool:
        for start in range(0, len(altered), _AT_A_TIME):
            few = altered[start : start + _AT_A_TIME]
            found = pool.map(lambda name: _pixel_difference(old, before[name], new, after[name]), few)
            differing |= {name: one for name, one in zip(few, found, strict=True) if one is not None}
    return ImageDifference(len(common) - len(differing), differing)


def _pixel_difference(old: Path, before: Mapping, new: Path, after: Mapping) -> PixelDifference | None:
    a, b = _png(old, before), _png(new, after)
    width, height = png_size(a)
    if png_size(b) != (width, height):
        return PixelDifference(same_size=False)
    with _ONE_LARGE if width * height > _LARGE else nullcontext():
        a, b = images.decode_png(a), images.decode_png(b)
        total = largest = equal_pixels = 0
        for start in range(0, height, _ROWS):
            apart = cv2.absdiff(a[start : start + _ROWS], b[start : start + _ROWS])
            total += int(apart.sum(dtype=np.int64))
            largest = max(largest, int(apart.max(initial=0)))
            equal_pixels += int((apart.max(axis=2) == 0).sum())
    if not largest:
        return None
    core = min(row.get("core_pixels") or 0 for row in (before, after))
    return PixelDifference(True, total / a.size, largest, a.size, equal_pixels >= core)


def _png(folder: Path, row: Mapping) -> bytes:
    """File of a photograph, which is what its index says, and decodes to no more than its header announces."""
    try:
        data = read_bytes(folder, row["path"] or "")
        if hashlib.sha256(data).hexdigest() == row["sha256"] and not png_problems(data):
            return data
    except InputError:
        pass
    raise _refusal(f"{folder.name}: the image of {row['release_photo_id']} is not what the index says{_CHECK}")


def _refusal(text: str) -> ReleaseError:
    return ReleaseError(printable(text))


def compare_releases(old: Path, new: Path, crosswalk: pa.Table | None = None) -> Difference:
    """Compare two versions by their indexes, settings and tombstones.

    Parameters
    ----------
    old, new : Path
        Folders of two versions.
    crosswalk : pa.Table or None
        tables.CROSSWALK of the run that made ``new``: gives the reason why a photograph is no longer released. Only the
        institution has it.

    Raises
    ------
    ReleaseError
        One of the two is no release, or of a layout that this deidlib does not know.
    """
    indexes = _index(old), _index(new)
    layout = _changed_layout(*(index.schema for index in indexes))
    before, after = (_by_photo(index if layout is None else _without_layout(index)) for index in indexes)
    settings = _changed_settings(_settings(old), _settings(new))
    patients = {row["release_patient_id"] for row in before.values()}
    gone = set(read_tombstones_or_refuse(new))
    why = {} if crosswalk is None else {row["release_photo_id"]: row["reason"] for row in crosswalk.to_pylist()}
    common = sorted(before.keys() & after.keys())
    changed = {
        name: _why_changed(before[name], after[name], settings) for name in common if before[name] != after[name]
    }
    return Difference(
        added={n: _why_added(after[n], patients) for n in sorted(after.keys() - before.keys())},
        removed={n: _why_removed(n, gone, crosswalk is not None, why) for n in sorted(before.keys() - after.keys())},
        changed=changed,
        settings=settings,
        unchanged=len(common) - len(changed),
        layout=layout,
    )


def read_tombstones_or_refuse(folder: Path) -> list[str]:
    """Ids of a release's tombstone list; a ReleaseError where it is damaged."""
    try:
        return read_tombstones(folder)
    except ValueError as error:
        raise _refusal(f"{folder.name}: {error}{_CHECK}") from None


def _index(folder: Path) -> pa.Table:
    try:
        index = read_index(folder)
    except ValueError as error:
        raise _refusal(f"{folder.name}: {error}; name a release's folder{_CHECK}") from None
    if problems := layout_problems(index.schema):
        raise _refusal(f"{folder.name}: {problems[0]}")
    ids = ("release_photo_id", "release_patient_id")
    if any(name not in index.schema.names for name in (*ids, *_of_the_image(index.schema), "path")) or not all(
        tables.is_pseudonym(value or "") for name in ids for value in pc.unique(index[name]).to_pylist()
    ):
        raise _refusal(f"{folder.name}: {INDEX_FILE} lacks a column, or holds an id that deidlib does not give{_CHECK}")
    return index


def _of_the_image(schema: pa.Schema) -> list[str]:
    return [name for name in _OF_THE_IMAGE if name in tables.INDEX_LAYOUTS[tables.layout_of(schema)].names]


def _by_photo(index: pa.Table) -> dict[str, dict]:
    return {row["release_photo_id"]: row for row in index.to_pylist()}


def _without_layout(index: pa.Table) -> pa.Table:
    """The columns that every layout has."""
    return index.drop_columns([name for name in _MEASURED if name in index.schema.names])


def _changed_layout(old: pa.Schema, new: pa.Schema) -> str | None:
    """Changes of the layout, in words."""
    if tables.layout_of(old) == tables.layout_of(new):
        return None
    words = f"the index has {layout_words(new)}, before {layout_words(old)}"
    if gone := [name for name in _MEASURED if name in old.names and name not in new.names]:
        words += (
            f"; it no longer publishes {', '.join(gone)}, by which who has the originals could find each photograph: "
            "delete the older version"
        )
    elif came := [name for name in _MEASURED if name in new.names and name not in old.names]:
        words += f"; it publishes {', '.join(came)} as well: is it the older of the two?"
    return printable(f"{words}. These columns are not compared")


def _settings(folder: Path) -> dict[str, str]:
    try:
        settings = read_json(folder, SETTINGS_FILE)
        _refuse_odd_keys(settings)
        return dict(redact.flat_config(settings))
    except (ValueError, AttributeError, RecursionError):
        raise _refusal(f"{folder.name}: {SETTINGS_FILE} is missing or damaged{_CHECK}") from None


def _refuse_odd_keys(settings: Mapping, depth: int = 0) -> None:
    """Refuse settings nested deeper, or with longer keys, than a configuration's: a line is written for each value."""
    for key, value in settings.items():
        if depth > 10 or len(key) > 200:
            raise ValueError
        if isinstance(value, Mapping):
            _refuse_odd_keys(value, depth + 1)


def _changed_settings(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = sorted((old.keys() | new.keys()) - {"version", "release.date"})
    absent = "not set"
    changed = [n for n in names if old.get(n) != new.get(n)]
    return [printable(f"{n}: {old.get(n, absent)} → {new.get(n, absent)}") for n in changed]


def _why_added(row: Mapping, patients: set[str]) -> str:
    return "new photograph of a patient released before" if row["release_patient_id"] in patients else "new patient"


def _why_removed(name: str, gone: set[str], explained: bool, why: Mapping[str, str | None]) -> str:
    if explained:
        code = why.get(name)
        return f"{code}: {text_of(code)}" if text_of(code or "") else "no longer on the sample sheet"
    if name in gone:
        return "withdrawn, or it no longer passes; delete it and what was derived from it (tombstones.txt)"
    return "not on the new version's tombstone list: is it the older of the two?"


def _why_changed(old: Mapping, new: Mapping, settings: list[str]) -> str:
    columns = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    described = [name for name in columns if name not in (*_OF_THE_IMAGE, *_MEASURED, "path")]
    reasons = []
    if old["sha256"] != new["sha256"]:
        made = [name for name in ("region_method", "attempt", "width", "core_pixels") if name in columns]
        details = "; ".join(f"{name} {old[name]} → {new[name]}" for name in made if name in old and name in new)
        kept = "image made again" + (f" ({details})" if details else "")
        # Settings of the release alone describe a photograph, they do not draw it.
        drawn = [line for line in settings if not line.startswith(("release.", "report."))]
        reasons.append(kept + (" with other settings" if drawn else ""))
    if described:
        reasons.append(f"columns changed: {', '.join(described)}")
    if "path" in columns and old["sha256"] == new["sha256"]:
        reasons.append("moved to another folder, which held too many images or no longer does")
    if not reasons:
        reasons.append(f"measured again: {', '.join(columns)}")
    return printable("; ".join(reasons))
