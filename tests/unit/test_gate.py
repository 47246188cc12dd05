"""The release gate: it fails what gives away more than area and look, and passes nothing that was not judged."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from deidlib import config
from deidlib.donors.bank import read_bank
from deidlib.models import recognisers
from deidlib.reid.attack import Tried, attack_from_trials
from deidlib.reid.comparison import (
    ALPHA,
    compare,
    fewest_patients,
    fewest_to_fail,
    holm,
    more_than_area,
    more_than_chance,
)
from deidlib.reid.gate import release_gate
from deidlib.reid.looks import KINDS, LOOK_VALUES
from deidlib.reid.searches import SEARCHES
from deidlib.reid.side_channels import Photo
from deidlib.reid.suite import Evidence, run_suite
from deidlib.reid.verdicts import FAILED, NOT_APPLICABLE, NOT_JUDGED, PASSED, RELEASE, WITHHOLD, blocks
from deidlib.storage import tables

OPTIONS = config.complete_config({"cohort": "samples.tsv"})["reid"]
TABLE = {"k": 7, "k_required": 5, "patients": 200, "kept": True, "note": ""}
EVIDENCE = {
    "photographs": 200,
    "patients": 200,
    "generated": 200,
    "unmeasured": 0,
    "shared_donors": 0,
    "table": TABLE,
}
AREA_OF = {
    "reversal_rank1": "parrot_linear_rank1",
    "identification_other_photo": "identification_other_photo_same_search",
}
SEARCHED = [name for _, names, _ in SEARCHES.values() for name in names]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def tried(hits, n, chance=None, of_patient=1):
    """``n`` tries, ``of_patient`` for each patient, of which the first ``hits`` succeed."""
    names = np.array([f"photo{i}" for i in range(n)])
    patients = np.array([f"patient{i // of_patient}" for i in range(n)])
    return Tried(names, patients, np.arange(n) < hits, None if chance is None else np.full(n, chance))


def result(name, hits, n, rng, chance=None, region="whole", recogniser="dlib", tries=None):
    tries = tries or tried(hits, n, chance)
    about = {"title": name, "recogniser": recogniser, "region": region, "chance": chance, "tried": tries}
    return attack_from_trials(tries.hits, tries.patients, rng, name=name, **about)


def good(rng, n=200, hits=1, area=1, look=None):
    """Results of a release in which every search finds ``hits`` of ``n``, and ``area`` by the area alone."""
    look = n // 5 if look is None else look
    found = [
        result("verification_same_photo", 0, n, rng, 0.01),
        result("verification_other_photo", 0, 0, rng),
        result("side_channel_metadata", 0, n, rng, recogniser=None),
        result("side_channel_numbers", 1, n, rng, 1 / n, recogniser=None),
    ]
    for name in SEARCHED:
        found.append(result(name, hits, n, rng, 1 / n))
        found.append(result(AREA_OF.get(name, name), area, n, rng, 1 / n, region="region_only"))
        found.append(result(f"{name}_same_look", look, n, rng, 0.2))
    return found


def judged(attacks, evidence=EVIDENCE, recognisers=("dlib",), **options):
    verdict = release_gate(attacks, recognisers, evidence, OPTIONS | options)
    return verdict, {one["name"]: one for one in verdict["criteria"]}


def failed(*given, **options):
    verdict, criteria = judged(*given, **options)
    names = [name for name, one in criteria.items() if one["verdict"] == FAILED]
    assert verdict["passed"] is (not names)
    return names


def without(attacks, name):
    return [attack for attack in attacks if attack.name != name]


def test_a_good_release_passes_every_criterion(rng):
    verdict, criteria = judged(good(rng))
    assert verdict["verdict"] == PASSED
    assert {one["verdict"] for one in criteria.values()} == {PASSED}


@pytest.mark.parametrize("name", SEARCHED)
def test_a_search_that_beats_area_and_look_fails_and_one_that_beats_one_of_them_does_not(rng, name):
    (criterion,) = (key for key, (_, names, _) in SEARCHES.items() if name in names)
    others = [a for a in good(rng) if a.name not in (name, f"{name}_same_look")]

    def of(hits, area, look):
        baseline = AREA_OF.get(name, name)
        kept = [a for a in others if not (a.name == baseline and a.region == "region_only")]
        return [
            *kept,
            result(name, hits, 200, rng, 1 / 200),
            result(baseline, area, 200, rng, 1 / 200, region="region_only"),
            result(f"{name}_same_look", look, 200, rng, 0.2),
        ]

    assert failed(of(60, 1, 90)) == [criterion]
    assert failed(of(60, 60, 90)) == [], "the area alone gives as much"
    assert failed(of(60, 1, 45)) == [], "people of the same look are found as often"


def test_the_gate_compares_the_same_photographs():
    """Nine found by the whole picture alone and one by the area alone: McNemar's exact test, one-sided."""
    whole = np.array([True] * 9 + [False] + [True] * 5 + [False] * 5)
    area = np.array([False] * 9 + [True] + [True] * 5 + [False] * 5)
    p = more_than_area(np.arange(20).astype(str), whole, area, np.random.default_rng(1))
    assert p == pytest.approx(binomtest(9, 10, 0.5, alternative="greater").pvalue)
    swapped = more_than_area(np.arange(20).astype(str), area, whole, np.random.default_rng(1))
    assert swapped > 0.98


