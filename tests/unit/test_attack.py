"""An attack's result: counts, intervals over patients, JSON form."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from deidlib.reid import attack as results
from deidlib.reid.attack import Attack, attack_from_trials, clopper_pearson, interval


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize(("hits", "trials"), [(0, 13), (1, 16), (10, 10), (50, 100)])
def test_clopper_pearson_keeps_its_definition(hits, trials):
    low, high = clopper_pearson(hits, trials)
    # at either end, what was seen or something more extreme has the probability 2.5 %
    assert low == 0 if hits == 0 else binom.sf(hits - 1, trials, low) == pytest.approx(0.025)
    assert high == 1 if hits == trials else binom.cdf(hits, trials, high) == pytest.approx(0.025)


def test_no_hit_in_photographs_of_one_patient_shows_less_than_in_photographs_of_many(rng):
    same = interval([False] * 20, ["p"] * 20, rng)
    different = interval([False] * 20, range(20), rng)
    assert same == clopper_pearson(0, 1)
    assert different == clopper_pearson(0, 20)
    assert same[1] > 0.9 > 0.2 > different[1]


def test_bootstrap_is_over_patients_not_photographs(rng):
    # 40 patients with 25 photographs each, which all succeed or all fail: as good as 40 trials
    patients = np.repeat(np.arange(40), 25)
    low, high = interval(patients < 20, patients, rng)
    assert 0.3 < low < 0.4
    assert 0.6 < high < 0.7


def test_interval_of_many_patients_is_that_of_patients_drawn_one_by_one(monkeypatch, rng):
    patients = np.repeat(np.arange(3000), rng.integers(1, 4, 3000))
    hits = rng.random(len(patients)) < (0.05 + 0.4 * (patients % 10 == 0))
    by_kind = interval(hits, patients, rng)
    monkeypatch.setattr(results, "DRAWN_ONE_BY_ONE", 3000)
    assert interval(hits, patients, rng) == pytest.approx(by_kind, abs=0.001)


def test_nothing_tried_is_nothing_known(rng):
    assert interval([], [], rng) == (0.0, 1.0)
    attack = attack_from_trials([], [], rng, name="a", title="A", recogniser=None, region="whole", chance=None)
    assert attack.rate is None
    assert attack.trials == 0


def test_json_form_is_whole(rng):
    attack = attack_from_trials(
        [True, False], "ab", rng, name="a", title="A", recogniser="dlib", region="region_only", chance=0.1, fmr=0.001
    )
    assert attack.rate == 0.5
    entry = json.loads(json.dumps(attack.as_json()))
    assert {"name", "recogniser", "region", "rate", "hits", "trials", "chance", "ci95", "threshold", "fmr"} <= set(
        entry
    )
    assert Attack.from_json(entry) == attack


def test_impossible_attacks_are_refused(rng):
    with pytest.raises(ValueError, match="region"):
        attack_from_trials([True], "a", rng, name="a", title="A", recogniser=None, region="face", chance=None)
    with pytest.raises(TypeError, match="fmrr"):
        attack_from_trials([True], "a", rng, name="a", title="A", recogniser=None, region="whole", chance=None, fmrr=1)
