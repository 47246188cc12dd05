"""The audit's criteria: each with pass, fail or not judged, those on single photographs and those of the suite."""

from __future__ import annotations

from deidlib.contract.checks import Check, holds
from deidlib.reid.verdicts import FAILED, NOT_APPLICABLE, NOT_JUDGED, PASSED
from deidlib.report.tally import CHECKS, FACELESS_CHECKS, Tally, applicable, coarse
from deidlib.review.verdicts import REQUIRED
from deidlib.storage.reasons import REASONS

#: Groups of criteria, in the order of the first page.
GROUPS = ("release", "attacks", "photographs", "dental area")
#: Name of the criterion on a required review.
REVIEWED = "reviewed"

_VERDICTS = {True: PASSED, False: FAILED, None: NOT_JUDGED}

#: Criterion of the suite's gate → words for the requirement, and for the finding.
_SUITE_WORDS = {
    "photographs": ("{bound} or more", "{value}"),
    "all_measured": ("{bound} missing", "{value} missing"),
    "no_verified_reidentification": ("{bound} times", "{value} times"),
    "rank1_originals": ("{bound} recognisers find more", "{value} do"),
    "rank1_other_photo": ("{bound} recognisers find more", "{value} do"),
    "learned_rank1": ("{bound} attacks find more", "{value} do"),
    "soft_biometrics": ("{bound} recognisers find more", "{value} do"),
    "published_numbers": ("{bound} of {n} or fewer", "{value} of {n}"),
    "interval_upper_ends": ("below {bound}", "up to {value}"),
    "distinct_donors": ("{bound} shared", "{value} shared"),
    "no_metadata": ("{bound} files", "{value} of {n} files"),
    "k_anonymity": ("{bound} or more alike", "{value} alike"),
}


def photograph_criteria(tally: Tally, thresholds: dict, release: dict, withheld: bool) -> list[dict]:
    """Criteria on the cohort, the release folder and single photographs.

    Parameters
    ----------
    tally : Tally
        All outcomes.
    thresholds : dict
        The gate's bounds: options of the stage ``checks``.
    release : dict
        ``{"written": bool, "problems": int, "agrees": bool}`` of the release folder.
    withheld : bool
        No release was written because the suite's gate failed: there is no folder to judge.

    Returns
    -------
    list of dict
        ``name, group, statement, value, bound, n, verdict, passed, small, note`` as in the suite's gate, and
        ``required`` and ``found`` in words; ``passed`` is None where nothing was judged.
    """
    n, held = len(tally.released_ids), sum(tally.reasons.values())
    known = set(tally.reasons) <= set(REASONS)
    whole, agrees = release["written"] and release["problems"] == 0, release["agrees"]
    same = "same" if agrees else "differs" if release["written"] else "no release"
    rows = [
        _row(
            "released",
            "At least one photograph passed every check on single photographs",
            n > 0,
            (n, 1, tally.photographs),
            ("1 or more", f"{n:,} of {tally.photographs:,}"),
        ),
        _row(
            "accounted",
            "Every photograph of the sheet passed or is held back with a reason",
            n + held == tally.photographs and known,
            (n + held, tally.photographs, tally.photographs),
            (f"{tally.photographs:,}", f"{n + held:,}"),
        ),
        _row(
            "release_whole",
            "The release folder is whole: checksums, index, images, data card",
            None if withheld else whole,
            (release["problems"] if release["written"] else None, 0, n),
            ("no problem", _release_words(release)),
        ),
        _row(
            "release_agrees",
            "The release holds exactly the photographs that passed",
            None if withheld else agrees,
            (agrees, True, n),
            ("same ids and images", same),
        ),
    ]
    rows += [
        _check_row(check, values := applicable(tally.released[name]), thresholds)
        | _applicability(bool(values) or not tally.released[name])
        for name, check in CHECKS.items()
    ]
    return rows + [
        _check_row(check, values := applicable(tally.faceless[name]), thresholds) | {"applicable": bool(values)}
        for name, check in FACELESS_CHECKS.items()
        if tally.faceless[name]
    ]


