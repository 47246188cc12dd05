"""Numbers of the audit, gathered shard after shard; no original id, path or sheet cell is kept."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binomtest

from deidlib.checks.smile import MEASURES
from deidlib.contract.checks import LIKENESS, TABLE, WITHOUT_FACE, holds, keeps_bound
from deidlib.contract.routes import GENERATE, most_faces
from deidlib.outcomes.outcomes import Outcome

#: Judges of recognisability: column → (name, measure, bound's option, published threshold, source).
JUDGES = {
    "sface_cosine": (
        "SFace",
        "cosine similarity",
        "sface_max",
        0.363,
        "published by OpenCV for this network, chosen on the LFW benchmark",
    ),
    "dlib_distance": (
        "dlib",
        "Euclidean distance",
        "dlib_min",
        0.6,
        "published by dlib for this network, chosen on the LFW benchmark",
    ),
}
#: Name → check, of those that apply where there is a generated face; and of those that do not.
CHECKS = {check.name: check for check in TABLE if GENERATE in check.routes}
FACELESS_CHECKS = {check.name: check for check in TABLE if GENERATE not in check.routes}
#: Width of the classes in which a measure is published. Somebody with the originals could identify a photograph by its
#: exact number.
CLASSES = {
    "sface_cosine": 0.02,
    "dlib_distance": 0.02,
    "survival": 0.02,
    "second_face": 0.05,
    "seam": 0.05,
    "mouth_shift": 0.5,
    "latent_distance": 0.025,
    "realism": 0.5,
}
#: In a list of values: the check does not apply to this photograph, so it counts nowhere.
NOT_APPLICABLE = "not applicable"


@dataclass
class Tally:
    """Counts and values over all outcomes.

    Attributes
    ----------
    photographs, core_pixels : int
        Photographs of the sheet; pixels of all released ones that are the patients' own.
    reasons, views, routes, methods, attempts : Counter
        Quarantined photographs by reason; released ones by view, route, preserved area and attempt.
    judged : Counter
        Photographs that each attempt's checks saw.
    patients, released_patients : set of str
        Patient pseudonyms.
    lost : Counter
        Quarantined photographs by step (:data:`deidlib.outcomes.outcomes.STEPS`) and reason.
    smile : dict
        Measure → (source, result) of each released photograph, in the order of ``released_ids``.
    digests : list of str
        SHA-256 of the released image files that were judged, in the order of ``released_ids``.
    released : dict
        Check → its value for each released photograph (None: not run; or ``NOT_APPLICABLE``), in the order of
        ``released_ids``.
    faceless : dict
        Check → its values for the released photographs without a generated face, in the same way.
    first, stopped : dict
        Judge → values of the first attempt of every judged photograph; of every try that was not released.
    """

    photographs: int = 0
    core_pixels: int = 0
    reasons: Counter = field(default_factory=Counter)
    lost: Counter = field(default_factory=Counter)
    views: Counter = field(default_factory=Counter)
    routes: Counter = field(default_factory=Counter)
    methods: Counter = field(default_factory=Counter)
    attempts: Counter = field(default_factory=Counter)
    judged: Counter = field(default_factory=Counter)
    failed_checks: Counter = field(default_factory=Counter)
    patients: set[str] = field(default_factory=set)
    released_patients: set[str] = field(default_factory=set)
    released_ids: list[str] = field(default_factory=list)
    digests: list[str | None] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    released: dict[str, list] = field(default_factory=lambda: {name: [] for name in CHECKS})
    faceless: dict[str, list] = field(default_factory=lambda: {name: [] for name in FACELESS_CHECKS})
    smile: dict[str, list] = field(default_factory=lambda: {name: [] for name in MEASURES})
    first: dict[str, list] = field(default_factory=lambda: {name: [] for name in JUDGES})
    first_owners: list[str] = field(default_factory=list)
    stopped: dict[str, list] = field(default_factory=lambda: {name: [] for name in JUDGES})


def add(tally: Tally, outcome: Outcome) -> None:
    """Add what became of one photograph."""
    photo = outcome.photo
    patient = photo["release_patient_id"]
    tally.photographs += 1
    tally.patients.add(patient)
    for row in outcome.tries:
        tally.judged[row["attempt"]] += 1
        tally.failed_checks.update(row["failed"] or [])
        if row["attempt"] != outcome.attempt:
            for name in JUDGES:
                tally.stopped[name].append(_value(row, name))
    if outcome.tries:
        tally.first_owners.append(patient)
        for name in JUDGES:
            tally.first[name].append(_value(outcome.tries[0], name))
    if outcome.attempt is None:
        tally.reasons[outcome.reason] += 1
        tally.lost[outcome.held_at, outcome.reason] += 1
        return
    tally.released_ids.append(photo["release_photo_id"])
    tally.core_pixels += outcome.region["core_pixels"] or 0
    tally.digests.append(outcome.check["sha256"])
    tally.owners.append(patient)
    tally.released_patients.add(patient)
    tally.views[photo["view"] or "not stated"] += 1
    tally.routes[outcome.check["route"] or GENERATE] += 1
    tally.methods[outcome.region["method"]] += 1
    tally.attempts[outcome.attempt] += 1
    faceless = outcome.check["route"] in WITHOUT_FACE
    for name in CHECKS:  # how many faces there may be depends on the route
        apart = faceless and name in FACELESS_CHECKS
        tally.released[name].append(NOT_APPLICABLE if apart else _value(outcome.check, name))
    if faceless:
        licensed = most_faces(outcome.region["method"]) > 0  # its recognisers' scores decide
        for name in FACELESS_CHECKS:
            apart = licensed and name.startswith("faces_")
            tally.faceless[name].append(NOT_APPLICABLE if apart else _value(outcome.check, name))
    for name in MEASURES:
        pair = (_number(outcome.check[f"{name}_source"]), _number(outcome.check[f"{name}_result"]))
        tally.smile[name].append(pair)


def applicable(values: list) -> list:
    """Values of the photographs to which the check applies."""
    return [value for value in values if value != NOT_APPLICABLE]


def rate(count: int, n: int) -> dict:
    """Give a count with its rate and its Wilson 95 % interval; the rate is null where ``n`` is 0."""
    if n == 0:
        return {"count": 0, "n": 0, "rate": None, "low": None, "high": None}
    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    low, high = max(0.0, interval.low), min(1.0, interval.high)
    return {"count": count, "n": n, "rate": round(count / n, 6), "low": round(low, 6), "high": round(high, 6)}


def summary(values: list, check: str, thresholds: dict) -> dict:
    """Count; smallest, median and largest number, in classes; how many were not run or are beyond the threshold."""
    values = applicable(values)
    numbers = [value for value in values if value is not None]
    beyond = sum(1 for value in numbers if not _within(check, value, thresholds))
    some = bool(numbers)
    return {
        "n": len(numbers),
        "not_run": len(values) - len(numbers),
        "min": coarse(check, min(numbers)) if some else None,
        "median": coarse(check, float(np.median(numbers))) if some else None,
        "max": coarse(check, max(numbers)) if some else None,
        "beyond": rate(beyond, len(numbers)),
    }


def coarse(check: str, value: float) -> float:
    """Nearest multiple of the class width of a check (:data:`CLASSES`)."""
    return round(round(value / CLASSES[check]) * CLASSES[check], 6)


def _within(check: str, value: float, thresholds: dict) -> bool:
    """Whether a value keeps its bound; for a recogniser's score its threshold, whatever the margin of the check."""
    kept = keeps_bound if check in LIKENESS else holds
    return kept(CHECKS[check], value, thresholds)


