"""Agreement among raters, from arrays: items in rows, raters in columns, NaN where a rater gave no answer.

Fleiss' kappa and Cohen's weighted kappa are those of statsmodels. Gwet's AC1/AC2, Krippendorff's alpha and ICC(A,1)
are implemented here, because the libraries that have them are under unsuitable licences or pin old versions.
"""

from __future__ import annotations

import numpy as np
from statsmodels.stats import inter_rater

SCALES = ("nominal", "ordinal", "interval")


def percent_agreement(ratings: np.ndarray) -> float:
    """Share of pairs of raters that gave one item the same answer, in the mean over items with two answers.

    Parameters
    ----------
    ratings : ndarray, (items, raters), float
        NaN: no answer.

    Returns
    -------
    float
        0 to 1; NaN where no item has two answers.
    """
    return _observed(_counts(ratings), None)


def fleiss_kappa(ratings: np.ndarray) -> float:
    """Fleiss' kappa (Fleiss 1971), by statsmodels.

    It needs the same number of answers for each item, not the same raters. Only items with the most frequent number of
    answers count. NaN where that is less than two, or where all answers are the same.
    """
    counts = _counts(ratings)
    totals = counts.sum(axis=1).astype(int)
    frequent = np.bincount(totals[totals >= 2], minlength=1)
    counts = counts[(totals >= 2) & (totals == frequent.argmax())]
    if not len(counts) or np.count_nonzero(counts.sum(axis=0)) < 2:
        return float("nan")
    return float(inter_rater.fleiss_kappa(counts))


def gwet_ac(ratings: np.ndarray, categories: np.ndarray, weighted: bool = True) -> float:
    """Gwet's AC2 with quadratic weights, or AC1 without weights (Gwet 2008; Gwet 2014, chapter 5).

    Agreement is over items with two or more answers, chance over items with at least one; missing answers are allowed.

    Parameters
    ----------
    ratings : ndarray, (items, raters), float
        NaN: no answer.
    categories : ndarray, (q,)
        Every answer that the scale allows, also those that nobody gave.
    weighted : bool
        True for an ordered scale (AC2), False for a nominal one (AC1).
    """
    counts = _counts(ratings, categories)
    weights = quadratic_weights(categories) if weighted else np.eye(len(categories))
    observed = _observed(counts, weights)
    totals = counts.sum(axis=1)
    rated = counts[totals > 0] / totals[totals > 0, None]
    q = len(categories)
    if not len(rated) or q < 2:
        return float("nan")
    prevalence = rated.mean(axis=0)
    chance = weights.sum() / (q * (q - 1)) * (prevalence * (1 - prevalence)).sum()
    return float((observed - chance) / (1 - chance))


def quadratic_weights(categories: np.ndarray) -> np.ndarray:
    """Weights 1 − (i − j)²/range², (q, q)."""
    values = np.asarray(categories, float)
    span = np.ptp(values)
    return 1 - ((values[:, None] - values[None, :]) / span) ** 2 if span else np.ones((len(values), len(values)))


def krippendorff_alpha(ratings: np.ndarray, scale: str) -> float:
    """Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").

    Parameters
    ----------
    ratings : ndarray, (items, raters), float
        NaN: no answer.
    scale : str
        One of :data:`SCALES`.

    Returns
    -------
    float
        NaN where fewer than two answers can be paired, or where all pairable answers are equal.
    """
    counts = _counts(ratings)
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return float("nan")
    totals = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    coincidences = (pairs / (totals - 1)[:, None, None]).sum(axis=0)
    margins = coincidences.sum(axis=0)
    distance = _distance(np.unique(ratings[~np.isnan(ratings)]), margins, scale)
    expected = (np.outer(margins, margins) * distance).sum() / (margins.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected) if expected > 0 else float("nan")


def _distance(values: np.ndarray, margins: np.ndarray, scale: str) -> np.ndarray:
    if scale == "nominal":
        return 1.0 - np.eye(len(values))
    if scale == "interval":
        return (values[:, None] - values[None, :]) ** 2
    if scale != "ordinal":
        raise ValueError(f"scale {scale!r} is not one of {', '.join(SCALES)}")
    reached = np.cumsum(margins) - margins / 2  # rank of a category's middle
    return (reached[:, None] - reached[None, :]) ** 2


def icc_a1(ratings: np.ndarray) -> float:
    """ICC(A,1): absolute agreement of single raters, two-way random effects (McGraw & Wong 1996).

    Shrout & Fleiss (1979) call it ICC(2,1). Over the items that every rater answered; NaN where fewer than two items or
    two raters are left, or where nothing varies.
    """
    full = ratings[~np.isnan(ratings).any(axis=1)]
    n, k = full.shape
    if n < 2 or k < 2:
        return float("nan")
    mean = full.mean()
    between_items = k * ((full.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    between_raters = n * ((full.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    residual = full - full.mean(axis=1, keepdims=True) - full.mean(axis=0, keepdims=True) + mean
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    total = between_items + (k - 1) * error + k * (between_raters - error) / n
    return float((between_items - error) / total) if total > 0 else float("nan")


def weighted_kappa(first: np.ndarray, second: np.ndarray, categories: np.ndarray, weighted: bool = True) -> float:
    """Cohen's kappa of paired answers, with quadratic weights or without, by statsmodels.

    Parameters
    ----------
    first, second : ndarray, (n,)
        Answers in pairs; pairs with a NaN do not count.
    categories : ndarray, (q,)
        Every answer that the scale allows, in order.
    weighted : bool
        Quadratic weights (an ordered scale), else none.

    Returns
    -------
    float
        NaN where there is no pair, or where all answers are the same.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    table = np.zeros((len(categories), len(categories)))
    np.add.at(table, (_places(first[both], categories), _places(second[both], categories)), 1)
    margins = table.sum(axis=0), table.sum(axis=1)
    if not table.sum() or (all(np.count_nonzero(margin) == 1 for margin in margins) and table.trace() == table.sum()):
        return float("nan")
    kind = {"wt": "quadratic"} if weighted else {}
    return float(inter_rater.cohens_kappa(table, return_results=False, **kind))


def _places(values: np.ndarray, categories: np.ndarray) -> np.ndarray:
    places = np.searchsorted(categories, values)
    if len(values) and not np.array_equal(np.asarray(categories)[np.minimum(places, len(categories) - 1)], values):
        raise ValueError("an answer is none of the categories")
    return places


def _counts(ratings: np.ndarray, categories: np.ndarray | None = None) -> np.ndarray:
    """How many raters gave each answer: (items, q)."""
    if categories is None:
        categories = np.unique(ratings[~np.isnan(ratings)])
    return (ratings[:, :, None] == np.asarray(categories, float)).sum(axis=1).astype(float)


def _observed(counts: np.ndarray, weights: np.ndarray | None) -> float:
    weights = np.eye(counts.shape[1]) if weights is None else weights
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return float("nan")
    totals = counts.sum(axis=1)
    agreeing = (counts * (counts @ weights - 1)).sum(axis=1)
    return float((agreeing / (totals * (totals - 1))).mean())
