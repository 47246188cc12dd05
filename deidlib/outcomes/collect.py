"""The outcomes stage: reduces the tables of a shard's stages and attempts to one row for each photograph.

Images are not read, so memory grows with rows and not with pixels. The verdict is taken from the checks' numbers
(:func:`deidlib.contract.checks.failed_checks`); a row that says ``passed`` against its numbers does not pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc

from deidlib.contract.checks import WITHOUT_FACE, failed_checks
from deidlib.outcomes.attempts import GROUP_COLUMN, released_attempts
from deidlib.outcomes.outcomes import Outcome
from deidlib.storage import tables
from deidlib.storage.results import stage_table

_PHOTO_COLUMNS = [name for name in tables.PHOTOS.names if name not in ("image", "mask")]
_STATUS = ["release_photo_id", "status", "reason"]
_REGION_COLUMNS = [*_STATUS, "route", "method", "crop_left", "crop_top", "crop_side", "core_pixels"]
_BEFORE_CHECKS = (("donors", tables.DONORS), ("faces", tables.FACES), ("blended", tables.BLENDED))


def collect_outcomes(
    folder: Path,
    attempts: int,
    options: Mapping,
    identity: str = "per_patient",
    turned_down: Mapping[str, int] | None = None,
) -> list[Outcome]:
    """Work out the outcomes of one shard, in the order of its photos table.

    Parameters
    ----------
    folder : Path
        The shard's folder.
    attempts : int
        Number of attempts; tables of attempts 0 … attempts − 1 must exist.
    options : mapping
        The bounds: options of the stage ``checks``.
    identity : str
        ``per_photo``: a photograph is released at the first attempt that it passes. ``per_patient``: all of a
        patient's photographs are released with one donor, so that they show one new person: the first of those with
        which most of them pass.
    turned_down : mapping, optional
        ``release_photo_id`` → the highest attempt at which reviewers asked for another face. All photographs that share
        the face can be released only at a later attempt with another donor.

    Raises
    ------
    InputError
        A stage's table is missing.
    """
    photos = tables.read_stage(stage_table(folder, "photos"), tables.PHOTOS, _PHOTO_COLUMNS).to_pylist()
    landmarks = _stopped(tables.read_stage(stage_table(folder, "landmarks"), tables.LANDMARKS, _STATUS))
    areas = tables.read_stage(stage_table(folder, "regions"), tables.REGIONS, _REGION_COLUMNS)
    regions = _by_photo(tables.handled(areas).to_pylist())
    stopped = landmarks | _stopped(areas)
    tries: dict[str, list[dict]] = {}
    lost: dict[str, list[str]] = {}
    for attempt in range(attempts):
        there = folder / f"attempt-{attempt}"
        for row in tables.read_stage(there / "checks.parquet", tables.CHECKS).to_pylist():
            tries.setdefault(row["release_photo_id"], []).append(row)
        for stage, schema in _BEFORE_CHECKS:
            table = tables.read_stage(there / f"{stage}.parquet", schema, _STATUS)
            for photo_id, reason in _stopped(table).items():
                lost.setdefault(photo_id, []).append(reason)
    sound = {i: _passed_attempts(rows, regions.get(i, {}), options) for i, rows in tries.items()}
    groups = {i: _group(photo, regions.get(i), identity) for i, photo in _by_photo(photos).items()}
    passed = _later(sound, groups, tries, turned_down or {})
    chosen = released_attempts(list(groups.items()), passed)
    outcomes = []
    for photo in photos:
        i = photo["release_photo_id"]
        found = _outcome(photo, stopped, regions.get(i), tries.get(i, []), lost.get(i, []), chosen.get(i))
        if found.held_at == "gate" and len(passed.get(i, ())) < len(sound.get(i, ())):
            found = replace(found, reason="another_face_asked", held_at="review")
        elif found.held_at == "gate" and passed.get(i):
            found = replace(found, reason="passed_with_another_face")
        outcomes.append(found)
    return outcomes


def _later(
    passed: Mapping[str, dict], groups: Mapping[str, str], tries: Mapping[str, list[dict]], turned_down: Mapping
) -> dict[str, dict]:
    """Attempts that passed, after the last one that was turned down for the photograph's group, with another donor."""
    highest: dict[str, int] = {}
    refused: dict[str, set] = {}
    for photo_id, attempt in turned_down.items():
        if group := groups.get(photo_id):
            highest[group] = max(attempt, highest.get(group, -1))
            shown = {row["donor_id"] for row in tries.get(photo_id, ()) if row["attempt"] == attempt}
            refused.setdefault(group, set()).update(shown - {None})

    def counts(group: str, attempt: int, donor: str | None) -> bool:
        return attempt > highest.get(group, -1) and donor not in refused.get(group, ())

    return {
        photo_id: {attempt: donor for attempt, donor in attempts.items() if counts(groups[photo_id], attempt, donor)}
        for photo_id, attempts in passed.items()
    }


def _passed_attempts(rows: list[dict], region: Mapping, options: Mapping) -> dict[int, str | None]:
    """Attempts that a photograph passed → their donor."""
    return {
        row["attempt"]: row["donor_id"]
        for row in rows
        if row["passed"] is True
        and row["route"] == region.get("route")
        and not failed_checks(row, options, region.get("method"))
    }


def _group(photo: Mapping, region: Mapping | None, identity: str) -> str:
    """The group that a photograph is released with: only generated faces have to show one new person."""
    alone = region is not None and region["route"] in WITHOUT_FACE
    return photo["release_photo_id"] if alone else photo[GROUP_COLUMN[identity]]


def _outcome(
    photo: dict, stopped: dict, region: dict | None, tries: list[dict], lost: list[str], attempt: int | None
) -> Outcome:
    photo_id = photo["release_photo_id"]
    if photo["status"] != tables.OK:
        return Outcome(photo, None, photo["reason"] or "gate_failed", None, (), None, "intake")
    if photo_id in stopped or region is None:
        return Outcome(photo, None, stopped.get(photo_id, "gate_failed"), None, (), None, "face")
    if attempt is not None:
        row = next(row for row in tries if row["attempt"] == attempt)
        return Outcome(photo, attempt, None, row, tuple(tries), region)
    reason = lost[-1] if len(lost) >= max(1, len(tries)) else "gate_failed"
    return Outcome(photo, None, reason, None, tuple(tries), region, "gate")


def _stopped(table) -> dict[str, str]:
    gone = table.filter(pc.not_equal(table["status"], tables.OK))
    return {row["release_photo_id"]: row["reason"] or "gate_failed" for row in gone.to_pylist()}


def _by_photo(rows: list[dict]) -> dict[str, dict]:
    return {row["release_photo_id"]: row for row in rows}
