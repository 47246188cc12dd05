"""Effect of reviewers' decisions on the outcomes of a shard and on the release as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deidlib.config import stage_options
from deidlib.errors import InputError
from deidlib.outcomes.collect import collect_outcomes
from deidlib.outcomes.outcomes import Outcome, count_passed, read_outcomes
from deidlib.review.decisions import AGAINST, Decision, by_photo, read_decisions
from deidlib.review.verdicts import (
    DISAGREEMENT,
    OFF,
    OPTIONAL,
    REASON_OF,
    REQUIRED,
    UNDECIDED,
    Verdict,
    count_verdicts,
    turned_down,
    verdict,
)
from deidlib.storage.results import Results


def reviewed_outcomes(results: Results, shard: str, attempts: int, config: Mapping) -> list[Outcome]:
    """Outcomes of a shard by checks and reviewers.

    Parameters
    ----------
    results : Results
        The results.
    shard : str
        The shard's name.
    attempts : int
        Number of attempts that were made of this shard.
    config : mapping
        ``checks`` (with the preset's), ``identity``, ``review``, ``reviewers``.

    Raises
    ------
    InputError
        ``review`` is ``off`` and there are decisions against photographs of this shard, or a table is missing.
    """
    decisions, reviewers = read_decisions(results.private, shard), config["reviewers"]
    if config["review"] == OFF:
        if against := {one.photo for one in decisions if one.decision in AGAINST}:
            raise InputError(
                f"review is off, but reviewers decided against {len(against)} photographs of shard {shard}: write "
                "`review: optional`, or move private/review away if these decisions shall not count"
            )
        decisions = []
    outcomes = collect_outcomes(
        results.shard(shard),
        attempts,
        stage_options(config, "checks"),
        config["identity"],
        turned_down(decisions, reviewers),
    )
    return hold_back(outcomes, decisions, reviewers)


def hold_back(outcomes: Iterable[Outcome], decisions: Sequence[Decision], reviewers: int = 1) -> list[Outcome]:
    """Quarantine what reviewers hold back; the others stay as they are."""
    mine = by_photo(decisions)
    return [_held(outcome, mine.get(outcome.photo_id, []), reviewers) for outcome in outcomes]


def _held(outcome: Outcome, decisions: Sequence[Decision], reviewers: int) -> Outcome:
    if outcome.attempt is None or not decisions:
        return outcome
    found = verdict(decisions, outcome.check["sha256"], reviewers)
    if not found.holds_back:
        return outcome
    reason = REASON_OF[found.state]
    return replace(
        outcome, attempt=None, check=None, reason=reason, held_at="review", candidate=outcome.check["attempt"]
    )


def review_numbers(private: Path, shards: Iterable[str], config: Mapping) -> dict:
    """Summary of the review for audit, data card and RO-Crate: counts and roles, no names.

    Returns
    -------
    dict
        ``mode`` and ``reviewers`` of the configuration; of the photographs that passed the checks: ``photographs``,
        ``looked_at``, ``verdicts``, ``roles``; and ``waiting``: those without a decision that review demands.
    """
    mode, found, unseen = config["review"], {}, 0
    for shard in shards:
        mine = {} if mode == OFF else by_photo(read_decisions(private, shard))
        if not mine:
            unseen += count_passed(private, shard)
            continue
        for outcome in read_outcomes(private, shard):
            if outcome.attempt is not None or outcome.candidate is not None:
                found[outcome.photo_id] = _verdict(outcome, mine.get(outcome.photo_id, []), config["reviewers"])
    open_ = unseen + sum(one.state in (UNDECIDED, DISAGREEMENT) for one in found.values())
    waiting = open_ if mode == REQUIRED else 0
    return {"mode": mode, "reviewers": config["reviewers"], "waiting": waiting, **count_verdicts(found, unseen)}


def nobody_looked(photographs: int) -> dict:
    """Give the numbers of :func:`review_numbers` where nothing was reviewed."""
    counts = {"photographs": photographs, "looked_at": 0, "verdicts": {}, "roles": {}}
    return {"mode": OPTIONAL, "reviewers": 1, "waiting": 0, **counts}


def review_words(review: Mapping) -> str:
    """Say in words whether a person looked, for audit, data card and RO-Crate."""
    looked, photographs = review["looked_at"], review["photographs"]
    if not looked:
        return "No person looked at the photographs before their release" + (
            ": the review was switched off." if review["mode"] == OFF else "."
        )
    roles = ", ".join(f"{role.replace('_', ' ')} {n}" for role, n in review["roles"].items())
    decided = {state: n for state, n in review["verdicts"].items() if state != UNDECIDED}
    words = (
        f"A person looked at {looked:,} of the {photographs:,} photographs that passed the checks, each beside its "
        f"original (by role: {roles})"
    )
    if decided:
        words += "; decisions: " + ", ".join(f"{state.replace('_', ' ')} {n:,}" for state, n in decided.items())
    return words + (". Two people had to make the same decision." if review["reviewers"] > 1 else ".")


def _verdict(outcome: Outcome, decisions: Sequence[Decision], reviewers: int) -> Verdict:
    attempt = outcome.candidate if outcome.attempt is None else outcome.attempt
    digest = next(row["sha256"] for row in outcome.tries if row["attempt"] == attempt)
    return verdict(decisions, digest, reviewers)
