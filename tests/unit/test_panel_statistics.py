"""The panel study's statistics, against published worked examples and against independent calculations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deidlib.panel import agreement, comparison, detection, resampling

NA = float("nan")

#: Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C: 4 observers, 12 units, missing data.
#: The same table is ``cac.raw4raters`` of Gwet's handbook (2014).
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NA, NA, NA],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NA, 3],
        [NA, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NA],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NA],
    ]
).T

#: Shrout & Fleiss (1979), table 2: 6 targets, 4 judges.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)

#: Fleiss (1971), table 1: 30 patients, 6 psychiatrists each, 5 diagnoses; how many chose each.
FLEISS = [
    (0, 0, 0, 6, 0), (0, 3, 0, 0, 3), (0, 1, 4, 0, 1), (0, 0, 0, 0, 6), (0, 3, 0, 3, 0), (2, 0, 4, 0, 0),
    (0, 0, 4, 0, 2), (2, 0, 3, 1, 0), (2, 0, 0, 4, 0), (0, 0, 0, 0, 6), (1, 0, 0, 5, 0), (1, 1, 0, 4, 0),
    (0, 3, 3, 0, 0), (1, 0, 0, 5, 0), (0, 2, 0, 3, 1), (0, 0, 5, 0, 1), (3, 0, 0, 1, 2), (5, 1, 0, 0, 0),
    (0, 2, 0, 4, 0), (1, 0, 2, 0, 3), (0, 0, 0, 0, 6), (0, 1, 0, 5, 0), (0, 2, 0, 1, 3), (2, 0, 0, 4, 0),
    (1, 0, 0, 4, 1), (0, 5, 0, 1, 0), (4, 0, 0, 0, 2), (0, 2, 0, 4, 0), (1, 0, 5, 0, 0), (0, 0, 0, 0, 6),
]  # fmt: skip

#: Gwet's handbook (2014), ``cont3x3abstractors``: two abstractors, 100 pregnancies.
ABSTRACTORS = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])


def as_ratings(counts) -> np.ndarray:
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts], float)


def pairs(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.nonzero(table)
    times = table[first, second]
    return np.repeat(first, times).astype(float), np.repeat(second, times).astype(float)


def test_fleiss_kappa_of_fleiss_1971():
    assert agreement.fleiss_kappa(as_ratings(FLEISS)) == pytest.approx(0.430, abs=5e-4)


@pytest.mark.parametrize(("scale", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorff_2011(scale, published):
    assert agreement.krippendorff_alpha(KRIPPENDORFF, scale) == pytest.approx(published, abs=5e-4)


def test_gwet_ac1_of_the_handbook():
    """Gwet's own software gives 0.8493305 for the two abstractors and 0.77544 for four raters with missing answers."""
    ratings = np.stack(pairs(ABSTRACTORS), axis=1)
    assert agreement.gwet_ac(ratings, np.arange(3), weighted=False) == pytest.approx(0.8493305, abs=5e-7)
    assert agreement.gwet_ac(KRIPPENDORFF, np.arange(1, 6), weighted=False) == pytest.approx(0.77544, abs=5e-6)
    assert agreement.percent_agreement(KRIPPENDORFF) == pytest.approx(0.8181818, abs=5e-7)


def test_gwet_ac2_of_two_raters_as_its_formula_for_tables_gives_it():
    """Gwet (2014), equation 5.3 for a table of two raters, written out."""
    share = ABSTRACTORS / ABSTRACTORS.sum()
    weights = np.array([[1, 0.75, 0], [0.75, 1, 0.75], [0, 0.75, 1]])
    prevalence = (share.sum(axis=0) + share.sum(axis=1)) / 2
    chance = weights.sum() / 6 * (prevalence * (1 - prevalence)).sum()
    expected = ((weights * share).sum() - chance) / (1 - chance)
    ratings = np.stack(pairs(ABSTRACTORS), axis=1)
    assert agreement.gwet_ac(ratings, np.arange(3)) == pytest.approx(expected, abs=1e-12)


def test_icc_of_shrout_and_fleiss_1979():
    """ICC(2,1) of their table 4 is 0.29; with a rater's constant error gone it would be ICC(3,1), 0.71."""
    assert agreement.icc_a1(SHROUT_FLEISS) == pytest.approx(0.2898, abs=5e-5)
    assert agreement.icc_a1(SHROUT_FLEISS - SHROUT_FLEISS.mean(axis=0)) > 0.7


def test_cohens_kappa_of_the_handbook_and_weights_that_forgive_a_near_miss():
    first, second = pairs(ABSTRACTORS)
    assert agreement.weighted_kappa(first, second, np.arange(3), weighted=False) == pytest.approx(0.7964094, abs=5e-7)
    assert agreement.weighted_kappa(first, second, np.arange(3)) > 0.7964094


def test_weighted_kappa_of_fleiss_cohen_and_everitt_1969():
    """Fleiss, Cohen & Everitt (1969), table 1: two judges, three diagnoses; kappa 0.429.

    Quadratic weights equal the intraclass correlation in large samples (Fleiss & Cohen 1973): that is the check here.
    """
    table = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
    first, second = pairs(table)
    assert agreement.weighted_kappa(first, second, np.arange(3), weighted=False) == pytest.approx(0.429, abs=5e-4)
    squares = ((first - second) ** 2).mean()
    spread = first.var() + second.var() + (first.mean() - second.mean()) ** 2
    assert agreement.weighted_kappa(first, second, np.arange(3)) == pytest.approx(1 - squares / spread, abs=1e-12)


