"""The reviewer's copy: originals and results side by side, for use inside the institution only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from deidlib.outcomes.outcomes import Outcome, read_outcomes
from deidlib.pages import templates
from deidlib.regions.area import cut_region
from deidlib.report import gallery
from deidlib.report.marked import text_found
from deidlib.storage.atomic import write_file
from deidlib.storage.images import decode_png
from deidlib.storage.results import Results, stage_table

#: Most pairs in one copy; browsers are slow with larger pages.
MOST = 100
SIDE = 384  # px
_SQUARE = ("crop_left", "crop_top", "crop_side")


def write_reviewer_copy(private: Path, out: Path, shards: list[str], version: str, most: int = MOST) -> Path:
    """Write one HTML file with originals and released images side by side, mode 0600.

    It shows patients: it belongs into the results' private folder and nowhere else. Shown are photographs that
    passed every check on single photographs, one of each patient first; and, with the place marked, those that were
    held back for text.

    Parameters
    ----------
    private : Path
        The results' private folder.
    out : Path
        File to write.
    shards, version
        As for :func:`deidlib.report.write_report`.
    most : int
        Most photographs to show.
    """
    passed = [
        (shard, outcome) for shard in shards for outcome in read_outcomes(private, shard) if outcome.attempt is not None
    ]
    chosen = _one_of_each_patient_first(passed, most)
    pairs = []
    for shard in shards:
        outcomes = [outcome for at, outcome in chosen if at == shard]
        pairs += _pairs(Results(private).shard(shard), outcomes)
    order = {outcome.photo["release_photo_id"]: place for place, (_, outcome) in enumerate(chosen)}
    pairs.sort(key=lambda pair: order[pair["release_photo_id"]])
    marked = [row for shard in shards for row in text_found(Results(private).shard(shard), most)][:most]
    html = templates.render("reviewer.html.j2", pairs=pairs, marked=marked, passed=len(passed), version=version)
    write_file(Path(out), html.encode())
    return Path(out)


def _one_of_each_patient_first(passed: list[tuple[str, Outcome]], most: int) -> list[tuple[str, Outcome]]:
    rows = [
        {"place": place, **{name: outcome.photo[name] for name in ("release_patient_id", "release_photo_id")}}
        for place, (_, outcome) in enumerate(passed)
    ]
    return [passed[row["place"]] for row in gallery.choose_rows(rows, most)]


def _pairs(folder: Path, outcomes: list[Outcome]) -> Iterator[dict]:
    wanted = {outcome.photo["release_photo_id"] for outcome in outcomes}
    if not wanted:
        return
    squares = {row["release_photo_id"]: row for row in _rows(stage_table(folder, "regions"), wanted, _SQUARE)}
    originals = {}
    for row in _rows(stage_table(folder, "photos"), wanted, ("image",)):
        crop, inside = cut_region(decode_png(row["image"]), squares[row["release_photo_id"]])
        whole = np.where(inside[..., None], crop, 255).astype(np.uint8)
        originals[row["release_photo_id"]] = gallery.thumbnail_of(whole, SIDE)
    results = {}
    for attempt in sorted({outcome.attempt for outcome in outcomes}):
        mine = {outcome.photo["release_photo_id"] for outcome in outcomes if outcome.attempt == attempt}
        for row in _rows(stage_table(folder, "blended", attempt), mine, ("image",)):
            results[row["release_photo_id"]] = gallery.thumbnail_of(decode_png(row["image"]), SIDE)
    for outcome in outcomes:
        photo_id = outcome.photo["release_photo_id"]
        yield {
            **{name: outcome.photo[name] for name in ("release_photo_id", "release_patient_id", "row", "view")},
            "attempt": outcome.attempt,
            "check": outcome.check,
            "original": originals[photo_id],
            "result": results[photo_id],
        }


def _rows(path: Path, wanted: set[str], columns: tuple[str, ...]) -> Iterator[dict]:
    """Rows of some photographs, a few images in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=8, columns=["release_photo_id", *columns]):
            yield from (row for row in batch.to_pylist() if row["release_photo_id"] in wanted)
