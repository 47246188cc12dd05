"""What became of each photograph: it passed with an attempt, or it is quarantined with a reason.

:mod:`deidlib.outcomes.collect` makes one table for each shard (``tables.OUTCOMES``); later stages read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.storage import tables
from deidlib.storage.results import Results, stage_table

PASSED = "passed"
#: Where a photograph can be held back, in the order of the stages.
STEPS = ("intake", "face", "gate", "review")

_PHOTO = [name for name in tables.PHOTOS.names if name in tables.OUTCOMES.names and name not in ("status", "reason")]
#: Columns about the attempts' checks: most of a row, which few need. :func:`of_check` and :func:`of_tries` give parts.
CHECKS = ("check", "tries")
_REGION = ("route", "method", "crop_left", "crop_top", "crop_side", "core_pixels")


@dataclass(frozen=True)
class Outcome:
    """One photograph's way through the stages.

    Attributes
    ----------
    photo : dict
        Its columns of ``tables.PHOTOS`` without pixels (identifying: patient_id, photo_id, columns).
    attempt : int or None
        The attempt that would be released; None when quarantined.
    reason : str or None
        Reason code (``reasons.REASONS``) of a quarantined photograph.
    check : dict or None
        Row of ``tables.CHECKS`` of the attempt that would be released.
    tries : tuple of dict
        Every row of ``tables.CHECKS`` of this photograph, in the order of attempts.
    region : dict or None
        Route, method, crop and core size of a photograph that has a preserved area.
    held_at : str or None
        One of :data:`STEPS` for a quarantined photograph.
    candidate : int or None
        The attempt that passed every check and that only reviewers hold back.
    """

    photo: dict
    attempt: int | None
    reason: str | None
    check: dict | None
    tries: tuple[dict, ...]
    region: dict | None
    held_at: str | None = None
    candidate: int | None = None

    @property
    def photo_id(self) -> str:
        """Its ``release_photo_id``."""
        return self.photo["release_photo_id"]


def to_table(outcomes: Iterable[Outcome]) -> pa.Table:
    """Table ``tables.OUTCOMES`` of some outcomes."""
    rows = (
        {
            **{name: outcome.photo[name] for name in _PHOTO},
            "status": PASSED if outcome.attempt is not None else tables.QUARANTINED,
            "reason": outcome.reason,
            "held_at": outcome.held_at,
            "attempt": outcome.attempt,
            "candidate": outcome.candidate,
            **{name: (outcome.region or {}).get(name) for name in _REGION},
            "check": outcome.check,
            "tries": list(outcome.tries),
        }
        for outcome in outcomes
    )
    return tables.from_rows(rows, tables.OUTCOMES)


def of_check(*names: str) -> tuple[str, ...]:
    """Columns of ``tables.CHECKS`` of the attempt that would be released, for :func:`read_outcomes`."""
    return tuple(f"check.{name}" for name in names)


def of_tries(*names: str) -> tuple[str, ...]:
    """Columns of ``tables.CHECKS`` of every attempt, for :func:`read_outcomes`."""
    return tuple(f"tries.list.element.{name}" for name in names)


def read_outcomes(private: Path, shard: str, checks: Sequence[str] = CHECKS) -> list[Outcome]:
    """Outcomes of one shard, in the sheet's order.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shard : str
        Name of the shard.
    checks : sequence of str
        Which columns about checks are read, some of :data:`CHECKS` or parts of them; without ``check`` it is None, and
        without ``tries`` there are none.

    Raises
    ------
    InputError
        The table is missing, or of another version of deidlib.
    """
    columns = [*(name for name in tables.OUTCOMES.names if name not in CHECKS), *checks]
    return [_outcome(row) for row in _read(private, shard, columns).to_pylist()]


def count_passed(private: Path, shard: str) -> int:
    """Photographs of a shard that passed every check, those included that only reviewers hold back."""
    table = _read(private, shard, ["attempt", "candidate"])
    return pc.sum(pc.or_(pc.is_valid(table["attempt"]), pc.is_valid(table["candidate"]))).as_py() or 0


def all_outcomes(private: Path, shards: Iterable[str], checks: Sequence[str] = CHECKS) -> Iterator[Outcome]:
    """Outcomes of the whole cohort, as :func:`read_outcomes` gives them; one shard's are in memory at a time."""
    for shard in shards:
        yield from read_outcomes(private, shard, checks)


def chosen_attempts(private: Path, shards: Iterable[str]) -> dict[str, int]:
    """Photographs of the cohort that would be released → the attempt."""
    chosen: dict[str, int] = {}
    for shard in shards:
        table = _read(private, shard, ["release_photo_id", "attempt"])
        table = table.filter(pc.is_valid(table["attempt"]))
        chosen |= zip(table["release_photo_id"].to_pylist(), table["attempt"].to_pylist(), strict=True)
    return chosen


def chosen_among(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """The same of outcomes that were read."""
    return {outcome.photo_id: outcome.attempt for outcome in outcomes if outcome.attempt is not None}


def chosen_digest(chosen: Mapping[str, int]) -> str:
    """SHA-256 of :func:`chosen_attempts`: identifies what a verdict is about."""
    return hashlib.sha256(repr(sorted(chosen.items())).encode()).hexdigest()


def _read(private: Path, shard: str, columns: list[str]) -> pa.Table:
    return tables.read_stage(stage_table(Results(private).shard(shard), "outcomes"), tables.OUTCOMES, columns)


def _outcome(row: dict) -> Outcome:
    return Outcome(
        photo={name: row[name] for name in _PHOTO},
        attempt=row["attempt"],
        reason=row["reason"],
        check=row.get("check"),
        tries=tuple(row.get("tries", ())),
        region={name: row[name] for name in _REGION} if row["route"] is not None else None,
        held_at=row["held_at"],
        candidate=row["candidate"],
    )