def test_an_answer_outside_the_scale_is_an_error():
    with pytest.raises(ValueError, match="none of the categories"):
        agreement.weighted_kappa(np.array([0.0, 7.0]), np.array([0.0, 1.0]), np.arange(3))


def test_agreement_where_nothing_can_be_said_is_nan():
    nothing = np.full((3, 2), NA)
    assert np.isnan(agreement.percent_agreement(nothing))
    assert np.isnan(agreement.krippendorff_alpha(nothing, "nominal"))
    assert np.isnan(agreement.icc_a1(nothing))
    assert np.isnan(agreement.fleiss_kappa(nothing))
    assert np.isnan(agreement.weighted_kappa(np.zeros(4), np.zeros(4), np.arange(3)))


def test_d_prime_of_stanislaw_and_todorov_1999():
    """Their example: hit rate 0.8 (20 of 25), false-alarm rate 0.4 (10 of 25), d′ 1.095, c −0.294."""
    found = detection.d_prime(20, 25, 10, 25, corrected=False)
    assert found.d_prime == pytest.approx(1.095, abs=5e-4)
    assert found.criterion == pytest.approx(-0.294, abs=5e-4)


def test_the_interval_of_d_prime_covers_what_it_says():
    rng, true = np.random.default_rng(1), 0.8
    hit, alarm = stats.norm.cdf([true / 2, -true / 2])
    counts = zip(rng.binomial(40, hit, 2000), rng.binomial(40, alarm, 2000), strict=True)
    found = [detection.d_prime(int(h), 40, int(f), 40) for h, f in counts]
    assert np.mean([one.low <= true <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_a_perfect_rater_has_a_finite_d_prime():
    assert 3 < detection.d_prime(20, 20, 0, 20).d_prime < 5


def test_choice_among_two_is_the_closed_form_and_among_six_the_simulated_one():
    """Two alternatives: rate Φ(d′/√2) (Green & Swets 1966)."""
    assert detection.choice_rate(1.2, 2) == pytest.approx(stats.norm.cdf(1.2 / np.sqrt(2)), abs=1e-9)
    rng = np.random.default_rng(2)
    lures, own = rng.standard_normal((200_000, 5)).max(axis=1), rng.standard_normal(200_000) + 1
    assert detection.choice_rate(1, 6) == pytest.approx((own > lures).mean(), abs=0.004)
    assert detection.choice_rate(0, 6) == pytest.approx(1 / 6, abs=1e-9)
    assert detection.choice_d_prime(detection.choice_rate(0.7, 6), 6) == pytest.approx(0.7, abs=1e-6)
    assert np.isnan(detection.choice_d_prime(1.0, 6))


def test_rate_against_chance():
    found = detection.rate_against_chance(60, 100, 0.5)
    assert (found.low, found.high) == pytest.approx((0.502, 0.691), abs=5e-4)  # Wilson 1927
    assert found.p == pytest.approx(0.0569, abs=5e-5)  # exact binomial, two-sided


def test_the_interval_over_raters_and_patients_covers_where_the_binomial_one_does_not():
    rng = np.random.default_rng(3)
    raters, items = np.repeat(np.arange(6), 30), np.tile(np.arange(30), 6)
    covered = binomial = 0
    for _ in range(200):
        logit = rng.normal(0, 1.0, 6)[raters] + rng.normal(0, 0.7, 30)[items]
        right = (rng.random(180) < 1 / (1 + np.exp(-logit))).astype(float)
        low, high = resampling.mean_interval(right, raters, items, rng, repetitions=300)
        covered += low <= 0.5 <= high
        plain = detection.rate_against_chance(int(right.sum()), 180, 0.5)
        binomial += plain.low <= 0.5 <= plain.high
    assert covered > 170
    assert binomial < 150


def readings(rng, shift: float, items: int = 40, raters: int = 5) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.normal(2, 1, (items, 1))
    return (truth + rng.normal(0, 0.5, (items, raters)) + add for add in (0, shift))


def test_readings_that_are_the_same_are_equivalent_and_shifted_ones_are_not():
    rng = np.random.default_rng(4)
    patients = np.arange(40)
    assert comparison.equivalence(*readings(rng, 0.0), patients, 0.5, rng).equivalent is True
    shifted = comparison.equivalence(*readings(rng, 0.5), patients, 0.5, rng)
    assert shifted.equivalent is False
    assert shifted.difference == pytest.approx(0.5, abs=0.2)


def test_tost_is_two_t_tests():
    rng = np.random.default_rng(5)
    original, result = readings(rng, 0.1)
    found = comparison.equivalence(original, result, np.arange(40), 0.4, rng)
    means = (result - original).mean(axis=1)
    lower = stats.ttest_1samp(means, -0.4, alternative="greater").pvalue
    upper = stats.ttest_1samp(means, 0.4, alternative="less").pvalue
    assert found.p == pytest.approx(max(lower, upper), rel=1e-9)


def test_few_readings_decide_nothing():
    rng = np.random.default_rng(6)
    one = np.array([[1.0, NA]])
    assert comparison.equivalence(one, one, np.arange(1), 0.5, rng).equivalent is None
    assert comparison.equivalence(one * NA, one, np.arange(1), 0.5, rng).n_pairs == 0
