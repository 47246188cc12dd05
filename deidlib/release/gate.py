"""The release gate's word is obeyed here: below it, what would have been released is held back, every photograph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from deidlib.outcomes.outcomes import Outcome, read_outcomes
from deidlib.release.dataset import all_outcomes, write_private
from deidlib.release.errors import GateFailed, ReleaseError
from deidlib.release.tombstones import GATE_REASON
from deidlib.storage import tables


def chosen_digest(outcomes: Iterable[Outcome]) -> str:
    """SHA-256 of which photographs would be released, each at which attempt: what a verdict was given on."""
    chosen = sorted((o.photo["release_photo_id"], o.attempt) for o in outcomes if o.attempt is not None)
    return hashlib.sha256(repr(chosen).encode()).hexdigest()


def obey_gate(private: Path, shards: list[str], attempts: int, config: Mapping, attacks: Mapping[str, Any]) -> None:
    """Do nothing where the release gate passed; else quarantine every photograph and raise.

    Where no photograph passed its own gate there is nothing to hold back, and nothing is done.

    Parameters
    ----------
    private, shards, attempts, config
        As for :func:`deidlib.release.write_release`.
    attacks : mapping
        What ``deidlib reid`` wrote; empty where it did not run.

    Raises
    ------
    GateFailed
        The gate did not pass. Crosswalk and quarantine list say so of every photograph.
    ReleaseError
        There is no verdict, or it was given on other photographs than those that would be released.
    """
    digest = chosen_digest(all_outcomes(private, shards, attempts, config))
    if digest == chosen_digest([]):
        return
    criteria = attacks.get("gate", {}).get("criteria")
    if not criteria:
        raise ReleaseError(
            "the attacks have not been run on what would be released: run `deidlib reid`, or the workflow"
        )
    if attacks.get("inputs", {}).get("chosen") != digest:
        raise ReleaseError(
            "the attacks were run on other photographs than would be released now: run `deidlib reid` again"
        )
    failed = [criterion for criterion in criteria if criterion["passed"] is not True]
    if attacks["gate"]["passed"] is True and not failed:
        return
    crosswalk, quarantine = [], []
    for shard in shards:
        outcomes = read_outcomes(private, shard, attempts, config["checks"], config["identity"])
        held = [o if o.attempt is None else replace(o, attempt=None, reason=GATE_REASON) for o in outcomes]
        crosswalk.append(_crosswalk(held))
        quarantine += map(_quarantine_row, held)
    write_private(private, crosswalk, quarantine)
    raise GateFailed(
        "the release gate is not kept, so nothing is released:\n"
        + "\n".join(f"  {criterion['statement']}. {criterion['note']}".rstrip() for criterion in failed)
    )


def _crosswalk(held: list[Outcome]) -> pa.Table:
    names = ("patient_id", "photo_id", "release_patient_id", "release_photo_id")
    rows = [{**{name: o.photo[name] for name in names}, "status": tables.QUARANTINED, "reason": o.reason} for o in held]
    return tables.from_rows(rows, tables.CROSSWALK)


def _quarantine_row(outcome: Outcome) -> tuple:
    return outcome.photo["row"], outcome.photo["release_photo_id"], outcome.reason, tables.REASONS[outcome.reason]
