"""Removes face templates of photographs that left the cohort, before anything else.

The stages rewrite their tables when the sheet changes; :mod:`deidlib.release.leftovers` removes files that no run
rewrites. Face templates are removed earlier, even if the run does not finish: the plan removes every table of
embeddings with a photograph that is no longer on the sheet, or whose patient does not consent. The stages make these
tables again from the photographs that are left. The caches of ``deidlib reid RELEASE``, which no stage rewrites, are
removed in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from deidlib import keys
from deidlib.errors import InputError
from deidlib.intake.consent import agrees
from deidlib.review.decisions import drop_decisions, shards_with_decisions
from deidlib.storage import sealed, tables
from deidlib.storage.results import Results, stage_table


def forget_withdrawn(private: Path, cohort: pa.Table, key: bytes) -> list[str]:
    """Remove templates, and reviewers' decisions, of photographs that are no longer in the cohort.

    Parameters
    ----------
    private : Path
        The results' private folder.
    cohort : Table
        ``tables.COHORT`` of the sheet as it is now.
    key : bytes
        The secret key.

    Returns
    -------
    list of str
        Tables that were removed, relative to ``private``.
    """
    private, results = Path(private), Results(Path(private))
    rows = cohort.select(["patient_id", "photo_id", "consent"]).to_pylist()
    here = {(row["patient_id"], row["photo_id"]) for row in rows if agrees(row["consent"])}
    removed = []
    if files := [*results.shards.glob("*/embeddings.parquet"), *results.reid.glob("**/*.parquet")]:
        names = {keys.pseudonym(key, "photo", *pair) for pair in here}
        for path in sorted(path for path in files if path != results.gallery):
            if not _holds_only(path, names):
                path.unlink(missing_ok=True)
                removed.append(path.relative_to(private).as_posix())
    for shard in shards_with_decisions(private):
        drop_decisions(private, shard, _left(stage_table(results.shard(shard), "photos"), here))
    return removed


def _holds_only(path: Path, names: set[str]) -> bool:
    """Whether a table holds embeddings of these photographs alone; one that cannot be read is not kept either."""
    try:
        return set(tables.read(path, tables.EMBEDDINGS, ["release_photo_id"])["release_photo_id"].to_pylist()) <= names
    except (InputError, sealed.Damaged):
        return False


def _left(path: Path, here: Iterable[tuple[str, str]]) -> set[str]:
    """Photographs (``release_photo_id``) of a shard, as the last run saw it, that are in the cohort no longer."""
    columns = ["patient_id", "photo_id", "release_photo_id"]
    try:
        rows = tables.read(path, tables.PHOTOS, columns).to_pylist()
    except (FileNotFoundError, InputError):
        return set()
    return {row["release_photo_id"] for row in rows if (row["patient_id"], row["photo_id"]) not in here}
