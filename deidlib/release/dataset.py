"""Release stage: from the tables of all shards to one versioned folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from deidlib.columns import rules as columns
from deidlib.columns.protect import protect
from deidlib.errors import ReleaseError
from deidlib.outcomes.outcomes import Outcome, all_outcomes, chosen_attempts, chosen_digest, of_check, read_outcomes
from deidlib.outcomes.selection import NEEDED, selection
from deidlib.release.decision import check_columns, obey, read_decision, released_paths
from deidlib.release.documents import release_date, write_documents
from deidlib.release.files import folder_aside, move_into_place, report_full_disk, write_synced
from deidlib.release.study import refuse_patients
from deidlib.release.tombstones import record_release, tombstones
from deidlib.release.versions import is_version, refuse_backwards, versions_in
from deidlib.storage import tables
from deidlib.storage.png import png_problems, png_size
from deidlib.storage.reasons import text_of
from deidlib.storage.results import Results, stage_table

_ORDER = [("release_patient_id", "ascending"), ("release_photo_id", "ascending")]


def write_release(
    private: Path,
    release_root: Path,
    shards: list[str],
    version: str,
    config: dict,
    models: list[dict],
    threads: int = 1,
    look: Callable[[], None] = lambda: None,
    join: Callable[[Path, dict, Mapping[str, str]], pa.Table] | None = None,
) -> Path:
    """Write ``release_root/version`` with the photographs that the decision releases.

    The same inputs give the same bytes. A released image consists of the bytes in the shard's blended table, which the
    gate judged; they are checked once more and copied, and nothing is encoded here. Each thread has a shard's rows and
    a part of its images in memory.

    Parameters
    ----------
    private : Path
        The results' private folder with ``decision.json``, ``crosswalk.parquet`` and ``shards/SHARD/…``.
    release_root : Path
        Folder of all versions.
    shards : list of str
        Names of the shards.
    version : str
        Name of the version's folder.
    config : dict
        The whole configuration.
    models : list of dict
        Registry entries of the models that were used, each with its ``name``.
    threads : int
        Shards whose images are examined and written at a time.
    look : callable, optional
        Called before anything is written and right before the folder appears; raises to stop the release.
    join : callable, optional
        Puts the images that jobs wrote into the folder, and gives their rows of the index
        (:func:`deidlib.release.shared.join_parts`); by default all are written here.

    Returns
    -------
    Path
        The version's folder. An existing folder with the same content is left as it is.

    Raises
    ------
    ReleaseError
        It was decided that there is no release, the decision was taken on other photographs, the version is none or
        goes backwards, a rule of ``release.columns`` cannot be followed, a text of ``study`` says something of a single
        patient, a table is missing, the version exists with
        another content, or the disk is full.
    """
    private, release_root = Path(private), Path(release_root)
    decision = read_decision(private)
    obey(decision)
    if decision.chosen != chosen_digest(chosen_attempts(private, shards)):
        raise ReleaseError(
            "the decision is about other photographs than would be released now: run `deidlib decide` again"
        )
    folder = release_root / version
    if not is_version(version) or not folder.exists():
        refuse_backwards(version, versions_in(release_root))
    rules = columns.rules_of(config)
    check_columns(private, shards, rules)
    refuse_patients(config, all_outcomes(private, shards, checks=()))
    paths = released_paths(private)
    look()
    with folder_aside(release_root, version) as aside:
        index = join(aside, rules, paths) if join else _write_shards(private, aside, shards, rules, paths, threads)
        index, quarantine = index.sort_by(_ORDER), _quarantine(private, shards, paths)
        protected = protect(index, config)
        index = protected.index
        gone = tombstones(private, release_root, version, index)
        date = release_date(config, folder)
        from_run = {
            "review": decision.review,
            "not_judged": decision.not_judged,
            "selection": selection(all_outcomes(private, shards, NEEDED), config["checks"]),
            "shown_by_faces": protected.shown,
        }
        write_documents(aside, index, quarantine, gone, config, models, version, date, from_run)
        look()
        move_into_place(aside, folder)
    with report_full_disk("the ledger of the private folder was not brought up to date"):
        record_release(private, version, index)
    return folder


def _write_shards(
    private: Path, aside: Path, shards: list[str], rules: dict, paths: Mapping[str, str], threads: int
) -> pa.Table:
    schema = index_schema(rules)

    def write(shard: str) -> pa.Table:
        rows = write_shard(private, shard, aside, rules, paths)
        return pa.Table.from_pylist(rows, schema=schema)

    with ThreadPoolExecutor(threads) as pool:  # an error cancels the shards that wait
        return pa.concat_tables([schema.empty_table(), *pool.map(write, shards)])


def _quarantine(private: Path, shards: list[str], paths: Mapping[str, str]) -> list[tuple]:
    return [
        (o.photo["row"], o.photo_id, o.reason, text_of(o.reason))
        for o in all_outcomes(private, shards, checks=())
        if o.photo_id not in paths
    ]


def index_schema(rules: dict) -> pa.Schema:
    """Columns of the index before it is protected; ``rules`` as :func:`deidlib.columns.rules.rules_of` gives them."""
    return pa.schema([*tables.INDEX, *columns.extra_schema(rules)])


def write_shard(private: Path, shard: str, aside: Path, rules: dict, paths: Mapping[str, str]) -> list[dict]:
    """Write a shard's released images; returns their rows of the index."""
    outcomes = read_outcomes(private, shard, of_check("text_free"))
    released = {outcome.photo_id: outcome for outcome in outcomes if outcome.photo_id in paths}
    first = columns.first_dates([o.photo for o in released.values()], rules)
    rows = []
    for attempt in sorted({o.attempt for o in released.values()}):
        wanted = {name for name, o in released.items() if o.attempt == attempt}
        for photo_id, png in _images(stage_table(Results(private).shard(shard), "blended", attempt), wanted):
            digest = _write_image(aside, paths[photo_id], released[photo_id], png)
            rows.append(_index_row(paths[photo_id], released[photo_id], png, digest, rules, first))
    if len(rows) != len(released):
        raise ReleaseError(f"shard {shard}: blended tables lack images of photographs that passed; run it again")
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
        "text_free": check["text_free"],
        "sha256": sha256,
        **columns.sheet_values(photo, rules, first),
    }