def test_photographs_of_one_patient_are_one_try(rng):
    """Ten photographs each of three patients say no more than three patients do."""
    whole, area, look = tried(30, 30, of_patient=10), tried(0, 30, of_patient=10), tried(30, 30, 0.2, of_patient=10)
    found = compare("a", "dlib", whole, area, look, rng)
    assert found.p_area == pytest.approx(1 / 8)
    assert found.p_look == pytest.approx(0.2**3)


def test_the_sign_flip_test_keeps_its_level_where_patients_have_several_photographs():
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(30), rng.integers(1, 4, 30)).astype(str)
    below = 0
    for _ in range(100):
        hits = rng.random((2, len(patients))) < 0.3
        below += more_than_area(patients, *hits, rng) <= 0.05
    assert below / 100 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_chances_that_differ_give_the_poisson_binomial(rng):
    patients = np.array(["a", "b"])
    assert more_than_chance(patients, np.array([True, True]), np.array([0.2, 0.5])) == pytest.approx(0.1)
    assert more_than_chance(patients, np.array([True, False]), np.array([0.2, 0.5])) == pytest.approx(1 - 0.8 * 0.5)
    assert more_than_chance(patients[:0], np.zeros(0, bool), np.zeros(0)) == 1.0


def test_holm_follows_its_paper():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert len(holm([])) == 0


def test_the_smallest_cohorts_keep_their_rule():
    for comparisons in (1, 12):
        n = fewest_to_fail(comparisons)
        assert 0.5**n <= ALPHA / comparisons < 0.5 ** (n - 1)
    assert fewest_patients(12) > fewest_patients(1) > fewest_to_fail(1)


@pytest.mark.parametrize(
    ("name", "hits", "criteria"),
    [
        ("verification_same_photo", 1, ["no_verified_reidentification"]),
        ("side_channel_metadata", 1, ["no_metadata"]),
        ("side_channel_numbers", 8, ["published_numbers"]),
    ],
)
def test_one_result_beyond_its_bound_fails(rng, name, hits, criteria):
    old = next(a for a in good(rng) if a.name == name)
    attacks = [*without(good(rng), name), result(name, hits, 200, rng, old.chance, recogniser=old.recogniser)]
    assert failed(attacks) == criteria


@pytest.mark.parametrize(
    ("name", "criterion"),
    [
        ("verification_same_photo", "no_verified_reidentification"),
        ("identification_rank1_originals", "rank1_originals"),
        ("side_channel_metadata", "no_metadata"),
        ("side_channel_numbers", "published_numbers"),
    ],
)
def test_a_missing_number_fails(rng, name, criterion):
    assert criterion in failed(without(good(rng), name))
    old = next(a for a in good(rng) if a.name == name)
    assert criterion in failed([*without(good(rng), name), result(name, 0, 0, rng, recogniser=old.recogniser)])


def test_without_a_search_of_the_area_or_the_look_nothing_is_excused(rng):
    """A comparison that lacks the area counts it as 0 hits; one that lacks the look has no second answer."""
    attacks = [a for a in good(rng, hits=60, area=60, look=90) if a.region != "region_only"]
    assert set(failed(attacks)) == set(SEARCHES)


