"""The pictures that a reviewer looks at, read from the shards' tables one at a time.

Only a few row groups of the tables are in memory, whatever the size of the cohort.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from deidlib.errors import InputError
from deidlib.regions.area import cut_region
from deidlib.storage import sealed
from deidlib.storage.images import decode_png, encode_png
from deidlib.storage.results import Results, stage_table

_GROUPS_KEPT = 4  # row groups in memory, each of some 64 MB
_DECODERS = 2  # photographs that are decoded at a time
_SQUARE = ("crop_left", "crop_top", "crop_side", "core")
THUMBNAIL = 220  # px


class Gone(InputError):
    """The picture is not in the tables (any more)."""


class Pictures:
    """Reads pictures of one results folder; safe to use from several threads."""

    def __init__(self, private: Path):
        self._results = Results(Path(private))
        self._lock = threading.Lock()
        self._decoding = threading.Semaphore(_DECODERS)
        self._groups: OrderedDict[tuple, pa.Table] = OrderedDict()
        self._places: dict[Path, tuple[tuple, dict[str, int]]] = {}
        self._digests: dict[tuple, str] = {}

    def result(self, shard: str, attempt: int, photo: str) -> bytes:
        """PNG of an attempt's result for a photograph: the bytes that would be released."""
        data = self._cells(self._blended(shard, attempt), photo, ("image",))["image"]
        if data is None:
            raise Gone("no image was made of this photograph")
        return data

    def digest(self, shard: str, attempt: int, photo: str) -> str | None:
        """SHA-256 of :meth:`result` in the tables as they are now; None where there is none."""
        path = self._blended(shard, attempt)
        try:
            key = (*self._stamp(path), photo)
            with self._lock:
                if key in self._digests:
                    return self._digests[key]
            digest = hashlib.sha256(self.result(shard, attempt, photo)).hexdigest()
        except Gone:
            return None
        with self._lock:
            self._digests[key] = digest
        return digest

    def original(self, shard: str, photo: str) -> bytes:
        """PNG of the photograph's part that :meth:`result` shows, in the same grid; white where it ends.

        The whole photograph where no area was found.
        """
        data = self._cells(self._table(shard, "photos"), photo, ("image",))["image"]
        if data is None:
            raise Gone("this photograph was not decoded")
        region = self._region(shard, photo)
        if region is None or region["crop_side"] is None:
            return data
        with self._decoding:
            crop, inside = cut_region(decode_png(data), region)
            return encode_png(np.where(inside[..., None], crop, 255).astype(np.uint8))

    def outline(self, shard: str, photo: str) -> str:
        """Outline of the preserved area, in the result's pixels, as an SVG path; empty where there is none."""
        region = self._region(shard, photo)
        if region is None or region["core"] is None or region["crop_side"] is None:
            return ""
        core = decode_png(region["core"])
        lines, _ = cv2.findContours(core, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        return " ".join("M" + " ".join(f"{x} {y}" for x, y in line[:, 0]) + "Z" for line in lines if len(line) > 2)

    def thumbnail(self, png: bytes) -> bytes:
        """Small JPEG of a PNG; it shows the same, so it is as private."""
        with self._decoding:
            pixels = decode_png(png)
            scale = THUMBNAIL / max(pixels.shape[:2])
            size = [max(1, round(length * scale)) for length in (pixels.shape[1], pixels.shape[0])]
            small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            ok, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        if not ok:
            raise InputError("the JPEG encoder refused a picture")
        return data.tobytes()

    def _blended(self, shard: str, attempt: int) -> Path:
        return stage_table(self._results.shard(shard), "blended", attempt)

    def _table(self, shard: str, name: str) -> Path:
        return stage_table(self._results.shard(shard), name)

    def _region(self, shard: str, photo: str) -> dict | None:
        try:
            return self._cells(self._table(shard, "regions"), photo, _SQUARE)
        except Gone:
            return None

    def _stamp(self, path: Path) -> tuple:
        try:
            found = path.stat()
        except FileNotFoundError:
            raise Gone("a table is missing: a run may be writing it; try again later") from None
        return str(path), found.st_ino, found.st_mtime_ns, found.st_size

    def _cells(self, path: Path, photo: str, columns: Iterable[str]) -> dict:
        """Cells of a photograph's row; only its row group is read."""
        stamp = self._stamp(path)
        with self._lock:
            place = self._place(path, stamp).get(photo)
            if place is None:
                raise Gone("no image was made of this photograph")
            table = self._group(path, stamp, place, ("release_photo_id", *columns))
        at = table["release_photo_id"].to_pylist().index(photo)
        return {name: table[name][at].as_py() for name in columns}

    def _place(self, path: Path, stamp: tuple) -> dict[str, int]:
        """Row group of each photograph of a table."""
        known = self._places.get(path)
        if known and known[0] == stamp:
            return known[1]
        places: dict[str, int] = {}
        with sealed.opened(path) as file:
            for number in range(file.num_row_groups):
                ids = file.row_group(number, ["release_photo_id"])["release_photo_id"].to_pylist()
                places |= dict.fromkeys(ids, number)
        self._places[path] = stamp, places
        return places

    def _group(self, path: Path, stamp: tuple, number: int, columns: tuple[str, ...]) -> pa.Table:
        key = (*stamp, number, columns)
        if key not in self._groups:
            with sealed.opened(path) as file:
                self._groups[key] = file.row_group(number, columns)
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]
