"""Power and width of intervals of a study of a given size, computed before it begins."""

from __future__ import annotations

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import power_binom_tost, proportion_confint

ALPHA = 0.05


def effective_answers(raters: int, patients: int, rater_correlation: float, patient_correlation: float) -> float:
    """Effective number of independent answers of ``raters`` on ``patients``.

    The design effect is that of a crossed design, with every rater answering on every patient:
    1 + (patients − 1)·ρ_rater + (raters − 1)·ρ_patient.
    """
    effect = 1 + (patients - 1) * rater_correlation + (raters - 1) * patient_correlation
    return raters * patients / effect


def power_against_chance(n: float, chance: float, true: float) -> float:
    """Probability that the exact two-sided binomial test at 5 % finds a share ``true`` different from ``chance``."""
    n = int(n)
    counts = np.arange(n + 1)
    upper = counts[stats.binom.sf(counts - 1, n, chance) <= ALPHA / 2]
    lower = counts[stats.binom.cdf(counts, n, chance) <= ALPHA / 2]
    return float(stats.binom.pmf(np.concatenate([lower, upper]), n, true).sum())


def power_of_chance(n: float, chance: float, margin: float) -> float:
    """Probability of showing a share within ±margin of chance (two one-sided tests at 5 %) if it is at chance."""
    return float(max(0.0, power_binom_tost(chance - margin, chance + margin, int(n), p_alt=chance, alpha=ALPHA)))


def half_width(n: float, share: float) -> float:
    """Half the width of the 95 % Wilson interval of a share."""
    n = max(1, int(n))
    low, high = proportion_confint(share * n, n, method="wilson")
    return float(high - low) / 2


def power_of_equivalence(patients: int, raters: int, patient_sd: float, reading_sd: float, margin: float) -> float:
    """Probability of showing equivalence within ±margin (TOST at 5 %) if the mean difference is zero.

    The units are patients' means over raters, with variance patient_sd² + reading_sd²/raters; by the t distribution
    (Julious 2004, "Sample sizes for clinical trials with normal data", section 5.3).
    """
    if patients < 2:
        return 0.0
    error = np.sqrt((patient_sd**2 + reading_sd**2 / raters) / patients)
    freedom = patients - 1
    return float(max(0.0, 2 * stats.t.cdf(margin / error - stats.t.ppf(1 - ALPHA, freedom), freedom) - 1))


def icc_half_width(patients: int, raters: int, icc: float) -> float:
    """Half the width of the 95 % interval of an ICC (Bonett 2002, Statistics in Medicine 21:1331)."""
    if patients < 2 or raters < 2:
        return float("nan")
    variance = 2 * (1 - icc) ** 2 * (1 + (raters - 1) * icc) ** 2 / (raters * (raters - 1) * (patients - 1))
    return float(stats.norm.ppf(0.975) * np.sqrt(variance))


def smallest(reaches, most: int = 2000) -> int | None:
    """Smallest number of patients from 2 for which ``reaches`` holds; None where not even ``most`` do."""
    return next((n for n in range(2, most + 1) if reaches(n)), None)