@pytest.mark.parametrize(
    "change",
    [
        {"unmeasured": 1},
        {"unmeasured": None},
        {"shared_donors": 1},
        {"photographs": 0},
        {"table": None},
        {"table": TABLE | {"kept": False}},
    ],
)
def test_evidence_that_is_short_fails(rng, change):
    assert failed(good(rng), EVIDENCE | change)


def test_every_recogniser_has_to_have_attacked(rng):
    lacking = {"no_verified_reidentification", "rank1_originals"}
    assert lacking <= set(failed(good(rng), recognisers=("dlib", "another")))
    assert failed(good(rng), recognisers=()) != []


def test_columns_without_a_verdict_are_not_judged_and_hold_nothing_back(rng):
    verdict, criteria = judged(good(rng), EVIDENCE | {"table": TABLE | {"kept": None, "k": None}})
    assert (verdict["passed"], criteria["k_anonymity"]["verdict"]) == (True, NOT_JUDGED)


def test_without_new_faces_what_does_not_apply_is_said_and_the_cohort_can_be_released(rng):
    attacks = [a for a in good(rng) if a.name.startswith("side_channel")]
    verdict, criteria = judged(attacks, EVIDENCE | {"generated": 0})
    assert verdict["passed"]
    assert verdict["verdict"] == PASSED
    for name in ("all_measured", "no_verified_reidentification", *SEARCHES, "interval_upper_ends", "distinct_donors"):
        assert criteria[name]["verdict"] == NOT_APPLICABLE, name
    assert not judged(attacks, EVIDENCE | {"generated": 0, "photographs": 0})[0]["passed"], "nothing to release"
    unsaid = {name: value for name, value in EVIDENCE.items() if name != "generated"}
    assert not judged(attacks, unsaid)[0]["passed"], "who does not say is judged"
    verified = [*attacks, result("verification_same_photo", 1, 200, rng, 0.01)]
    assert failed(verified, EVIDENCE | {"generated": 0}) == ["no_verified_reidentification"]


@pytest.mark.parametrize("policy", [RELEASE, WITHHOLD])
def test_a_small_cohort_is_not_judged_and_the_configuration_says_what_becomes_of_it(rng, policy):
    evidence = EVIDENCE | {"patients": 12, "photographs": 12, "generated": 12}
    verdict, criteria = judged(good(rng, 12, hits=1, area=0), evidence, small_cohort=policy)
    for name in (*SEARCHES, "interval_upper_ends"):
        assert criteria[name]["verdict"] == NOT_JUDGED, name
        assert criteria[name]["passed"] is None
    assert verdict["passed"] is (policy == RELEASE)
    assert verdict["verdict"] == (NOT_JUDGED if policy == RELEASE else FAILED)


def test_what_has_no_verdict_of_this_form_ends_a_release():
    assert blocks({"passed": None})
    assert blocks({"passed": False, "verdict": NOT_JUDGED}, RELEASE)
    assert blocks({})
    assert not blocks({"passed": True})


def test_a_large_cohort_is_judged_by_upper_ends(rng):
    assert failed(good(rng), interval_upper=0.01) == ["interval_upper_ends"]


def test_what_the_area_gives_away_excuses_no_verification_and_is_stated(rng):
    whole = result("parrot_linear", 24, 200, rng, 0.001)
    area = result("parrot_linear", 15, 200, rng, 0.001, region="region_only")
    _, criteria = judged([*good(rng), whole, area])
    assert criteria["interval_upper_ends"]["verdict"] == FAILED
    assert (
        "24 of 200; with the preserved area alone, without any new face, on 15"
        in criteria["interval_upper_ends"]["note"]
    )
    assert judged([*good(rng), area])[0]["passed"], "the area is the user's choice; what is judged is what leaves"


def test_an_attack_that_few_patients_allow_is_named(rng):
    few = attack_from_trials(
        [False] * 12, ["a", "b"] * 6, rng, name="verification_other_photo", title="other", recogniser="dlib",
        region="whole", chance=0.01,
    )  # fmt: skip
    _, criteria = judged([*good(rng), few])
    assert criteria["interval_upper_ends"]["verdict"] == PASSED
    assert "other" in criteria["interval_upper_ends"]["note"]


PEOPLE = 13


