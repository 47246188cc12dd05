"""Signal detection: how well raters tell two kinds of picture apart, or find one picture among several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import integrate, optimize, stats
from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class Rate:
    """A share with its count and a 95 % interval; ``p`` is of the two-sided test against ``chance``."""

    k: int
    n: int
    rate: float
    low: float
    high: float
    chance: float
    p: float


def rate_against_chance(k: int, n: int, chance: float) -> Rate:
    """Share k of n with the Wilson interval, tested exactly (binomial) against chance.

    Items and raters are taken for independent; where they are not, :mod:`deidlib.panel.resampling` has the interval.
    """
    if n == 0:
        nan = float("nan")
        return Rate(0, 0, nan, nan, nan, chance, nan)
    low, high = proportion_confint(k, n, method="wilson")
    return Rate(k, n, k / n, float(low), float(high), chance, float(stats.binomtest(k, n, chance).pvalue))


@dataclass(frozen=True)
class Sensitivity:
    """d′ of yes/no answers with its 95 % interval, and the criterion c (0: no leaning to either answer)."""

    d_prime: float
    low: float
    high: float
    criterion: float


def d_prime(hits: int, signals: int, false_alarms: int, noises: int, corrected: bool = True) -> Sensitivity:
    """Sensitivity d′ = z(hit rate) − z(false-alarm rate) (Macmillan & Creelman 2005).

    The interval is normal with the variance of Gourevitch & Galanter (1967).

    Parameters
    ----------
    hits, signals : int
        Generated pictures called generated, of how many.
    false_alarms, noises : int
        Real pictures called generated, of how many.
    corrected : bool
        Add half a picture to each count and one to each number (Hautus 1995), so that rates of 0 and 1 have a d′.
    """
    if not signals or not noises:
        return Sensitivity(*[float("nan")] * 4)
    add = 0.5 if corrected else 0.0
    hit_rate, alarm_rate = (hits + add) / (signals + 2 * add), (false_alarms + add) / (noises + 2 * add)
    z_hit, z_alarm = stats.norm.ppf([hit_rate, alarm_rate])
    variance = hit_rate * (1 - hit_rate) / ((signals + 2 * add) * stats.norm.pdf(z_hit) ** 2) + alarm_rate * (
        1 - alarm_rate
    ) / ((noises + 2 * add) * stats.norm.pdf(z_alarm) ** 2)
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    value = z_hit - z_alarm
    return Sensitivity(float(value), float(value - half), float(value + half), float(-(z_hit + z_alarm) / 2))


def choice_rate(d: float, alternatives: int) -> float:
    """Share of right choices among ``alternatives`` pictures at sensitivity d′ (Green & Swets 1966).

    It is ∫ φ(x − d′) Φ(x)^(m−1) dx.
    """

    def density(x):
        return stats.norm.pdf(x - d) * stats.norm.cdf(x) ** (alternatives - 1)

    return float(integrate.quad(density, -10, 10 + abs(d), limit=200)[0])


def choice_d_prime(rate: float, alternatives: int) -> float:
    """Sensitivity d′ of a forced choice among ``alternatives`` pictures; the inverse of :func:`choice_rate`.

    NaN for a rate of 0 or 1, which no finite d′ has.
    """
    if np.isnan(rate) or not 0 < rate < 1:
        return float("nan")
    return float(optimize.brentq(lambda d: choice_rate(d, alternatives) - rate, -9, 12))