def judge_numbers(tally: Tally, check: str, thresholds: dict) -> dict:
    """Everything about one judge: released photographs and patients, and first attempts before the gate."""
    name, measure, key, published, source = JUDGES[check]
    return {
        "name": name,
        "measure": measure,
        "threshold": thresholds.get(key),
        "threshold_published": published,
        "threshold_source": source,
        "released": summary(tally.released[check], check, thresholds),
        "released_patients_beyond": _by_patient(tally.released[check], tally.owners, check, thresholds),
        "first_attempt": summary(tally.first[check], check, thresholds),
        "first_attempt_patients_beyond": _by_patient(tally.first[check], tally.first_owners, check, thresholds),
        "histogram": {
            name: histogram(values[check], origin=thresholds.get(key) or 0.0)
            for name, values in (("released", tally.released), ("stopped", tally.stopped))
        },
    }


def histogram(values: list, width: float = 0.02, origin: float = 0.0) -> list[list[float]]:
    """Count in classes of ``width``: [lower edge, count], empty classes left out, in ascending order.

    ``origin`` is an edge: with the threshold for it, no class lies on both sides.
    """
    numbers = [value for value in applicable(values) if value is not None]
    counts = Counter(math.floor((value - origin) / width + 1e-9) for value in numbers)
    return [[round(origin + number * width, 4), counts[number]] for number in sorted(counts)]


def _by_patient(values: list, owners: list[str], check: str, thresholds: dict) -> dict:
    scored = [(v, o) for v, o in zip(values, owners, strict=True) if v is not None and v != NOT_APPLICABLE]
    judged = {owner for _, owner in scored}
    beyond = {owner for value, owner in scored if not _within(check, value, thresholds)}
    return rate(len(beyond), len(judged))


def _value(check: dict, name: str):
    return NOT_APPLICABLE if name in (check["not_applicable"] or ()) else _number(check[name])


def _number(value):
    """Give a check's value; NaN and infinity are "not run"."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