def review_criteria(review: dict) -> list[dict]:
    """The criterion on a review that the configuration requires; none where it does not.

    ``review`` is from :func:`deidlib.review.effect.review_numbers`.
    """
    if review["mode"] != REQUIRED:
        return []
    n, waiting = review["photographs"], review["waiting"]
    return [
        _row(
            REVIEWED,
            "Reviewers decided on every photograph that passed the checks",
            waiting == 0,
            (n - waiting, n, n),
            (f"{n:,}", f"{n - waiting:,} of {n:,}"),
            f"{_count(waiting, 'photograph')} still to be decided (`deidlib review`).",
        )
    ]


def suite_criteria(suite: dict | None, n: int) -> list[dict]:
    """Criteria of the attack suite's gate; the first one is that the suite ran.

    Parameters
    ----------
    suite : dict or None
        From :func:`deidlib.report.attacks.read_attacks`.
    n : int
        Photographs that passed every check on single photographs; where there are none, nothing is to attack.
    """
    if suite is None:
        ran = _row(
            "attack_suite",
            "The attack suite ran on what would be released",
            None if n == 0 else False,
            (0, None, n),
            ("yes", "not run"),
            group="attacks",
        )
        return [ran]
    rows = []
    for one in suite["gate"]["criteria"]:
        words = dict(zip(("required", "found"), _suite_words(one), strict=True))
        kept = {key: one.get(key) for key in ("name", "statement", "value", "bound", "n", "passed", "note")}
        state = one.get("verdict") or _VERDICTS.get(kept["passed"], FAILED)
        more = {"verdict": state, "small": bool(one.get("small")), "comparisons": one.get("comparisons") or []}
        more["applicable"] = state != NOT_APPLICABLE
        shown = suite.get("table_risk", {}).get("shown_by_faces")
        if one["name"] == "k_anonymity" and shown:
            words["found"] += f" in the table; {shown['k']} with what the faces show"
        rows.append({**kept, "group": "attacks", "note": kept["note"] or "", **more, **words})
    if suite["gate"].get("passed") is not True and not any(row["passed"] is False for row in rows):
        rows.append(
            _row(
                "attack_suite",
                "The attack suite's release gate passed",
                False,
                (False, True, n),
                ("passed", "not passed"),
                group="attacks",
            )
        )
    return rows


