"""One attack's result: a rate with its count, its chance level and a 95 % interval over patients.

Every attack of the suite, whatever it does, ends in :class:`Attack` objects; ``attacks.json`` and the audit list
them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from scipy.stats import beta

REGIONS = ("whole", "region_only", "context_only")
#: Resamples of the bootstrap; the 2.5th percentile then rests on 50 of them.
RESAMPLES = 2000
#: Of more patients the bootstrap draws how many there are of each kind, since single draws would take minutes.
DRAWN_ONE_BY_ONE = 2000
#: The bootstrap is trusted where at least so many patients have a hit, and so many a miss.
FEW_PATIENTS = 5


@dataclass(frozen=True)
class Tried:
    """The trials of an attack, one by one, for comparison with another attack on the same photographs.

    Attributes
    ----------
    photos, patients : ndarray, (N,), str
        The photograph of each trial, and its patient.
    hits : ndarray, (N,), bool
        Whether the attack succeeded.
    chance : ndarray, (N,), or None
        Probability that it succeeds by chance.
    """

    photos: np.ndarray
    patients: np.ndarray
    hits: np.ndarray
    chance: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.photos)


@dataclass(frozen=True)
class Attack:
    """How often an attack succeeded.

    Attributes
    ----------
    name, title : str
        Name for programs (snake case) and for readers.
    recogniser : str or None
        The recogniser that the attacker used; None where the attack needs none.
    region : str
        The part of the released photograph that the attacker saw: ``whole``, ``region_only`` (the preserved area alone)
        or ``context_only`` (everything but the preserved area).
    rate : float or None
        ``hits / trials``; None where nothing could be tried.
    hits, trials : int
        Successes and trials.
    chance : float or None
        The rate of an attacker who knows nothing of the photographs; None where that has no meaning.
    ci95 : tuple of float
        95 % interval of the rate (:func:`interval`).
    threshold : float or None
        Score at which the recogniser says "the same person"; None where the attack ranks instead.
    fmr : float or None
        False match rate at which ``threshold`` was calibrated.
    intended : bool
        The release is meant to allow this (photographs of one patient stay together under ``per_patient``).
    explanation : str
        What was done and what the rate means, in plain words.
    patients : int
        Number of patients in the trials.
    drawn_from : int or None
        Number of patients whom ``patients`` were drawn from; None where all were tried who could be.
    tried : Tried or None
        The trials one by one, where the gate compares them; not part of the JSON form.
    """

    name: str
    title: str
    recogniser: str | None
    region: str
    rate: float | None
    hits: int
    trials: int
    chance: float | None
    ci95: tuple[float, float]
    threshold: float | None = None
    fmr: float | None = None
    intended: bool = False
    explanation: str = ""
    patients: int = 0
    drawn_from: int | None = None
    tried: Tried | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        if self.region not in REGIONS:
            raise ValueError(f"region {self.region!r} is none of {', '.join(REGIONS)}")
        if not 0 <= self.hits <= self.trials:
            raise ValueError(f"{self.name}: {self.hits} hits in {self.trials} trials cannot be")

    def as_json(self) -> dict[str, Any]:
        """JSON form, an entry of ``attacks`` in ``attacks.json``."""
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "tried"}
        if self.drawn_from is None:
            del named["drawn_from"]
        return named | {"ci95": list(self.ci95)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Attack:
        """Inverse of :meth:`as_json`; an unknown or missing key is a ``TypeError``."""
        return cls(**{**entry, "ci95": tuple(entry["ci95"])})


def attack_from_trials(
    successes: Sequence[bool], patients: Sequence[Hashable], rng: np.random.Generator, **about: Any
) -> Attack:
    """Build the :class:`Attack` of a list of trials.

    Parameters
    ----------
    successes : sequence of bool
        Whether each trial succeeded.
    patients : sequence
        The patient of each trial.
    rng : Generator
        For the bootstrap.
    about
        The remaining fields of :class:`Attack`: name, title, recogniser, region, chance, threshold, tried, …
    """
    hits, trials = int(np.sum(successes)) if len(successes) else 0, len(successes)
    patients = _names(patients)
    known = {one.name for one in fields(Attack)} - {"rate", "hits", "trials", "ci95", "patients"}
    if unknown := set(about) - known:
        raise TypeError(f"an attack has no field {sorted(unknown)}")
    return Attack(
        rate=hits / trials if trials else None,
        hits=hits,
        trials=trials,
        ci95=interval(successes, patients, rng),
        patients=len(np.unique(patients)),
        **about,
    )


def learned_on_some(attack: Attack, drawn_from: int, photographs: int) -> Attack:
    """Say of how many patients those of an attack were drawn, and which: those with so many photographs at most."""
    words = (
        f" Learned on and tried on {attack.patients:,} of {drawn_from:,} patients: of a large cohort, those with the "
        f"first {photographs:,} photographs in the random order of their pseudonyms."
    )
    return replace(attack, drawn_from=drawn_from, explanation=f"{attack.explanation.rstrip()}{words}")


def interval(successes: Sequence[bool], patients: Sequence[Hashable], rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of a rate over photographs, from a bootstrap over patients.

    Photographs of one patient succeed or fail together, so patients and not photographs are drawn with
    replacement (percentile interval of :data:`RESAMPLES` draws). Where fewer than :data:`FEW_PATIENTS` patients
    have a hit, or a miss, the bootstrap hardly varies or not at all (0 of 13 would give 0 to 0); the interval is
    then Clopper and Pearson's, with one trial a patient.

    Parameters
    ----------
    successes : sequence of bool
        Whether each trial succeeded.
    patients : sequence
        The patient of each trial.
    rng : Generator
        For the bootstrap.

    Returns
    -------
    tuple of float
        Lower and upper end; (0, 1) where there was no trial.
    """
    hit = np.asarray(successes, dtype=bool)
    if not len(hit):
        return 0.0, 1.0
    _, group = np.unique(_names(patients), return_inverse=True)
    trials = np.bincount(group).astype(np.int64)
    hits = np.bincount(group, weights=hit).astype(np.int64)
    if min((hits > 0).sum(), (hits < trials).sum()) < FEW_PATIENTS:
        return clopper_pearson(hits.sum() / trials.sum() * len(trials), len(trials))
    resampled = _by_person if len(trials) <= DRAWN_ONE_BY_ONE else _by_kind
    low, high = np.percentile(resampled(hits, trials, rng), [2.5, 97.5])
    return float(low), float(high)


