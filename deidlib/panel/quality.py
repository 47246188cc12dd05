"""Signs of careless raters in their answers, for a person to judge. No rater is left out silently."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

import numpy as np
from scipy import stats

from deidlib.panel.answers import Answer, Returned
from deidlib.panel.questions import block_questions
from deidlib.panel.study import ACQUAINTED, Study

#: Median seconds on a picture below which a rater is flagged.
_FASTEST = {"realism": 1.5, "usefulness": 2.0, "reading": 6.0, "identity": 2.5}
_SAME_SHARE, _LEAST = 0.95, 12
_P = 0.05


def rater_quality(study: Study, returned: Returned) -> dict:
    """Numbers of one rater, with flags for what is unusual.

    Returns
    -------
    dict
        ``rater, group, asked, answered, cannot, unsure, seconds`` (median), ``repeats`` (pairs, equal, the share
        that chance would make equal), ``washout_days`` between the two readings, and ``flags``, a list of sentences.
    """
    rater = next(one for one in study.raters if one.name == returned.rater)
    acquainted = rater.group == ACQUAINTED
    asked = [trial for trial in study.of(rater.name) if not trial.training]
    answers = [answer for answer in returned.answers.values() if not answer.trial.training]
    values = [value for answer in answers for value in answer.values.values()]
    pairs, equal, expected, p = _repeats(study, answers, acquainted)
    wait = _washout(study, rater, returned)
    wanted = study.settings["washout_days"]
    flags = []
    if len(answers) < len(asked):
        flags.append(f"left {len(asked) - len(answers)} of {len(asked)} pictures without an answer")
    for block, fastest in _FASTEST.items():
        times = [answer.seconds for answer in answers if answer.trial.block == block]
        if len(times) >= 5 and median(times) < fastest:
            flags.append(
                f"looked at a picture for {median(times):.1f} s in the median ({block}): too short to have looked"
            )
    flags += _always_the_same(study, answers, acquainted)
    if pairs >= _LEAST and p > _P:
        flags.append(
            f"gave the same answer to {equal} of {pairs} repeated questions, {expected:.0%} being chance: "
            "may have answered at random"
        )
    if wait is not None and wait < wanted:
        flags.append(f"read the second time after {wait:.1f} days instead of {wanted}")
    return {
        "rater": rater.name,
        "group": rater.group,
        "asked": len(asked),
        "answered": len(answers),
        "cannot": sum(value is None for value in values),
        "values": len(values),
        "unsure": sum(answer.unsure for answer in answers),
        "seconds": median(answer.seconds for answer in answers) if answers else None,
        "repeats": {"pairs": pairs, "equal": equal, "chance": expected if pairs else None},
        "washout_days": wait,
        "flags": flags,
    }


def _repeats(study: Study, answers: list[Answer], acquainted: bool) -> tuple[int, int, float, float]:
    """Pairs of repeated questions, equal ones, the share that chance makes equal, and p of no more than chance.

    Chance is the agreement of two answers drawn from the rater's own answers to that question.
    """
    by_trial = {answer.trial.id: answer for answer in answers}
    pairs = equal = 0
    chances: list[float] = []
    for block in {answer.trial.block for answer in answers}:
        for question in block_questions(block, study.settings, acquainted):
            name = question["name"]
            given = [
                answer.values[name]
                for answer in answers
                if answer.trial.block == block and answer.values[name] is not None
            ]
            if not given:
                continue
            shares = np.bincount(given) / len(given)
            for answer in answers:
                first = by_trial.get(answer.trial.repeat_of or "")
                if answer.trial.block != block or first is None:
                    continue
                both = first.values[name], answer.values[name]
                if None not in both:
                    pairs += 1
                    equal += both[0] == both[1]
                    chances.append(float((shares**2).sum()))
    if not pairs:
        return 0, 0, math.nan, 1.0
    expected = float(np.mean(chances))
    p = float(stats.binom.sf(equal - 1, pairs, expected)) if expected < 1 else 1.0
    return pairs, equal, expected, p


def _always_the_same(study: Study, answers: list[Answer], acquainted: bool) -> list[str]:
    """Flag raters who always choose the same place in line-ups or two-way choices, whose right answers are balanced."""
    flags = []
    for block, name in (("realism", "made"), ("identity", "pick")):
        given = [answer.values[name] for answer in answers if answer.trial.block == block]
        if len(given) >= _LEAST:
            top = int(np.bincount(given).max())
            if top / len(given) >= _SAME_SHARE:
                flags.append(f"gave one and the same answer to {top} of {len(given)} pictures ({block})")
    return flags


def _washout(study: Study, rater, returned: Returned) -> float | None:
    """Days from the end of the first reading to the beginning of the second; None where one is missing."""
    readings = [session.number for session in rater.sessions if "reading" in session.blocks]
    if len(readings) < 2 or readings[0] not in returned.ended or readings[1] not in returned.began:
        return None
    return (returned.began[readings[1]] - returned.ended[readings[0]]).total_seconds() / 86400


def flagged(rows: list[Mapping]) -> list[str]:
    """Names of raters who seem careless: every flag counts except missing answers and a short wash-out."""
    odd = ("too short to have looked", "at random", "one and the same")
    return [row["rater"] for row in rows if any(word in flag for flag in row["flags"] for word in odd)]
