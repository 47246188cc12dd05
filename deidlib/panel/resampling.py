"""Intervals that generalise to other raters and patients: both are resampled (the pigeonhole bootstrap, Owen 2007).

A binomial interval assumes independent answers. Answers of one rater, and answers on one patient, are not independent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

REPETITIONS = 2000


def two_way_weights(
    raters: np.ndarray, clusters: np.ndarray, rng: np.random.Generator, repetitions: int = REPETITIONS
) -> np.ndarray:
    """How often each answer counts in each repetition: how often its rater times how often its cluster was drawn.

    Parameters
    ----------
    raters, clusters : ndarray, (n,)
        Rater and cluster (patient) of each answer.
    rng : Generator
        What draws.
    repetitions : int
        How often.

    Returns
    -------
    ndarray, (repetitions, n), int64
    """
    return _drawn(raters, rng, repetitions) * _drawn(clusters, rng, repetitions)


def _drawn(groups: np.ndarray, rng: np.random.Generator, repetitions: int) -> np.ndarray:
    names, places = np.unique(groups, return_inverse=True)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=repetitions)
    return counts[:, places]


def mean_interval(
    values: np.ndarray,
    raters: np.ndarray,
    clusters: np.ndarray,
    rng: np.random.Generator,
    level: float = 0.95,
    repetitions: int = REPETITIONS,
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values``, raters and clusters drawn again."""
    if not len(values):
        return float("nan"), float("nan")
    weights = two_way_weights(raters, clusters, rng, repetitions)
    total = weights.sum(axis=1)
    means = (weights @ np.asarray(values, float))[total > 0] / total[total > 0]
    return percentiles(means, level)


def item_interval(
    ratings: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    clusters: np.ndarray,
    rng: np.random.Generator,
    level: float = 0.95,
    repetitions: int = 500,
) -> tuple[float, float]:
    """Percentile interval of a coefficient over an (items, raters) array, clusters of items drawn again.

    Raters are kept: a rater drawn twice would agree with himself.
    """
    names = np.unique(clusters)
    of = {name: np.flatnonzero(clusters == name) for name in names}
    found = []
    for _ in range(repetitions):
        drawn = rng.choice(names, len(names))
        found.append(statistic(ratings[np.concatenate([of[name] for name in drawn])]))
    return percentiles(np.array(found), level)


def percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    """Middle ``level`` of the values that are numbers; NaN where fewer than half are."""
    values = values[np.isfinite(values)] if np.isfinite(values).mean() > 0.5 else values[:0]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
