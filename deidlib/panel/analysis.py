"""From answers to results: each arm's numbers, with intervals over raters and patients. No id leaves this module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from deidlib.panel import agreement, comparison, detection, resampling
from deidlib.panel.allocation import seeded_rng
from deidlib.panel.answers import Answer, Returned
from deidlib.panel.material import MOUTH, ORIGINAL, RESULT
from deidlib.panel.quality import flagged, rater_quality
from deidlib.panel.questions import N_CHOICES, block_questions
from deidlib.panel.study import ACQUAINTED, PANEL, Study

FORMAT = "deidlib panel summary 1"


def analyse(study: Study, returned: Sequence[Returned]) -> dict:
    """Results of a study, ready for JSON: numbers, counts and intervals; NaN is None.

    Parameters
    ----------
    study : Study
        The key.
    returned : sequence of Returned
        What came back.

    Returns
    -------
    dict
        ``format, study, title, release, simulated, panel, raters, notes, flagged``, and ``realism, usefulness, reading,
        identity``, None where an arm was not asked. ``without_flagged`` holds the headline numbers without raters whose
        answers look random, None where there is no such rater.
    """
    rows = [rater_quality(study, one) for one in returned]
    odd = flagged(rows)
    kept = [one for one in returned if one.rater not in odd]
    results = {
        "format": FORMAT,
        "study": study.id,
        "title": study.settings["title"],
        "release": study.release,
        "simulated": any(one.simulated for one in returned),
        "consent": study.settings["consent_reference"]
        or ("a column of the sheet" if study.settings["consent_column"] else None),
        "panel": {
            group: {
                "asked": sum(rater.group == group for rater in study.raters),
                "returned": sum(row["group"] == group for row in rows),
            }
            for group in (PANEL, ACQUAINTED)
        },
        "raters": rows,
        "notes": study.notes,
        **_arms(study, returned),
        "flagged": odd,
        "without_flagged": headline(_arms(study, kept)) if odd and kept else None,
    }
    return _finite(results)


def headline(results: Mapping) -> dict:
    """The key results."""
    found = {}
    if results["realism"]:
        found["realism_accuracy"] = results["realism"]["accuracy"]["rate"]
    if results["reading"]:
        found["equivalent_findings"] = sum(
            one["equivalence"]["equivalent"] is True for one in results["reading"] if one["equivalence"]
        )
        found["tested_findings"] = sum(one["equivalence"] is not None for one in results["reading"])
    if results["usefulness"]:
        found["useful"] = {one["name"]: one["agree"]["rate"] for one in results["usefulness"]}
    if results["identity"]:
        found["identity"] = {
            f"{one['group']} {one['condition']}": one["accuracy"]["rate"] for one in results["identity"]["rates"]
        }
    return found


def _arms(study: Study, returned: Sequence[Returned]) -> dict:
    answers = [answer for one in returned for answer in one.answers.values() if not answer.trial.training]
    of = {
        block: [one for one in answers if one.trial.block == block]
        for block in ("realism", "usefulness", "reading", "identity")
    }
    return {
        "realism": _realism(study, of["realism"]) if of["realism"] else None,
        "usefulness": [_likert(study, q, of["usefulness"]) for q in block_questions("usefulness", study.settings)]
        if of["usefulness"]
        else None,
        "reading": [_finding(study, q, of["reading"]) for q in block_questions("reading", study.settings)]
        if of["reading"]
        else None,
        "identity": _identity(study, of["identity"]) if of["identity"] else None,
    }


def _realism(study: Study, answers: list[Answer]) -> dict:
    first = [one for one in answers if one.trial.repeat_of is None]
    rng = seeded_rng(study.settings["seed"], "analysis", "realism")
    said_made = np.array([one.values["made"] == 1 for one in first])
    is_made = np.array([one.trial.version == RESULT for one in first])
    raters, patients = _groups(first)
    accuracy = _share(said_made == is_made, raters, patients, 0.5, rng)
    margin = study.settings["realism_margin"]
    low, high = resampling.mean_interval(said_made == is_made, raters, patients, rng, comparison.TOST_LEVEL)
    table, _ = _table(first, "made", RESULT)
    real, _ = _table(first, "made", ORIGINAL)
    return {
        "accuracy": accuracy,
        "margin": margin,
        "interval90": [low, high],
        "at_chance": bool(0.5 - margin < low and high < 0.5 + margin),
        "called_made": _share(said_made[is_made], raters[is_made], patients[is_made], 0.5, rng),
        "real_called_made": _share(said_made[~is_made], raters[~is_made], patients[~is_made], 0.5, rng),
        "d_prime": _d_prime(said_made, is_made) | {"interval": _d_interval(said_made, is_made, raters, patients, rng)},
        "each": [
            {
                "rater": rater,
                "accuracy": asdict(
                    detection.rate_against_chance(int((said_made == is_made)[mine].sum()), int(mine.sum()), 0.5)
                ),
                "d_prime": _d_prime(said_made[mine], is_made[mine]),
            }
            for rater in sorted(set(raters))
            for mine in [raters == rater]
        ],
        "agreement": {"result": _agreement(table, [0, 1], "nominal"), "original": _agreement(real, [0, 1], "nominal")},
        "intra": _intra(answers, "made", [0, 1], "nominal"),
        "unsure": float(np.mean([one.unsure for one in first])),
    }


def _d_prime(said: np.ndarray, made: np.ndarray) -> dict:
    return asdict(
        detection.d_prime(int((said & made).sum()), int(made.sum()), int((said & ~made).sum()), int((~made).sum()))
    )


def _d_interval(said, made, raters, patients, rng) -> list[float]:
    """95 % interval of the pooled d′, raters and patients drawn again."""
    found = []
    for weights in resampling.two_way_weights(raters, patients, rng, 1000):
        counts = [int(weights[kind].sum()) for kind in (said & made, made, said & ~made, ~made)]
        found.append(detection.d_prime(*counts).d_prime)
    return list(resampling.percentiles(np.array(found), 0.95))


def _likert(study: Study, question: Mapping, answers: list[Answer]) -> dict:
    first = [one for one in answers if one.trial.repeat_of is None]
    rng = seeded_rng(study.settings["seed"], "analysis", "usefulness", question["name"])
    values = np.array([one.values[question["name"]] for one in first]) + 1
    raters, patients = _groups(first)
    table, owners = _table(first, question["name"], RESULT)
    scale = list(range(len(question["answers"])))
    return {
        "name": question["name"],
        "text": question["text"],
        "answers": question["answers"],
        "counts": np.bincount(values - 1, minlength=len(scale)).tolist(),
        "n": len(values),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "interval": list(resampling.mean_interval(values, raters, patients, rng)),
        "agree": _share(values >= 4, raters, patients, None, rng),
        "agreement": _agreement(table, scale, "ordinal", owners, rng),
        "intra": _intra(answers, question["name"], scale, "ordinal"),
    }


def _finding(study: Study, question: Mapping, answers: list[Answer]) -> dict:
    name, scale = question["name"], question["scale"]
    first = [one for one in answers if one.trial.repeat_of is None]
    rng = seeded_rng(study.settings["seed"], "analysis", "reading", name)
    categories = list(range(len(question["answers"])))
    items = sorted({one.trial.photo for one in first})
    raters = sorted({one.trial.rater for one in first})
    owners = {one.trial.photo: one.trial.patient for one in first}
    patients = np.array([owners[item] for item in items])
    tables = {version: _fill(first, name, version, items, raters) for version in (ORIGINAL, RESULT)}
    original, result = tables[ORIGINAL], tables[RESULT]
    pairs = ~(np.isnan(original) | np.isnan(result))
    flat = original[pairs], result[pairs]
    tested = question["margin"] is not None
    cannot = {
        version: {
            "n": len(mine),
            "k": sum(one.values[name] is None for one in mine),
        }
        for version in (ORIGINAL, RESULT)
        for mine in [[one for one in first if one.trial.version == version]]
    }
    return {
        "name": name,
        "text": question["text"],
        "arm": question["arm"],
        "scale": scale,
        "answers": question["answers"],
        "cannot": cannot,
        "agreement": {
            version: _agreement(table, categories, scale, patients, rng) for version, table in tables.items()
        },
        "intra": _intra(answers, name, categories, scale),
        "between": {
            "pairs": int(pairs.sum()),
            "equal": float((flat[0] == flat[1]).mean()) if pairs.any() else math.nan,
            "kappa": agreement.weighted_kappa(*flat, np.array(categories), scale == "ordinal")
            if pairs.any()
            else math.nan,
            "interval": list(_kappa_interval(original, result, patients, categories, scale, rng))
            if pairs.any()
            else [math.nan] * 2,
        },
        "equivalence": asdict(comparison.equivalence(original, result, patients, question["margin"], rng))
        if tested
        else None,
    }


def _kappa_interval(original, result, patients, categories, scale, rng) -> tuple[float, float]:
    both = np.stack([original, result], axis=2)

    def kappa(drawn: np.ndarray) -> float:
        return agreement.weighted_kappa(
            drawn[..., 0].ravel(), drawn[..., 1].ravel(), np.array(categories), scale == "ordinal"
        )

    return resampling.item_interval(both, kappa, patients, rng)


def _identity(study: Study, answers: list[Answer]) -> dict:
    groups = {rater.name: rater.group for rater in study.raters}
    rng = seeded_rng(study.settings["seed"], "analysis", "identity")
    rates, differences, recognised = [], [], []
    for group in (PANEL, ACQUAINTED):
        mine = [one for one in answers if groups[one.trial.rater] == group]
        if not mine:
            continue
        right = np.array([one.values["pick"] == one.trial.right for one in mine])
        condition = np.array([one.trial.version for one in mine])
        same = np.array([one.trial.same_photo for one in mine])
        raters, patients = _groups(mine)
        for version in (RESULT, MOUTH):
            here = condition == version
            if not here.any():
                continue
            share = _share(right[here], raters[here], patients[here], 1 / N_CHOICES, rng)
            rates.append(
                {
                    "group": group,
                    "condition": version,
                    "accuracy": share,
                    "d_prime": detection.choice_d_prime(share["rate"], N_CHOICES),
                    "same_photo": {"k": int(right[here & same].sum()), "n": int((here & same).sum())},
                    "other_photo": {"k": int(right[here & ~same].sum()), "n": int((here & ~same).sum())},
                }
            )
        differences.append({"group": group, **_difference(right, condition, raters, patients, rng)})
        if group == ACQUAINTED:
            knew = np.array([one.values["recognised"] == 2 for one in mine])
            for version in (RESULT, MOUTH):
                here = condition == version
                if here.any():
                    recognised.append(
                        {
                            "condition": version,
                            "said_yes": _share(knew[here], raters[here], patients[here], None, rng),
                            "said_yes_and_right": int((knew & right)[here].sum()),
                        }
                    )
    return {"choices": N_CHOICES, "rates": rates, "differences": differences, "recognised": recognised}


def _difference(right, condition, raters, patients, rng) -> dict:
    """Share of right choices, whole result − mouth alone: what the new face adds to what the mouth gives away."""
    whole, mouth = condition == RESULT, condition == MOUTH
    if not (whole.any() and mouth.any()):
        return {"difference": math.nan, "interval": [math.nan, math.nan]}
    weights = resampling.two_way_weights(raters, patients, rng)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [(weights[:, here] @ right[here]) / weights[:, here].sum(axis=1) for here in (whole, mouth)]
    interval = resampling.percentiles(shares[0] - shares[1], 0.95)
    return {"difference": float(right[whole].mean() - right[mouth].mean()), "interval": list(interval)}


def _share(hits: np.ndarray, raters: np.ndarray, patients: np.ndarray, chance: float | None, rng) -> dict:
    """Count, share, its interval over raters and patients, the binomial one and p against chance."""
    plain = asdict(detection.rate_against_chance(int(hits.sum()), len(hits), 0.5 if chance is None else chance))
    low, high = resampling.mean_interval(hits, raters, patients, rng)
    if chance is None:
        plain |= {"chance": None, "p": None}
    # Raters and patients who all did the same have no spread to draw from; the binomial interval is then the wider one.
    return plain | {
        "binomial": [plain["low"], plain["high"]],
        "low": min(low, plain["low"]),
        "high": max(high, plain["high"]),
    }


def _agreement(
    table: np.ndarray, categories: list[int], scale: str, patients: np.ndarray | None = None, rng=None
) -> dict:
    """Agreement among raters on one version: (items, raters) with NaN; intervals of AC2 where patients are given."""
    ordered = scale == "ordinal"
    values = np.array(categories)
    found = {
        "items": int((~np.isnan(table)).any(axis=1).sum()),
        "percent": agreement.percent_agreement(table),
        "fleiss_kappa": agreement.fleiss_kappa(table),
        "gwet": agreement.gwet_ac(table, values, ordered),
        "gwet_name": "AC2" if ordered else "AC1",
        "alpha": agreement.krippendorff_alpha(table, "ordinal" if ordered else "nominal"),
        "icc_a1": agreement.icc_a1(table) if ordered else math.nan,
    }
    if patients is not None and len(table) > 1:
        low, high = resampling.item_interval(
            table, lambda drawn: agreement.gwet_ac(drawn, values, ordered), patients, rng
        )
        found["gwet_interval"] = [low, high]
    return found


def _intra(answers: list[Answer], name: str, categories: list[int], scale: str) -> dict:
    """Agreement of raters with themselves on repeated pictures of one version."""
    by_trial = {one.trial.id: one for one in answers}
    pairs = [
        (by_trial[one.trial.repeat_of].values[name], one.values[name])
        for one in answers
        if one.trial.repeat_of in by_trial
        and one.values[name] is not None
        and by_trial[one.trial.repeat_of].values[name] is not None
    ]
    first, second = np.array(pairs, float).reshape(-1, 2).T
    kappa = agreement.weighted_kappa(first, second, np.array(categories), scale == "ordinal") if pairs else math.nan
    return {"pairs": len(pairs), "equal": float((first == second).mean()) if pairs else math.nan, "kappa": kappa}


def _table(answers: list[Answer], name: str, version: str) -> tuple[np.ndarray, np.ndarray]:
    mine = [one for one in answers if one.trial.version == version]
    items = sorted({one.trial.photo for one in mine})
    owners = {one.trial.photo: one.trial.patient for one in mine}
    return _fill(mine, name, version, items, sorted({one.trial.rater for one in mine})), np.array(
        [owners[item] for item in items]
    )


def _fill(answers: list[Answer], name: str, version: str, items: list[str], raters: list[str]) -> np.ndarray:
    table = np.full((len(items), len(raters)), np.nan)
    row, column = {item: n for n, item in enumerate(items)}, {rater: n for n, rater in enumerate(raters)}
    for one in answers:
        if one.trial.version == version and one.values[name] is not None:
            table[row[one.trial.photo], column[one.trial.rater]] = one.values[name]
    return table


def _groups(answers: list[Answer]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([one.trial.rater for one in answers]), np.array([one.trial.patient for one in answers])


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
