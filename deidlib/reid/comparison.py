"""Exact tests whether a released picture gives away more than the preserved area and the look do.

Every test is over patients, since photographs of one patient succeed or fail together. Two questions are asked of an
attack, and a release fails if the answer to both is yes:

a. Does the whole picture betray more patients than the preserved area alone does in the same search? A one-sided
   sign-flip test of the differences between a patient's two rates; where every patient has one photograph it is
   McNemar's exact test (McNemar 1947, Psychometrika 12:153).
b. Is the patient found more often than by chance among people of the same look? A one-sided test by the
   Poisson-binomial distribution, a patient being one try.

The p value of a comparison is the larger of the two (intersection-union test, Berger 1982, Technometrics 24:295).
Holm's correction (1979, Scand. J. Statist. 6:65) keeps the probability that a release which gives away nothing fails
below :data:`ALPHA` over all comparisons together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import binom, poisson_binom

from deidlib.reid.attack import Tried

#: Probability that a release which gives away no more than the area and the look fails all the same.
ALPHA = 0.05
#: A comparison passes only if the cohort would have shown so large a share of further patients, with this probability.
EXCESS, POWER = 0.2, 0.8
#: Draws of the sign-flip test where patients have several photographs.
_FLIPS = 100_000
_MOST_PATIENTS = 5_000


@dataclass(frozen=True)
class Comparison:
    """One attack by one recogniser, compared with the preserved area alone and with people of the same look.

    Attributes
    ----------
    attack, recogniser : str
        Names.
    photographs, patients : int
        Numbers of photographs and patients that were tried.
    whole, area : int
        Photographs whose patient is in first place: by the whole picture, and by the preserved area alone.
    look, look_expected : float
        Photographs whose patient is first among people of the same look, and the number expected by chance.
    p_area, p_look : float
        P values of the two tests.
    """

    attack: str
    recogniser: str
    photographs: int
    patients: int
    whole: int
    area: int
    look: int
    look_expected: float
    p_area: float
    p_look: float

    @property
    def p(self) -> float:
        """P value of both tests together: the larger one."""
        return max(self.p_area, self.p_look)


def compare(
    attack: str, recogniser: str, whole: Tried, area: Tried, look: Tried, rng: np.random.Generator
) -> Comparison:
    """Compare one attack's trials with those on the area alone and those among people of the same look.

    Parameters
    ----------
    attack, recogniser : str
        Names.
    whole, area, look : Tried
        Trials of the three searches. A photograph that could be tried by the whole picture alone counts as not found by
        the area, and is left out of the look.
    rng : Generator
        Random state of the sign-flip test.
    """
    by_area = dict(zip(area.photos.tolist(), area.hits.tolist(), strict=True))
    found_by_area = np.array([by_area.get(photo, False) for photo in whole.photos.tolist()], bool)
    return Comparison(
        attack,
        recogniser,
        len(whole.photos),
        len(np.unique(whole.patients)),
        int(whole.hits.sum()),
        int(found_by_area.sum()),
        int(look.hits.sum()),
        float(np.sum(look.chance)) if look.chance is not None else 0.0,
        more_than_area(whole.patients, whole.hits, found_by_area, rng),
        more_than_chance(look.patients, look.hits, look.chance),
    )


def _by_patient(patients: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Mean of each value over a patient's photographs, a value a patient."""
    _, place = np.unique(patients, return_inverse=True)
    count = np.bincount(place)
    return [np.bincount(place, weights=np.asarray(value, float)) / count for value in values]


def more_than_area(patients: np.ndarray, whole: np.ndarray, area: np.ndarray, rng: np.random.Generator) -> float:
    """P value of a one-sided sign-flip test that ``whole`` hits more than ``area`` on the same photographs.

    Parameters
    ----------
    patients : ndarray, (N,)
        Whose photograph each is.
    whole, area : ndarray, (N,), bool
        Whether each way found the patient.
    rng : Generator
        Draws the flips where patients have several photographs; with one each the result is exact.
    """
    if not len(patients):
        return 1.0
    rates = _by_patient(patients, whole, area)
    difference = rates[0] - rates[1]
    sizes, counts = np.unique(np.round(np.abs(difference[difference != 0]), 9), return_counts=True)
    if not len(sizes):
        return 1.0
    total = float(difference.sum())
    if len(sizes) == 1:
        wins = int((difference > 0).sum())
        return float(binom.sf(wins - 1, int(counts[0]), 0.5))
    drawn = sum(
        size * (2 * rng.binomial(count, 0.5, _FLIPS) - count) for size, count in zip(sizes, counts, strict=True)
    )
    return float((1 + np.count_nonzero(drawn >= total - 1e-6)) / (_FLIPS + 1))


def more_than_chance(patients: np.ndarray, hits: np.ndarray, chance: np.ndarray | None) -> float:
    """P value of a one-sided test that there are more hits than each trial's chance explains.

    A patient is one trial, whose chance is the mean over the patient's photographs; a fractional number of hits is
    rounded down. For very many patients the binomial distribution at the mean chance is used, which is wider.
    """
    if not len(patients) or chance is None:
        return 1.0
    found, expected = _by_patient(patients, hits, chance)
    if len(expected) > _MOST_PATIENTS or np.ptp(expected) < 1e-9:
        return float(binom.sf(np.floor(found.sum() + 1e-9) - 1, len(expected), expected.mean()))
    return float(np.clip(poisson_binom.sf(np.floor(found.sum() + 1e-9) - 1, expected), 0, 1))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P values adjusted by Holm's step-down procedure, in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    steps = (len(p) - np.arange(len(p))) * p[order]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps)) if len(p) else []
    return adjusted


@cache
def fewest_patients(comparisons: int, look_chance: float = 0.2) -> int:
    """Smallest number of patients with which a comparison can pass.

    With this number, a method whose pictures betray :data:`EXCESS` of the patients beyond area and look fails with the
    probability :data:`POWER`, at the strictest step of Holm's correction.

    Parameters
    ----------
    comparisons : int
        Number of all comparisons.
    look_chance : float
        Chance among people of the same look.
    """
    alpha = ALPHA / max(comparisons, 1)
    fewest_found = int(np.ceil(-np.log2(alpha)))
    n = fewest_found
    while True:
        needed = int(binom.isf(alpha, n, look_chance)) + 1
        by_area = binom.sf(fewest_found - 1, n, EXCESS)
        by_look = binom.sf(needed - 1, n, min(1.0, look_chance + EXCESS))
        if min(by_area, by_look) >= POWER:
            return n
        n += 1


def fewest_to_fail(comparisons: int) -> int:
    """Smallest number of patients with which a comparison can fail at all: all of them found, none by the area."""
    return int(np.ceil(-np.log2(ALPHA / max(comparisons, 1))))