def morphed(likeness, seed=3):
    """Tables of 13 patients with two photographs each, released as morphs of a given SFace cosine to the patient.

    Originals and impostors are people of the donor bank; the second photograph of a patient lies near the first. The
    area alone shows somebody else, and so do the looks.
    """
    rng = np.random.default_rng(seed)
    faces = read_bank().sface[rng.permutation(2000)[: 4 * PEOPLE]].astype(np.float64)
    faces -= read_bank().sface.mean(axis=0)  # faces of one generator are more alike than people are
    first, impostors, elsewhere, seen = np.split(faces / np.linalg.norm(faces, axis=1, keepdims=True), 4)
    looks = rng.normal(size=(2, PEOPLE, LOOK_VALUES)).astype(np.float32)
    looks[..., KINDS["sex"]] = rng.random((2, PEOPLE, 1))
    rows = []

    def unit(x):
        return (x / np.linalg.norm(x)).astype(np.float32)

    for k in range(PEOPLE):
        across = unit(impostors[k] - (impostors[k] @ first[k]) * first[k])
        for which in range(2):
            photo = f"photo{k:02d}{which}"
            own = unit(first[k] + 0.01 * rng.standard_normal(first.shape[1]))
            shown = {
                "original": own,
                "released": unit(likeness * first[k] + np.sqrt(1 - likeness**2) * across),
                "square_region": unit(elsewhere[k] + 0.05 * rng.standard_normal(first.shape[1])),
                "released_region": unit(seen[k]),
            }
            for name, vector in shown.items():
                rows.append((photo, k, name, "sface", vector))
            for name, look in (("square", looks[0, k]), ("released", looks[1, k])):
                for suffix in ("", "_region"):
                    rows.append((photo, k, name + suffix, "looks", look + 0.1 * rng.normal(size=LOOK_VALUES)))
    keys = ("release_photo_id", "release_patient_id", "shown", "recogniser", "embedding")
    table = [dict(zip(keys, (photo, f"patient{k:02d}", *rest), strict=True)) for photo, k, *rest in rows]
    photos = [
        Photo(row[0], f"patient{row[1]:02d}", row=i + 2, released=True, side=256, donor=f"donor{row[1]}", clean=True)
        for i, row in enumerate(dict.fromkeys(row[:2] for row in rows))
    ]
    return tables.from_rows(table, tables.EMBEDDINGS), photos


def suite_of(likeness, **changes):
    table, photos = morphed(likeness)
    if changes:
        table = changes["change"](table)
    about = {"sface": recognisers()["sface"] | {"same_above": True, "measure": "cosine"}}
    evidence = Evidence(photos, lambda *_: [table], about, {"sface": read_bank().sface[2000:3000].astype(np.float32)})
    evidence.table = TABLE
    result = run_suite(evidence, OPTIONS, "per_patient")
    attacks = {(a["name"], a["region"]): a for a in result["attacks"]}
    return result["gate"], {one["name"]: one for one in result["gate"]["criteria"]}, attacks


def test_morphs_just_past_the_bounds_of_single_photographs_fail():
    """Thirteen patients none of whom is verified, of whom a search finds at least ten."""
    gate, criteria, attacks = suite_of(0.33)
    verified = attacks["verification_same_photo", "whole"]
    assert (verified["hits"], criteria["no_verified_reidentification"]["verdict"]) == (0, PASSED)
    assert attacks["identification_other_photo", "whole"]["hits"] >= 2 * 10
    assert attacks["identification_rank1", "whole"]["trials"] == 2 * PEOPLE
    for name in ("rank1_originals", "rank1_other_photo"):
        assert criteria[name]["verdict"] == FAILED, criteria[name]
    assert gate["passed"] is False


def test_impostors_in_place_of_morphs_are_not_judged_for_thirteen_are_few():
    gate, criteria, _ = suite_of(0.0)
    for name in SEARCHES:
        assert criteria[name]["verdict"] == NOT_JUDGED, criteria[name]
    assert (gate["passed"], gate["verdict"]) == (True, NOT_JUDGED)


def test_a_score_that_is_no_number_is_unmeasured_and_never_a_pass():
    def spoilt(table):
        rows = table.to_pylist()
        row = next(row for row in rows if (row["shown"], row["recogniser"]) == ("released", "sface"))
        row["embedding"][0] = float("nan")
        return pa.Table.from_pylist(rows, schema=table.schema)

    gate, criteria, _ = suite_of(0.0, change=spoilt)
    assert (criteria["all_measured"]["value"], criteria["all_measured"]["verdict"]) == (1, FAILED)
    assert gate["passed"] is False
