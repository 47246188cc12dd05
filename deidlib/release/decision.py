"""The decide stage: decides whether there is a release, and whether each photograph is in it.

It reads the outcomes and the release gate's verdict (``attacks.json``), and writes three private files:
``decision.json``, the crosswalk and the quarantine list. Release and report follow them. If the release gate fails, or
a required review is not complete, every photograph is held back.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from deidlib.columns import rules as columns
from deidlib.contract import checks
from deidlib.errors import GateFailed, InputError, NothingReleased, ReleaseError, ReviewPending
from deidlib.outcomes.outcomes import Outcome, all_outcomes, chosen_attempts, chosen_digest, of_tries, read_outcomes
from deidlib.reid.verdicts import WITHHOLD, blocks
from deidlib.release.layout import image_paths
from deidlib.review.effect import review_numbers
from deidlib.review.verdicts import OPTIONAL
from deidlib.storage import tables
from deidlib.storage.atomic import write_file, write_json
from deidlib.storage.reasons import text_of
from deidlib.storage.results import Results

RELEASED = "released"
#: Reasons to hold back a photograph that passed every check of its own.
GATE_REASON = "release_gate_failed"
#: The kinds of decision that make no release.
GATE, NOTHING, REVIEW = "gate_failed", "nothing_passed", "review_pending"
#: Reasons of photographs that are held back for now and would otherwise be released.
WAITING = (GATE_REASON, "review_pending", "reviewers_disagree")

_ORDER = [("release_patient_id", "ascending"), ("release_photo_id", "ascending")]


class Decision(NamedTuple):
    """The decision on a release.

    Attributes
    ----------
    release : bool
        Whether there is a release.
    why : str or None
        :data:`GATE`, :data:`NOTHING` or :data:`REVIEW` where there is none.
    failed : list of str
        The failed criteria of the release gate, in words.
    released, held : int
        Photographs.
    chosen : str
        Digest of the photographs that passed their own checks, each with its attempt.
    review : dict
        What reviewers did (:func:`deidlib.review.effect.review_numbers`).
    not_judged : list of str
        Statements of the release gate's criteria that the cohort is too small to judge.
    """

    release: bool
    why: str | None
    failed: list[str]
    released: int
    held: int
    chosen: str
    review: dict
    not_judged: Sequence[str] = ()


def decide(
    private: Path,
    shards: Sequence[str],
    attacks: Mapping[str, Any],
    rules: Mapping | None = None,
    review: Mapping[str, Any] | None = None,
) -> Decision:
    """Make the decision; write it, the crosswalk and the quarantine list.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shards : sequence of str
        Names of the shards.
    attacks : mapping
        What ``deidlib reid`` wrote; empty where it did not run.
    rules : mapping, optional
        ``config["release"]["columns"]``: every cell to be released is checked against them.
    review : mapping, optional
        ``review`` and ``reviewers`` of the configuration; by default no review is required.

    Raises
    ------
    ReleaseError
        There is no verdict, the verdict is about other photographs than those that passed, an id occurs twice or is not
        a pseudonym, a rule cannot be followed, or a cell may not be released. Nothing is written then.
    """
    chosen = chosen_attempts(private, shards)
    digest, nothing = chosen_digest(chosen), not chosen
    failed = [] if nothing else _failed_criteria(attacks, digest)
    review = review_numbers(private, shards, review or {"review": OPTIONAL, "reviewers": 1})
    held_by = GATE_REASON if failed else "review_pending" if review["waiting"] else None
    ids = [] if held_by else _released_ids(all_outcomes(private, shards, checks=()))
    check_columns(private, shards, rules or {})
    paths = image_paths(set(ids))
    held = _write(private, shards, paths, held_by)
    why = GATE if failed else REVIEW if review["waiting"] else NOTHING if nothing else None
    small = [one["statement"] for one in attacks.get("gate", {}).get("criteria", []) if one.get("small")]
    decision = Decision(why is None, why, failed, len(ids), held, digest, review, small)
    write_json(decision._asdict(), Results(private).decision)
    return decision


def read_decision(private: Path) -> Decision:
    """Read the decision.

    Raises
    ------
    InputError
        There is none, or it is damaged.
    """
    try:
        found = Decision(**json.loads(Results(private).decision.read_text(encoding="utf-8")))
        return found._replace(not_judged=list(found.not_judged))
    except (OSError, ValueError, TypeError):
        raise InputError("decision.json is missing or damaged: run `deidlib decide`, or the workflow") from None


def obey(decision: Decision) -> None:
    """Raise an error if the decision is against a release.

    Raises
    ------
    GateFailed
        The release gate failed.
    ReviewPending
        Photographs wait for a reviewer.
    NothingReleased
        No photograph passed its checks.
    """
    if decision.why == NOTHING:
        raise NothingReleased(
            "no photograph passed the gate, so there is nothing to release; quarantine.tsv in the private "
            "folder gives each photograph's reason"
        )
    if decision.why == REVIEW:
        raise ReviewPending(waiting_words(decision.review))
    if not decision.release:
        raise GateFailed(
            "the release gate failed, so nothing is released:\n" + "\n".join(f"  {one}" for one in decision.failed)
        )


def waiting_words(review: Mapping[str, Any]) -> str:
    """Say what to do about a review that is not complete."""
    many = review["waiting"] != 1
    return (
        f"{review['waiting']} photograph{'s' * many} wait{'s' * (not many)} for a reviewer, and the configuration says "
        "`review: required`, so nothing is released yet. Decide with `deidlib review RESULTS`, then start the workflow "
        "again: it goes on from here"
    )


def released_paths(private: Path) -> dict[str, str]:
    """Path in the release of every photograph that the crosswalk releases, by ``release_photo_id``."""
    crosswalk = tables.read(Results(private).crosswalk, tables.CROSSWALK, ["release_photo_id", "path", "status"])
    return {row["release_photo_id"]: row["path"] for row in crosswalk.to_pylist() if row["status"] == RELEASED}


def check_columns(private: Path, shards: Sequence[str], rules: Mapping) -> None:
    """Check that the rules fit the sheet, and that no cell of a photograph that passed identifies somebody.

    Raises
    ------
    ReleaseError
        A rule cannot be followed, or a cell may not be released; the error names the column and the sheet's row.
    """
    names: set[str] = set()
    ids: set[str] = set()
    passed: list[dict] = []
    for outcome in all_outcomes(private, shards, checks=()):
        names |= set(json.loads(outcome.photo["columns"] or "{}"))
        ids.update((outcome.photo["patient_id"], outcome.photo["photo_id"]))
        if outcome.attempt is not None:
            passed.append(outcome.photo)
    columns.check_rules(rules, names)
    for photo in passed:
        columns.sheet_values(photo, rules)
    columns.refuse_identifying(passed, ids, rules)


def _failed_criteria(attacks: Mapping[str, Any], digest: str) -> list[str]:
    """Criteria of the release gate that stop the release, in words."""
    criteria = attacks.get("gate", {}).get("criteria")
    if not criteria:
        raise ReleaseError(
            "the attacks have not been run on what would be released: run `deidlib reid`, or the workflow"
        )
    if attacks.get("inputs", {}).get("chosen") != digest:
        raise ReleaseError(
            "the attacks were run on other photographs than would be released now: run `deidlib reid` again"
        )
    failed = [criterion for criterion in criteria if blocks(criterion, attacks["gate"].get("small_cohort", WITHHOLD))]
    if failed:
        return [f"{criterion['statement']}. {criterion['note']}".rstrip() for criterion in failed]
    return [] if attacks["gate"].get("passed") is True else ["The release gate did not pass."]


def _released_ids(outcomes: Iterable[Outcome]) -> list[str]:
    """Ids of the photographs to release, checked for their form."""
    seen: set[str] = set()
    for outcome in outcomes:
        if outcome.attempt is None:
            continue
        if not (tables.is_pseudonym(outcome.photo_id) and tables.is_pseudonym(outcome.photo["release_patient_id"])):
            raise ReleaseError(f"sheet row {outcome.photo['row']}: pseudonyms not of deidlib's form; run intake again")
        if outcome.photo_id in seen:
            raise ReleaseError(
                f"photograph {outcome.photo_id} is in the tables twice; remove results/private/shards and run again"
            )
        seen.add(outcome.photo_id)
    return sorted(seen)


def _reason(outcome: Outcome, held_by: str | None) -> str | None:
    return held_by if outcome.attempt is not None and held_by else outcome.reason


def _crosswalk_row(outcome: Outcome, paths: Mapping[str, str], held_by: str | None) -> dict:
    reason = _reason(outcome, held_by)
    return {
        **{name: outcome.photo[name] for name in ("patient_id", "photo_id", "release_patient_id", "release_photo_id")},
        "path": paths.get(outcome.photo_id) if reason is None else None,
        "status": RELEASED if reason is None else tables.QUARANTINED,
        "reason": reason,
    }


def _write(private: Path, shards: Sequence[str], paths: Mapping[str, str], held_by: str | None) -> int:
    """Write crosswalk and quarantine list; returns the number of photographs that are held back."""
    results, sheet_paths = Results(private), _sheet_paths(private, shards)
    parts, held = [tables.CROSSWALK.empty_table()], []
    for shard in shards:
        outcomes = read_outcomes(private, shard, of_tries("failed"))
        rows = (_crosswalk_row(outcome, paths, held_by) for outcome in outcomes)
        parts.append(tables.from_rows(rows, tables.CROSSWALK))
        for outcome in outcomes:
            photo, reason = outcome.photo, _reason(outcome, held_by)
            if reason is not None:
                path, meaning = sheet_paths.get(photo["row"], ""), _meaning(outcome, reason)
                held.append((photo["row"], photo["photo_id"], path, photo["release_photo_id"], reason, meaning))
    tables.write(pa.concat_tables(parts).sort_by(_ORDER), results.crosswalk, tables.CROSSWALK)
    results.crosswalk.chmod(0o600)
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["row", "photo_id", "path", "release_photo_id", "reason", "meaning"])
    writer.writerows(sorted(held))
    write_file(results.quarantine, text.getvalue().encode())
    return len(held)


def _meaning(outcome: Outcome, reason: str) -> str:
    """Explain a reason and what helps; for the gate, with the checks that the last attempt failed."""
    meaning = text_of(reason)
    failed = list(outcome.tries[-1]["failed"] or ()) if reason == "gate_failed" and outcome.tries else []
    checked = [f"{name} ({checks.HELP[name]})" if name in checks.HELP else name for name in failed]
    return f"{meaning} Failed at the last attempt, and what helps: {'; '.join(checked)}." if checked else meaning


def _sheet_paths(private: Path, shards: Sequence[str]) -> dict[int, str]:
    """Path of every photograph as the sheet has it, by its row; empty where the plan's tables are gone."""
    found: dict[int, str] = {}
    for shard in shards:
        file = Results(private).shard(shard) / "cohort.parquet"
        if file.is_file():
            table = tables.read(file, tables.COHORT, ["row", "path"])
            found |= dict(zip(table["row"].to_pylist(), table["path"].to_pylist(), strict=True))
    return found
