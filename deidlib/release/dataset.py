"""Release stage: from the tables of all shards to one versioned folder that appears whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from deidlib.outcomes.outcomes import Outcome, read_outcomes, read_table
from deidlib.release import columns
from deidlib.release.documents import release_date, write_documents
from deidlib.release.errors import NothingReleased, ReleaseError
from deidlib.release.files import folder_aside, move_into_place, told_when_full, write_synced
from deidlib.release.layout import image_paths
from deidlib.release.table_risk import protect
from deidlib.release.tombstones import record_release, tombstones
from deidlib.release.versions import is_version, refuse_backwards, versions_in
from deidlib.storage import tables
from deidlib.storage.png import png_problems, png_size

_ORDER = [("release_patient_id", "ascending"), ("release_photo_id", "ascending")]


def write_release(
    private: Path,
    release_root: Path,
    shards: list[str],
    attempts: int,
    version: str,
    config: dict,
    models: list[dict],
    threads: int = 1,
) -> Path:
    """Write ``release_root/version``, the private crosswalk and the private quarantine list.

    Of each photograph the first attempt that passed the gate is released; all others are quarantined with
    the reason of the stage that stopped them. The same inputs give the same bytes. A released image is the very
    bytes that the shard's blended table holds and the gate judged, examined once more; so nothing is encoded here,
    and what a cohort costs is to copy its images. Each thread has a shard's rows and a part of its images in memory.

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
    threads : int
        Shards whose images are examined and written at a time.

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
        index, crosswalk, quarantine = _write_shards(private, aside, shards, attempts, config, rules, paths, threads)
        if index.num_rows:
            index = protect(index, config).index
            gone = tombstones(private, release_root, version, index)
            write_documents(aside, index, quarantine, gone, config, models, version, release_date(config, folder))
            move_into_place(aside, folder)
    with told_when_full("crosswalk, quarantine list or ledger of the private folder were not brought up to date"):
        write_private(private, crosswalk, quarantine)
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
    for outcome in all_outcomes(private, shards, attempts, config):
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


def all_outcomes(private: Path, shards: list[str], attempts: int, config: Mapping) -> Iterator[Outcome]:
    """Outcomes of the whole cohort, of which one shard's are in memory at a time."""
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
    threads: int,
) -> tuple[pa.Table, list[pa.Table], list[tuple]]:
    schema = pa.schema([*tables.INDEX, *columns.extra_schema(rules)])
    index, crosswalk, quarantine = [schema.empty_table()], [], []

    def write(shard: str) -> tuple[list[dict], list[Outcome]]:
        outcomes = read_outcomes(private, shard, attempts, config["checks"], config["identity"])
        return _write_shard(private / "shards" / shard, aside, outcomes, rules, paths), outcomes

    with ThreadPoolExecutor(threads) as pool:  # an error cancels the shards that wait
        for rows, outcomes in pool.map(write, shards):
            index.append(pa.Table.from_pylist(rows, schema=schema))
            crosswalk.append(tables.from_rows([_crosswalk_row(o, paths) for o in outcomes], tables.CROSSWALK))
            quarantine += [
                (o.photo["row"], o.photo["release_photo_id"], o.reason, tables.REASONS.get(o.reason, ""))
                for o in outcomes
                if o.attempt is None
            ]
    return pa.concat_tables(index).sort_by(_ORDER), crosswalk, quarantine


def _write_shard(folder: Path, aside: Path, outcomes: list[Outcome], rules: dict, paths: dict[str, str]) -> list[dict]:
    """Write a shard's released images; returns their rows of the index."""
    released = {o.photo["release_photo_id"]: o for o in outcomes if o.attempt is not None}
    first = columns.first_dates([o.photo for o in released.values()], rules)
    rows = []
    for attempt in sorted({o.attempt for o in released.values()}):
        wanted = {name for name, o in released.items() if o.attempt == attempt}
        for photo_id, png in _images(folder / f"attempt-{attempt}" / "blended.parquet", wanted):
            digest = _write_image(aside, paths[photo_id], released[photo_id], png)
            rows.append(_index_row(paths[photo_id], released[photo_id], png, digest, rules, first))
    if len(rows) != len(released):
        raise ReleaseError(f"shard {folder.name}: blended tables lack images of photographs that passed; run it again")
    return rows


def _images(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    for part in tables.read_parts(path, tables.BLENDED, ["release_photo_id", "image", "status"]):
        for batch in part.to_batches(max_chunksize=1):
            (row,) = batch.to_pylist()
            if row["release_photo_id"] in wanted and row["status"] == tables.OK:
                yield row["release_photo_id"], row["image"]


def _write_image(aside: Path, path: str, outcome: Outcome, png: bytes) -> str:
    """Write a released image, after a last look at what it holds; returns its SHA-256."""
    photo = outcome.photo
    if problems := png_problems(png):
        raise ReleaseError(f"photograph {photo['release_photo_id']}: {problems[0]}; nothing is released")
    side = outcome.region["crop_side"]  # null: the whole photograph
    if png_size(png) != ((photo["width"], photo["height"]) if side is None else (side, side)):
        raise ReleaseError(
            f"photograph {photo['release_photo_id']}: the blended image has not the crop's size; run its shard again"
        )
    write_synced(aside / path, png)
    return hashlib.sha256(png).hexdigest()


def _index_row(path: str, outcome: Outcome, png: bytes, sha256: str, rules: dict, first: dict) -> dict:
    photo, check, region = outcome.photo, outcome.check, outcome.region
    width, height = png_size(png)
    return {
        "release_photo_id": photo["release_photo_id"],
        "release_patient_id": photo["release_patient_id"],
        "path": path,
        "route": region["route"],
        "region_method": region["method"],
        "attempt": outcome.attempt,
        "width": width,
        "height": height,
        "core_pixels": region["core_pixels"],
        "sface_cosine": check["sface_cosine"],
        "dlib_distance": check["dlib_distance"],
        "seam": check["seam"],
        "sha256": sha256,
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


def write_private(private: Path, crosswalk: Iterable[pa.Table], quarantine: Iterable[tuple]) -> None:
    """Write the crosswalk of all shards, and the quarantine list: row, photograph, reason code, its meaning."""
    whole = pa.concat_tables([tables.CROSSWALK.empty_table(), *crosswalk]).sort_by(_ORDER)
    tables.write(whole, private / "crosswalk.parquet", tables.CROSSWALK)
    (private / "crosswalk.parquet").chmod(0o600)
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["row", "release_photo_id", "reason", "meaning"])
    writer.writerows(sorted(quarantine))
    aside = private / ".quarantine.tsv.partial"
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    write_synced(aside, text.getvalue().encode())
    os.replace(aside, private / "quarantine.tsv")
