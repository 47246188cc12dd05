"""Release stage: from the tables of all shards to one versioned folder that appears whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from deidlib import images, tables
from deidlib.png import png_problems
from deidlib.release import columns
from deidlib.release.errors import NothingReleased, ReleaseError
from deidlib.release.files import folder_aside, move_into_place, told_when_full, write_synced
from deidlib.release.layout import image_paths
from deidlib.release.outcomes import Outcome, read_outcomes, read_table
from deidlib.release.papers import release_date, write_papers
from deidlib.release.table_risk import protect
from deidlib.release.tombstones import record_release, tombstones
from deidlib.release.versions import is_version, refuse_backwards, versions_in

#: zlib level of released images: level 9 takes 3.5 times as long for 1.5 % less.
_PNG_LEVEL = 6


def write_release(
    private: Path,
    release_root: Path,
    shards: list[str],
    attempts: int,
    version: str,
    config: dict,
    models: list[dict],
) -> Path:
    """Write ``release_root/version``, the private crosswalk and the private quarantine list.

    Of each photograph the first attempt that passed the gate is released; all others are quarantined with
    the reason of the stage that stopped them. The same inputs give the same bytes. One shard's rows and a
    few images are in memory at a time.

    Parameters
    ----------
    private : Path
        The results' private folder with ``shards/SHARD/…``; ``crosswalk.parquet`` and ``quarantine.tsv``
        (both mode 0600) are written to it.
    release_root : Path
        Folder of all versions.
    shards : list of str
        Names of the shards.
    attempts : int
        Number of attempts that were made.
    version : str
        Name of the version's folder.
    config : dict
        The whole configuration.
    models : list of dict
        Registry entries of the models that were used, each with its ``name``.

    Returns
    -------
    Path
        The version's folder. An existing folder with the same content is left as it is.

    Raises
    ------
    ReleaseError
        The version is none or goes backwards, a rule of ``release.columns`` cannot be followed, a table is missing, no
        photograph passed the gate (the crosswalk and the quarantine list are written all the same), the version exists
        with another content, or the disk is full.
    """
    private, release_root = Path(private), Path(release_root)
    folder = release_root / version
    if not is_version(version) or not folder.exists():
        refuse_backwards(version, versions_in(release_root))
    rules = config.get("release", {}).get("columns") or {}
    columns.check_rules(rules, _further_columns(private, shards))
    paths = image_paths(_released_ids(private, shards, attempts, config, rules))
    with folder_aside(release_root, version) as aside:
        index, crosswalk, quarantine = _write_shards(private, aside, shards, attempts, config, rules, paths)
        if index.num_rows:
            index = protect(index, config).index
            gone = tombstones(private, release_root, version, index)
            write_papers(aside, index, quarantine, gone, config, models, version, release_date(config, folder))
            move_into_place(aside, folder)
    with told_when_full("crosswalk, quarantine list or ledger of the private folder were not brought up to date"):
        _write_private(private, crosswalk, quarantine)
        if index.num_rows:
            record_release(private, version, index)
    if not index.num_rows:
        raise NothingReleased(
            "no photograph passed the gate, so there is nothing to release; quarantine.tsv in the private "
            "folder gives each photograph's reason"
        )
    return folder


def _further_columns(private: Path, shards: list[str]) -> set[str]:
    names: set[str] = set()
    for shard in shards:
        table = read_table(private / "shards" / shard / "photos.parquet", tables.PHOTOS, ["columns"])
        for text in table["columns"].to_pylist():
            names |= set(json.loads(text or "{}"))
    return names


def _released_ids(private: Path, shards: list[str], attempts: int, config: dict, rules: dict) -> set[str]:
    """Ids of the photographs that will be released, their cells and pseudonyms checked before anything is written."""
    seen: set[str] = set()
    for outcome in _outcomes(private, shards, attempts, config):
        if outcome.attempt is None:
            continue
        columns.sheet_values(outcome.photo, rules)
        photo_id, patient_id = outcome.photo["release_photo_id"], outcome.photo["release_patient_id"]
        if not (tables.is_pseudonym(photo_id) and tables.is_pseudonym(patient_id)):
            raise ReleaseError(f"sheet row {outcome.photo['row']}: pseudonyms not of deidlib's form; run intake again")
        if photo_id in seen:
            raise ReleaseError(
                f"photograph {photo_id} is in the tables twice; remove results/private/shards and run again"
            )
        seen.add(photo_id)
    return seen


def _outcomes(private: Path, shards: list[str], attempts: int, config: dict) -> Iterator[Outcome]:
    for shard in shards:
        yield from read_outcomes(private, shard, attempts, config["checks"], config["identity"])


def _write_shards(
    private: Path,
    aside: Path,
    shards: list[str],
    attempts: int,
    config: dict,
    rules: dict,
    paths: dict[str, str],
) -> tuple[pa.Table, pa.Table, list[tuple]]:
    schema = pa.schema([*tables.INDEX, *columns.extra_schema(rules)])
    index, crosswalk, quarantine = [schema.empty_table()], [tables.CROSSWALK.empty_table()], []
    for shard in shards:
        outcomes = read_outcomes(private, shard, attempts, config["checks"], config["identity"])
        released = {o.photo["release_photo_id"]: o for o in outcomes if o.attempt is not None}
        first = columns.first_dates([o.photo for o in released.values()], rules)
        rows = []
        for attempt in sorted({o.attempt for o in released.values()}):
            wanted = {name for name, o in released.items() if o.attempt == attempt}
            path = private / "shards" / shard / f"attempt-{attempt}" / "blended.parquet"
            for photo_id, png in _images(path, wanted):
                rows.append(_write_image(aside, paths[photo_id], released[photo_id], png, rules, first))
        if len(rows) != len(released):
            raise ReleaseError(f"shard {shard}: blended tables lack images of photographs that passed; run it again")
        index.append(pa.Table.from_pylist(rows, schema=schema))
        crosswalk.append(tables.from_rows([_crosswalk_row(o, paths) for o in outcomes], tables.CROSSWALK))
        quarantine += [
            (o.photo["row"], o.photo["release_photo_id"], o.reason, tables.REASONS.get(o.reason, ""))
            for o in outcomes
            if o.attempt is None
        ]
    by = [("release_patient_id", "ascending"), ("release_photo_id", "ascending")]
    return pa.concat_tables(index).sort_by(by), pa.concat_tables(crosswalk).sort_by(by), sorted(quarantine)


def _images(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    for part in tables.read_parts(path, tables.BLENDED, ["release_photo_id", "image", "status"]):
        for batch in part.to_batches(max_chunksize=8):
            for row in batch.to_pylist():
                if row["release_photo_id"] in wanted and row["status"] == tables.OK:
                    yield row["release_photo_id"], row["image"]


def _write_image(aside: Path, path: str, outcome: Outcome, png: bytes, rules: dict, first: dict) -> dict:
    photo, check, region = outcome.photo, outcome.check, outcome.region
    photo_id = photo["release_photo_id"]
    pixels = images.decode_png(png)
    data = images.encode_png(pixels, level=_PNG_LEVEL)
    if not np.array_equal(images.decode_png(data), pixels) or png_problems(data):
        raise ReleaseError(
            f"photograph {photo_id}: the PNG encoder changed the pixels or added to them; nothing is released"
        )
    side = region["crop_side"]  # null: the whole photograph
    if pixels.shape != ((photo["height"], photo["width"], 3) if side is None else (side, side, 3)):
        raise ReleaseError(f"photograph {photo_id}: the blended image has not the crop's size; run its shard again")
    write_synced(aside / path, data)
    return {
        "release_photo_id": photo_id,
        "release_patient_id": photo["release_patient_id"],
        "path": path,
        "route": region["route"],
        "region_method": region["method"],
        "attempt": outcome.attempt,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "core_pixels": region["core_pixels"],
        "sface_cosine": check["sface_cosine"],
        "dlib_distance": check["dlib_distance"],
        "seam": check["seam"],
        "sha256": hashlib.sha256(data).hexdigest(),
        **columns.sheet_values(photo, rules, first),
    }


def _crosswalk_row(outcome: Outcome, paths: dict[str, str]) -> dict:
    photo, released = outcome.photo, outcome.attempt is not None
    return {
        **{name: photo[name] for name in ("patient_id", "photo_id", "release_patient_id", "release_photo_id")},
        "path": paths[photo["release_photo_id"]] if released else None,
        "status": "released" if released else tables.QUARANTINED,
        "reason": outcome.reason,
    }


def _write_private(private: Path, crosswalk: pa.Table, quarantine: list[tuple]) -> None:
    tables.write(crosswalk, private / "crosswalk.parquet", tables.CROSSWALK)
    (private / "crosswalk.parquet").chmod(0o600)
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["row", "release_photo_id", "reason", "meaning"])
    writer.writerows(quarantine)
    aside = private / ".quarantine.tsv.partial"
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    write_synced(aside, text.getvalue().encode())
    os.replace(aside, private / "quarantine.tsv")