def _suite_words(one: dict) -> tuple[str, str]:
    """Requirement and finding of a criterion of the suite's gate, in plain words."""
    text = _percent if one["name"] == "interval_upper_ends" else number
    required, found = _SUITE_WORDS.get(one["name"], ("bound {bound}", "{value}"))
    texts = {key: text(one.get(key)) for key in ("value", "bound")} | {"n": number(one.get("n"))}
    none = [one.get(key) is None for key in ("bound", "value")]
    return "no bound" if none[0] else required.format(**texts), "not measured" if none[1] else found.format(**texts)


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def conclusion(rows: list[dict], tally: Tally, written: bool) -> dict:
    """The verdict over all criteria, in plain words.

    A release fails if a criterion fails. If the cohort is too small for a criterion, the release was not judged in
    full, which is not a pass. Criteria that are not applicable, or were not asked for, are named and decide nothing.

    Returns
    -------
    dict
        ``verdict`` (passed, failed or not judged), ``passed`` (True, False or None), ``words``, and ``not_judged``: the
        statements that could not be judged with so few patients.
    """
    failed = [row for row in rows if row["passed"] is False]
    small = [row for row in rows if row["small"] and row["passed"] is None]
    open_ = [row for row in rows if row["verdict"] == NOT_JUDGED and not row["small"]]
    apart = sum(row["verdict"] == NOT_APPLICABLE for row in rows)
    n, patients, held = len(tally.released_ids), len(tally.released_patients), sum(tally.reasons.values())
    fails = f"{len(failed)} of {len(rows)} criteria {'fails' if len(failed) == 1 else 'fail'}, marked below."
    if n == 0:
        words = (
            f"Nothing was released: none of the {tally.photographs:,} photographs passed. There is no "
            "dataset to share; the cohort flow below gives the reasons."
        )
    elif failed and not written:
        words = (
            f"Nothing was released: {_count(n, 'photograph')} of {_count(patients, 'patient')} passed every check on "
            f"single photographs, but {fails} There is no dataset to share."
        )
    elif failed:
        words = f"Do not share this release: {fails}"
    else:
        words = (
            f"{_count(n, 'photograph')} of {_count(patients, 'patient')} "
            f"{'is released and keeps' if n == 1 else 'are released and keep'} every criterion that was "
            f"judged; {_count(held, 'photograph')} {'was' if held == 1 else 'were'} held back."
        )
    if n and small:
        words += (
            f" There are too few patients to judge {len(small)} of {len(rows)} criteria: nothing is claimed about "
            "these, and this is not a pass."
        )
    if n and open_:
        words += f" Not judged for other reasons: {len(open_)} of {len(rows)} criteria; nothing is claimed about these."
    if n and apart:
        words += f" Not applicable to these photographs: {apart} of {len(rows)} criteria."
    verdict = FAILED if failed else NOT_JUDGED if small else PASSED
    return {
        "verdict": verdict,
        "passed": {PASSED: True, FAILED: False}.get(verdict),
        "words": words,
        "not_judged": [row["statement"] for row in small] if n else [],
    }


def number(value) -> str:
    """Write a criterion's value or bound: yes or no, a count, or three figures."""
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(
    name: str,
    statement: str,
    good: bool | None,
    counts: tuple,
    words: tuple[str, str],
    note: str = "",
    group: str = "release",
) -> dict:
    value, bound, n = counts
    return {
        "name": name,
        "group": group,
        "statement": statement,
        "value": value,
        "bound": bound,
        "n": n,
        "verdict": _VERDICTS[good],
        "passed": good,
        "small": False,
        "note": note,
        "required": words[0],
        "found": words[1],
        "applicable": True,
    }


def _applicability(applies: bool) -> dict:
    return {"applicable": True} if applies else {"applicable": False, "verdict": NOT_APPLICABLE}


#: Requirement of a check without a bound.
_REQUIRED = {"true": "every image", "one_face": "1 face in every image", "no_face": "no face in any such image"}


def _check_row(check: Check, values: list, thresholds: dict) -> dict:
    """Criterion on one check: kept when every photograph to which it applies passes it."""
    n, missing = len(values), sum(value is None for value in values)
    kept = sum(holds(check, value, thresholds) for value in values)
    found, required, worst, bound = _kept_words(kept, n, missing), _REQUIRED.get(check.comparison), kept, n
    if check.option is not None:
        numbers = [value for value in values if value is not None]
        unit = "\N{NO-BREAK SPACE}%" if check.unit.startswith("%") else ""
        bound = thresholds.get(check.option)
        required = "no threshold set" if bound is None else f"{check.bound_in_words(thresholds)}{unit}"
        worst = coarse(check.name, max(numbers) if check.upper else min(numbers)) if numbers else None
        if numbers:
            found += f"; {'highest' if check.upper else 'lowest'} about {worst:g}{unit}"
    good = kept == n if n else None
    return _row(check.criterion, check.statement, good, (worst, bound, n), (required, found), group=check.group)


def _kept_words(kept: int, n: int, missing: int) -> str:
    return f"{kept:,} of {n:,}" + (f", {missing:,} not run" if missing else "")


def _release_words(release: dict) -> str:
    if not release["written"]:
        return "no release"
    return _count(release["problems"], "problem") if release["problems"] else "no problem"


def _count(n: int, one: str) -> str:
    return f"{n:,} {one}" + ("" if n == 1 else "s")
