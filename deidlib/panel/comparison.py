"""The same finding read on original and on result: differences, and whether they are small enough to be the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from statsmodels.stats.weightstats import ttost_paired

from deidlib.panel import resampling

#: Level of the interval that two one-sided tests at 5 % correspond to (Schuirmann 1987).
TOST_LEVEL = 0.90


@dataclass(frozen=True)
class Equivalence:
    """Mean difference result − original in steps of the scale, and two one-sided tests of it.

    ``p`` is the larger p of the two tests, with the items' means over raters as the units. ``low`` and ``high`` are the
    90 % interval with raters and patients drawn again. ``equivalent`` needs both: p below 0.05, and the interval
    inside ±``margin``.
    """

    n_items: int
    n_pairs: int
    difference: float
    low: float
    high: float
    margin: float
    p: float
    equivalent: bool | None


def equivalence(
    original: np.ndarray, result: np.ndarray, patients: np.ndarray, margin: float, rng: np.random.Generator
) -> Equivalence:
    """Test whether results are read as originals are, within ±margin (TOST).

    Parameters
    ----------
    original, result : ndarray, (items, raters), float
        Answers on the two versions; NaN: no answer.
    patients : ndarray, (items,)
        Patient of each item: what is drawn again.
    margin : float
        Largest mean difference, in steps of the scale, that has no clinical meaning; stated before the study.
    rng : Generator
        Draws the interval.
    """
    differences = result - original
    answered = ~np.isnan(differences)
    n_pairs = int(answered.sum())
    per_item = np.array([row[~np.isnan(row)].mean() for row in differences if not np.isnan(row).all()])
    nan = float("nan")
    if n_pairs == 0:
        return Equivalence(0, 0, nan, nan, nan, margin, nan, None)
    items, raters = np.nonzero(answered)
    values = differences[answered]
    low, high = resampling.mean_interval(values, raters, patients[items], rng, TOST_LEVEL)
    if len(per_item) < 2:
        return Equivalence(len(per_item), n_pairs, float(values.mean()), low, high, margin, nan, None)
    if np.ptp(per_item) == 0:  # no spread: the t test has no denominator
        p = 0.0 if abs(per_item[0]) < margin else 1.0
    else:
        p = float(ttost_paired(per_item, np.zeros(len(per_item)), -margin, margin)[0])
    inside = bool(-margin < low and high < margin and p < 0.05)
    return Equivalence(len(per_item), n_pairs, float(values.mean()), low, high, margin, p, inside)