def _names(patients: Sequence[Hashable]) -> np.ndarray:
    return np.asarray(patients if isinstance(patients, np.ndarray) else list(patients), str)


def _by_person(hits: np.ndarray, trials: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rates of the bootstrap's samples: every patient of each is drawn."""
    rates = []
    at_once = max(1, 10**6 // len(trials))
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.integers(len(trials), size=(min(at_once, RESAMPLES - start), len(trials)))
        rates.append(hits[drawn].sum(axis=1) / trials[drawn].sum(axis=1))
    return np.concatenate(rates)


def _by_kind(hits: np.ndarray, trials: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same distribution: of patients with equal hits and trials, only how many are drawn matters."""
    kinds, count = np.unique(np.stack([hits, trials]), axis=1, return_counts=True)
    drawn = rng.multinomial(len(trials), count / len(trials), size=RESAMPLES)
    return (drawn @ kinds[0]) / (drawn @ kinds[1])


def clopper_pearson(hits: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial rate (Clopper and Pearson 1934), by quantiles of the beta distribution.

    Parameters
    ----------
    hits, trials : float
        Successes and tries; a clustered sample may pass an effective, fractional count.
    level : float
        Coverage.
    """
    if not (0 <= hits <= trials and math.isfinite(trials)):
        raise ValueError(f"{hits} hits in {trials} trials cannot be")
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high
