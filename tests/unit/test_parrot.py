"""The parrot attack finds a leak that a recogniser does not see, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom

from deidlib.reid import parrot
from deidlib.reid.attacker import SAME_LOOK, Attacker
from deidlib.reid.calibration import calibrate
from deidlib.reid.embeddings import Faces
from deidlib.reid.maps import LEARNERS

DIM = 24


def chance_limit(attack):
    """Most hits that pure chance explains: the 97.5 % quantile."""
    return int(binom.ppf(0.975, attack.trials, attack.chance))


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def attacker(originals, released, patients, area=None):
    photos = np.array([f"photo-{i:04d}" for i in range(len(patients))])
    patients = np.array([f"patient-{i:04d}" for i in patients])
    shown = {"original": originals, "released": released, "released_region": released if area is None else area}
    faces = {name: Faces(photos, patients, vectors.astype(np.float32)) for name, vectors in shown.items()}
    rng = np.random.default_rng(0)
    calibration = calibrate("sface", True, faces["original"], None, 0.363, 1e-3, rng)
    return Attacker("sface", "SFace", True, faces, None, calibration, 0.01, True, rng)


def results(originals, released, patients, seed=7, area=None):
    """Attacks by region and name."""
    attacks = parrot.parrot_attacks(attacker(originals, released, patients, area), 1e-3, seed)
    return {region: {a.name: a for a in attacks if a.region == region} for region in parrot.REGIONS}


@pytest.fixture(scope="module")
def people():
    """60 patients with two photographs each, as a recogniser sees them."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(60), 2)
    who = rng.standard_normal((60, DIM))[patients]
    return patients, unit(who + 0.3 * rng.standard_normal(who.shape))


@pytest.fixture(scope="module")
def leaking_face(people):
    """A new face that adds a linear leak, around an area that has none."""
    patients, originals = people
    rng = np.random.default_rng(2)
    scramble = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    released = unit(originals @ scramble + 0.1 * rng.standard_normal(originals.shape))
    return results(originals, released, patients, area=rng.standard_normal(originals.shape))


@pytest.fixture(scope="module")
def leaking_area(people):
    """An area that has a linear leak, in a face that hides it."""
    patients, originals = people
    rng = np.random.default_rng(5)
    unrelated = unit(rng.standard_normal((60, DIM))[patients] + 0.3 * rng.standard_normal(originals.shape))
    return results(originals, unrelated, patients, area=originals[:, ::-1])


def attack_led_away(people):
    """The patient's is the least alike face of all."""
    patients, originals = people
    rng = np.random.default_rng(4)
    released = unit(0.2 * rng.standard_normal(originals.shape) - 0.6 * originals)
    return results(originals[:32], released[:32], patients[:32])["whole"]


@pytest.fixture(scope="module")
def led_away(people):
    return attack_led_away(people)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_hidden_linear_leak_is_found(leaking_face, name):
    found = leaking_face["whole"]
    assert found[f"{name}_rank1"].rate > 0.6
    assert found[name].rate > 0.3
    assert found[name].trials == 120
    assert found[name].patients == 60
    words = found[f"{name}_rank1"].explanation
    plain = int(words.split("the recogniser finds ")[1].split(" of")[0])
    assert plain < 0.1 * 120, "the recogniser alone must not see this leak, or the test shows nothing"


@pytest.mark.parametrize("name", LEARNERS)
def test_what_the_preserved_area_gives_away_is_told_apart(leaking_face, leaking_area, name):
    for found, where in ((leaking_face, "whole"), (leaking_area, "region_only")):
        assert {region for region in parrot.REGIONS if found[region][f"{name}_rank1"].rate > 0.5} == {where}


def test_a_leak_that_is_not_linear_is_found_by_the_network_alone():
    rng = np.random.default_rng(3)
    hidden = rng.standard_normal((240, 6))
    originals, released = unit(np.c_[hidden**2 - 1, np.zeros(240)]), unit(np.c_[hidden, np.ones(240)])
    found = results(originals, released, np.arange(240))["whole"]
    linear, network = found["parrot_linear_rank1"], found["parrot_mlp_rank1"]
    assert linear.hits <= 2 * chance_limit(linear)
    assert network.hits > 5 * chance_limit(network)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_method_that_only_leads_away_from_the_patient_is_seen_through(led_away, name):
    """The recogniser never ranks the patient's face first; who turns it round does."""
    found = led_away[f"{name}_rank1"]
    assert "the recogniser finds 0 of 32" in found.explanation
    assert found.rate > 0.6


@pytest.mark.parametrize("name", LEARNERS)
def test_without_a_leak_it_is_chance(leaking_area, name):
    found = leaking_area["whole"]
    rank1 = found[f"{name}_rank1"]
    assert rank1.chance == pytest.approx(1 / 30)
    assert rank1.ci95[0] <= rank1.chance
    assert found[name].hits <= 2
    assert found[name].chance == pytest.approx(1 / 1000, rel=0.5)


def test_no_patient_is_attacked_by_a_map_that_was_learned_on_him(people):
    patients, originals = people
    seen = []

    def learner(x, y, who, rng):
        seen.append(set(who))
        yield lambda vectors: vectors

    known = attacker(originals, originals, patients).faces
    folds = parrot.guesses(known["released"], known["original"], learner, np.random.default_rng(0))
    for fold, learned in zip(folds, (seen[:4], seen[4:]), strict=True):
        assert all(not half & set(fold.mapped.patients) for half in learned)
        assert [len(half) for half in learned] == [20, 20, 20, 30], "to choose the map, and at last on the whole half"
    assert set().union(*(fold.mapped.patients for fold in folds)) == set(known["original"].patients)


def test_the_same_seed_gives_the_same_result(people, led_away):
    before = torch.random.get_rng_state()
    assert attack_led_away(people) == led_away
    assert torch.equal(torch.random.get_rng_state(), before)


def test_too_few_patients_are_not_tried_and_it_says_so(people):
    patients, originals = people
    for attack in results(originals[:14], originals[:14], patients[:14])["whole"].values():
        assert attack.trials == 0
        assert attack.rate is None
        assert attack.ci95 == (0.0, 1.0)
        few = "too few" if attack.name.endswith(SAME_LOOK) else "fewer than 8"
        assert attack.explanation.startswith(f"Not tried: there are {few} patients")


def test_of_a_large_cohort_the_same_patients_are_drawn_whatever_is_seen(monkeypatch):
    monkeypatch.setattr(parrot, "MOST_PHOTOS", 50)
    vectors = unit(np.random.default_rng(0).standard_normal((120, DIM)))
    known = attacker(vectors, vectors, np.repeat(np.arange(60), 2))
    area = known.faces["released_region"]
    known.faces["released_region"] = Faces(area.photos[:30], area.patients[:30], area.vectors[:30])
    chosen, drawn_from = parrot._drawn(known)
    assert drawn_from == 60
    assert sorted(set(chosen.faces["original"].patients)) == [f"patient-{i:04d}" for i in range(25)]
    assert [len(chosen.faces[shown]) for shown in ("original", "released", "released_region")] == [50, 50, 30]
    attacks = parrot.parrot_attacks(known, 1e-3, 1)
    assert {(attack.region, attack.patients) for attack in attacks} == {("whole", 25), ("region_only", 15)}
    assert all(f"{attack.patients} of 60 patients" in attack.explanation for attack in attacks)
    assert {attack.as_json()["drawn_from"] for attack in attacks} == {60}


def test_of_a_small_cohort_nobody_is_drawn(led_away):
    assert all("drawn_from" not in attack.as_json() for attack in led_away.values())
