"""Selection by the checks: the method's results at the first attempt, and how many photographs were made again.

A photograph that fails goes on with the same donor, or is made again with another one, until it passes. So the scores
of released photographs show only that they were selected; the first attempts show what the method achieves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from deidlib.contract.checks import LIKENESS, keeps_bound
from deidlib.contract.routes import GENERATE
from deidlib.outcomes.outcomes import Outcome, of_tries

#: What is read of the attempts' checks.
NEEDED = of_tries("route", "failed", "donor_id", *LIKENESS)
_COUNTED = (
    "photographs",
    "passed_first",
    "made_again",
    "went_on",
    "new_donor",
    "against_judge",
    "released",
    "released_later",
)


class Selection:
    """Counts of attempts on photographs with a generated face; outcomes are added one after the other.

    Parameters
    ----------
    options : mapping
        ``config["checks"]``, the bounds.
    """

    def __init__(self, options: Mapping):
        self._options = options
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._first = {name: {"taken": 0, "n": 0} for name in LIKENESS}

    def add(self, outcome: Outcome) -> None:
        """Count a photograph."""
        tries = [row for row in outcome.tries if (row["route"] or GENERATE) == GENERATE]
        if not tries:
            return
        counts = self._counts
        counts["photographs"] += 1
        counts["passed_first"] += not tries[0]["failed"]
        counts["made_again"] += len(tries) > 1
        changed = [earlier["donor_id"] != later["donor_id"] for earlier, later in pairwise(tries)]
        counts["went_on"] += not all(changed)
        counts["new_donor"] += any(changed)
        counts["against_judge"] += any(name in (row["failed"] or ()) for row in tries for name in LIKENESS)
        counts["released"] += outcome.attempt is not None
        counts["released_later"] += bool(outcome.attempt)
        for name, check in LIKENESS.items():
            value = tries[0][name]
            if value is not None and math.isfinite(value):
                self._first[name]["n"] += 1
                self._first[name]["taken"] += not keeps_bound(check, value, self._options)

    def numbers(self) -> dict[str, Any]:
        """Give the counts.

        Returns
        -------
        dict
            ``photographs`` that a first attempt was checked of; ``passed_first`` of them; ``made_again``, of which
            ``went_on`` with the same donor at some attempt, and ``new_donor`` got another one; ``against_judge``: those
            of which an attempt failed a recogniser's check; ``released``, and of these ``released_later``, at a later
            attempt. ``first``: recogniser's check → ``taken`` for the patient at the first attempt, of ``n`` that could
            be compared (its threshold alone, without the margin).
        """
        return {**self._counts, "first": self._first}


def selection(outcomes: Iterable[Outcome], options: Mapping) -> dict[str, Any]:
    """Give the numbers of :class:`Selection` for all these outcomes."""
    found = Selection(options)
    for outcome in outcomes:
        found.add(outcome)
    return found.numbers()


def words(found: Mapping[str, Any]) -> str:
    """The counts in words, for a first page."""
    n = found["photographs"]
    if not n:
        return ""
    rates = " and ".join(
        f"{title} took {found['first'][name]['taken']} of {found['first'][name]['n']} for the patient"
        for name, title in (("sface_cosine", "SFace"), ("dlib_distance", "dlib"))
    )
    return (
        f"Selection: at the first attempt, which is the method's own result, {found['passed_first']} of {n} "
        f"photographs with a new face passed; {rates}. {found['made_again']} were made again: {found['went_on']} went "
        f"on with the same donor, led by the checks that they failed, and {found['new_donor']} got another donor. "
        f"{found['against_judge']} of {n} had an attempt that these recognisers stopped, and "
        f"{found['released_later']} of the {found['released']} that passed did so at a later "
        "attempt. What passed was chosen by these two, so their "
        "scores of it are no evidence."
    )
