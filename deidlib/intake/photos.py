"""Intake: decodes the photographs of a shard and gives them pseudonyms, or quarantines them.

The input is one shard's tables.COHORT and the sheet's folder. The output is tables.PHOTOS, with a row for each row of
the input. Only a file's pixels get through, and, if the config asks for them, coarse classes of its capture settings
(:mod:`deidlib.intake.capture`).

A verdict on a photograph is permanent. A photograph that existed when the cohort was planned and cannot be read now
gets no verdict: otherwise a machine without the network share would quarantine whole shards. The stage ends with
:class:`Unreadable` instead, whatever the system's error is: a failing automounter reports ELOOP, an expired Kerberos
ticket EACCES, and a bad sector the same EIO as a server that is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from deidlib import keys
from deidlib.errors import DeidlibError
from deidlib.intake import contents
from deidlib.intake.capture import read_capture
from deidlib.intake.consent import agrees
from deidlib.intake.decoding import Undecodable, decode_mask, decode_photo, is_grey
from deidlib.intake.header import Header, contradictions, read_header
from deidlib.intake.paths import resolve_inside
from deidlib.logs import say
from deidlib.storage import images, tables

_BYTES_A_PIXEL, _BYTES_BESIDES = 8, 1 << 26  # 16-bit RGBA without compression, and room for metadata
_NOT_FOUND = frozenset({contents.OUTSIDE, contents.MISSING})
_KEPT = ("patient_id", "photo_id", "row", "view", "timepoint", "age", "sex", "diagnosis", "columns")


class Unreadable(DeidlibError):
    """A file that existed when the cohort was planned cannot be read; the message says what to do."""


def intake_photos(
    cohort: pa.Table,
    folder: Path | str,
    key: bytes,
    options: Mapping,
    progress: Callable[[], object] | None = None,
    drawn: Path | None = None,
) -> pa.Table:
    """Decode the photographs of a shard and give them pseudonyms.

    Parameters
    ----------
    cohort : pa.Table
        tables.COHORT.
    folder : path
        The sheet's folder. Files outside it are refused, symbolic links included.
    key : bytes
        The secret key.
    options : mapping
        ``max_pixels`` (width × height, px) and ``min_side`` (px).
    progress : callable or None
        Called once for each photograph.
    drawn : Path or None
        Folder of the masks that reviewers drew, ``RELEASE_PHOTO_ID.png``. Such a mask replaces the sheet's.

    Returns
    -------
    pa.Table
        tables.PHOTOS in the cohort's order. A quarantined photograph has a reason and no image.

    Raises
    ------
    Unreadable
        A file that the plan saw cannot be read on this machine.
    MemoryError
        The machine has too little memory for a photograph within the limits.
    """
    return tables.from_rows(_rows(cohort, folder, key, options, progress, drawn), tables.PHOTOS)


def intake_in_parts(
    cohort: pa.Table,
    folder: Path | str,
    key: bytes,
    options: Mapping,
    progress: Callable[[], object] | None = None,
    drawn: Path | None = None,
) -> Iterator[pa.Table]:
    """:func:`intake_photos` in parts: no more images in memory than tables.PART_BYTES and one."""
    held, size = [], 0
    for row in _rows(cohort, folder, key, options, progress, drawn):
        held.append(row)
        size += len(row.get("image") or b"")
        if size >= tables.PART_BYTES or len(held) == tables.PART_ROWS:
            yield tables.from_rows(held, tables.PHOTOS)
            held, size = [], 0
    yield tables.from_rows(held, tables.PHOTOS)


def _rows(
    cohort: pa.Table,
    folder: Path | str,
    key: bytes,
    options: Mapping,
    progress: Callable[[], object] | None,
    drawn: Path | None,
) -> Iterator[dict]:
    real = os.path.realpath(folder)
    rows = cohort.to_pylist()
    contradicted = contradictions(rows, [_header(row, real) for row in rows])
    for row in rows:
        if row["row"] in contradicted:
            say(
                f"line {row['row']} of the sheet: the photograph's DICOM header and the sheet, or the headers of one "
                f"patient's photographs, differ in {', '.join(contradicted[row['row']])}"
            )
        named = _named(row, key)
        by_hand = None if drawn is None else _drawn_mask(drawn, named["release_photo_id"])
        yield named | _decoded(row, real, options, row["row"] in contradicted, by_hand)
        if progress is not None:
            progress()


def _named(row: Mapping, key: bytes) -> dict:
    # The line number gives duplicates different pseudonyms; none of them is ever released.
    line = (str(row["row"]),) if row["duplicate"] else ()
    return {name: row[name] for name in _KEPT} | {
        "release_patient_id": keys.pseudonym(key, "patient", row["patient_id"]),
        "release_photo_id": keys.pseudonym(key, "photo", row["patient_id"], row["photo_id"], *line),
    }


def _header(row: Mapping, folder: str) -> Header | None:
    """Header of a photograph with consent; a file that cannot be read is judged when it is decoded."""
    file = resolve_inside(folder, row["path"], {})
    if file is None or not agrees(row["consent"]):
        return None
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return None
        with open(file, "rb") as opened:
            return read_header(opened)
    except (OSError, ValueError):
        return None


def _drawn_mask(folder: Path, photo: str) -> bytes | None:
    """Mask that a reviewer drew on a photograph, or None. The run owns the folder, so an existing file is readable."""
    try:
        return (Path(folder) / f"{photo}.png").read_bytes()
    except FileNotFoundError:
        return None


def _decoded(row: Mapping, folder: str, options: Mapping, contradicted: bool, drawn: bytes | None) -> dict:
    try:
        if row["duplicate"]:
            raise Undecodable("duplicate_photo_id")
        if not agrees(row["consent"]):
            raise Undecodable("consent_missing")
        if contradicted:
            raise Undecodable("header_mismatch")
        max_bytes = options["max_pixels"] * _BYTES_A_PIXEL + _BYTES_BESIDES
        data = _file(folder, row, "path", max_bytes)
        rgb = decode_photo(data, options["max_pixels"], options["min_side"])
        masked = row["mask"] or drawn is not None
        mask = _mask(folder, row, rgb.shape[:2], options["max_pixels"], max_bytes, drawn) if masked else None
    except Undecodable as refusal:
        return {"status": tables.QUARANTINED, "reason": refusal.reason}
    return {
        "status": tables.OK,
        "width": rgb.shape[1],
        "height": rgb.shape[0],
        "capture": json.dumps(read_capture(data)),
        "grey": is_grey(rgb),
        "image": images.encode_png(rgb),
        "mask": None if mask is None else images.encode_png(mask),
        "pixels_sha256": images.pixels_sha256(rgb),
    }


def _mask(
    folder: str, row: Mapping, shape: tuple[int, int], max_pixels: int, max_bytes: int, drawn: bytes | None
) -> np.ndarray:
    try:
        data = _file(folder, row, "mask", max_bytes) if drawn is None else drawn
        mask = decode_mask(data, max_pixels)
    except Undecodable:
        raise Undecodable("mask_unusable") from None
    if mask.shape != shape or not mask.any() or mask.all():
        raise Undecodable("mask_unusable")
    return mask


def _file(folder: str, row: Mapping, column: str, max_bytes: int) -> bytes:
    file = resolve_inside(folder, row[column], {})
    if file is None:
        raise _unless_planned(row, column, "path_outside", "its path leads out of the sheet's folder")
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except ValueError:  # not a valid path on any system
        raise Undecodable("file_missing") from None
    except OSError as error:
        raise _unless_planned(row, column, "file_missing", os.strerror(error.errno)) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):  # a folder or a pipe; a lost share does not look like this
            raise Undecodable("file_missing")
        if status.st_size > max_bytes:
            raise Undecodable("image_too_large")
        with os.fdopen(handle, "rb", closefd=False) as opened:
            content = opened.read()
    except OSError as error:
        raise _unless_planned(row, column, "file_missing", os.strerror(error.errno)) from None
    finally:
        os.close(handle)
    if hashlib.sha256(content).hexdigest() != _planned(row, column):
        raise Unreadable(
            f"line {row['row']} of the sheet, column {column}: this file has changed since the cohort "
            "was planned. Start the workflow again, which plans again"
        )
    return content


def _unless_planned(row: Mapping, column: str, reason: str, trouble: str) -> Exception:
    """The verdict on a file that cannot be read; if the plan saw the file, the error that ends the stage instead."""
    if _planned(row, column) in _NOT_FOUND:
        return Undecodable(reason)
    return Unreadable(
        f"line {row['row']} of the sheet, column {column}: this file existed when the cohort was planned and cannot "
        f"be read now ({trouble}). Check that this machine has the network share and may read the photographs, and "
        "start the workflow again; if the file was removed or moved, correct the sheet"
    )


def _planned(row: Mapping, column: str) -> str:
    """What the plan read of this file: its SHA-256, or a word of _NOT_FOUND."""
    photo, _, mask = row["fingerprint"].partition("|")
    return photo if column == "path" else mask
