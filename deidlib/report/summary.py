"""The summary of an audit for a review board: the verdict, what was judged, how often patients were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from deidlib.reid.face_attacks import RANK1_ORIGINALS
from deidlib.reid.gate import LEARNED, VERIFICATION
from deidlib.reid.suite import GATED
from deidlib.reid.verdicts import FAILED, NOT_APPLICABLE, NOT_JUDGED, PASSED
from deidlib.report.attacks import recogniser_titles
from deidlib.report.criteria import GROUPS, REVIEWED

#: Groups of criteria → title for readers.
GROUP_TITLES = {
    "release": "The release as a whole",
    "attacks": "Attacks on the release",
    "photographs": "Single photographs",
    "dental area": "The dental area",
}
#: Part of a recogniser in the making of the release → words, the most independent first.
PARTS = {
    "independent": "independent of the making",
    "judge": "held back single photographs",
    "identity_loss": "led the search for new faces",
}


def summarise(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what the summary says, from the numbers of the audit.

    Parameters
    ----------
    audit : mapping
        ``audit.json`` without its summary.

    Returns
    -------
    dict
        ``headline``; ``advice`` on what to do with the release; ``counts``: verdict → criteria, and ``groups``, the
        same of each group of criteria; ``failed`` and ``not_judged``: ``statement``, ``note`` and ``small`` (too few
        patients); ``found``: a row for each recogniser that attacked (:func:`_found`).
    """
    criteria = audit["gate"]["criteria"]
    counted = Counter(row["verdict"] for row in criteria)
    order = (PASSED, FAILED, NOT_JUDGED, NOT_APPLICABLE)
    groups = []
    for group in GROUPS:
        mine = Counter(row["verdict"] for row in criteria if row["group"] == group)
        if mine:
            groups.append({"title": GROUP_TITLES[group], **{verdict: mine[verdict] for verdict in order}})
    return {
        **_headline(audit),
        "counts": {verdict: counted[verdict] for verdict in order},
        "groups": groups,
        "failed": _statements(criteria, FAILED),
        "not_judged": _statements(criteria, NOT_JUDGED),
        "found": _found(audit),
    }


def _headline(audit: Mapping) -> dict[str, str]:
    """First line of the summary and its advice. It never says more than the criteria do."""
    verdict, written = audit["gate"]["verdict"], audit["release"]["written"]
    share = (
        "Treat this release as pseudonymised health data and share it under an agreement, unless an expert has "
        "determined otherwise for this cohort and these recipients."
    )
    failed = {row["name"] for row in audit["gate"]["criteria"] if row["verdict"] == FAILED}
    if failed == {REVIEWED} and not written:
        words = "Not released yet: photographs wait for a reviewer"
        advice = "Complete the review; there is no release to share yet."
    elif verdict == FAILED:
        words = "Failed: do not share this release" if written else "Failed: nothing was released"
        advice = "Do not share it." if written else "There is no release to share."
    elif not written:
        words, advice = "Nothing was released", "There is no release to share."
    elif verdict == NOT_JUDGED:
        words, advice = "Not judged in full: too few patients. Your judgement is needed", share
    elif any(row["verdict"] == NOT_JUDGED for row in audit["gate"]["criteria"]):
        words, advice = "Passed the automatic checks that were judged; your judgement is still needed", share
    else:
        words, advice = "Passed the automatic checks; your judgement is still needed", share
    return {"headline": words, "advice": advice}


def _statements(criteria: list[dict], verdict: str) -> list[dict]:
    keys = ("statement", "note", "small")
    return [{key: row[key] for key in keys} for row in criteria if row["verdict"] == verdict]


def _found(audit: Mapping) -> list[dict]:
    """How often each recogniser found the patient, the most independent first.

    Each row has ``by, part`` and the results ``verified``, ``first`` (the patient comes first among the originals),
    ``area`` (the same by the preserved area alone) and ``learned`` (the same by an attacker who learned from other
    patients; of several, the one with the highest rate). A result is an entry of ``attacks``, or None if not tried.
    """
    by_key = {(one["name"], one["recogniser"], one["region"]): one for one in audit["attacks"] if one["trials"]}
    titles, rows = recogniser_titles(audit), []
    for entry in audit["recognisers"]:
        name = entry["name"]
        learned = [by_key.get((f"{attack}_rank1", name, "whole")) for attack in LEARNED]
        part = entry.get("role") or "judge"
        rows.append(
            {
                "by": titles[name],
                "part": PARTS.get("independent" if part == "judge" and name not in GATED else part, part),
                "verified": by_key.get((VERIFICATION[0], name, "whole")),
                "first": by_key.get((RANK1_ORIGINALS, name, "whole")),
                "area": by_key.get((RANK1_ORIGINALS, name, "region_only")),
                "learned": max(filter(None, learned), key=lambda one: one["rate"], default=None),
            }
        )
    order = list(PARTS.values())
    return sorted(rows, key=lambda row: order.index(row["part"]) if row["part"] in order else len(order))
