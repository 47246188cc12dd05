"""Verdicts of the release gate's criteria, and their form in the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PASSED, FAILED, NOT_JUDGED, NOT_APPLICABLE = "passed", "failed", "not judged", "not applicable"
#: What becomes of a release whose cohort is too small for a verdict (``reid.small_cohort``).
RELEASE, WITHHOLD = "release_with_notice", "withhold"
_AS_BOOL = {PASSED: True, FAILED: False}


def criterion(
    name: str,
    statement: str,
    value: Any,
    bound: Any,
    n: int,
    verdict: str | bool,
    note: str = "",
    small: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """One criterion: ``name, statement, value, bound, n, verdict, passed, small, note`` and what else is given.

    Parameters
    ----------
    name, statement : str
        For programs and for readers.
    value, bound
        The value that was found, and its bound; None: not measured, or no bound.
    n : int
        Number of trials or photographs behind the value.
    verdict : str or bool
        One of the four; True and False are passed and failed.
    note : str
        In words.
    small : bool
        It is not judged because the cohort is too small.
    """
    verdict = {True: PASSED, False: FAILED}.get(verdict, verdict) if isinstance(verdict, bool) else verdict
    return {
        "name": name,
        "statement": statement,
        "value": value,
        "bound": bound,
        "n": n,
        "verdict": verdict,
        "passed": _AS_BOOL.get(verdict),
        "small": small,
        "note": note,
        **more,
    }


def blocks(one: dict[str, Any], small_cohort: str = WITHHOLD) -> bool:
    """Whether a criterion stops the release.

    A failed criterion does, and so does one without a verdict (a file of another form). A criterion that is not judged
    because the cohort is too small does so if the configuration says so. One that is not applicable does not.
    """
    if one.get("passed") is True:
        return False
    if one.get("passed") is None and one.get("verdict") in (NOT_JUDGED, NOT_APPLICABLE):
        return bool(one.get("small")) and small_cohort != RELEASE
    return True


def verdict_of(criteria: Sequence[dict[str, Any]], small_cohort: str) -> dict[str, Any]:
    """The gate's verdict: ``passed`` (a release may be written), ``verdict``, ``small_cohort`` and ``criteria``."""
    failed = any(blocks(one, small_cohort) for one in criteria)
    open_ = any(one["verdict"] == NOT_JUDGED and one["small"] for one in criteria)
    return {
        "passed": not failed,
        "verdict": FAILED if failed else NOT_JUDGED if open_ else PASSED,
        "small_cohort": small_cohort,
        "criteria": list(criteria),
    }
