"""What the next attempt handles and how, and which attempt is released."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_tables import BOUNDS, CONFIG, Spec, ids, outcomes_of, write_private

from deidlib.contract.checks import NAMES
from deidlib.inversion.going_on import LED_BY, can_go_on, factors, from_their_donors, same_donors, settings_going_on
from deidlib.outcomes.attempts import next_attempt, released_attempts
from deidlib.outcomes.collect import collect_outcomes
from deidlib.storage import tables

PHOTOS = tables.from_rows(
    [{"release_photo_id": i, "release_patient_id": i[0]} for i in ("a1", "a2", "a3", "b1", "c1")], tables.PHOTOS
)
PER_PATIENT = {**CONFIG, "identity": "per_patient"}


def judged(went_on=(), **failed):
    """Checks and donors of an attempt: photograph → the checks that it failed."""
    checks = [
        {"release_photo_id": i, "route": "generate", "passed": not names, "failed": names}
        for i, names in failed.items()
    ]
    donors = [{"release_photo_id": i, "start": [0.0] if i in went_on else None} for i in failed]
    return tables.from_rows(checks, tables.CHECKS), tables.from_rows(donors, tables.DONORS)


def test_a_photograph_that_fails_goes_on_alone():
    found = next_attempt(*judged(a1=[], a2=["seam"], a3=["dlib_distance", "seam"], b1=[]), PHOTOS, "per_patient")
    assert found.going_on == {"a2": ["seam"], "a3": ["dlib_distance", "seam"]}
    assert found.new_donor == set()


@pytest.mark.parametrize(("identity", "moved"), [("per_patient", {"a1", "a2", "a3"}), ("per_photo", {"a2"})])
def test_what_goes_on_in_vain_gets_a_new_donor_with_all_that_show_its_face(identity, moved):
    """The patient's others passed at an earlier attempt, so the one before this does not even know them."""
    found = next_attempt(*judged(went_on=["a2", "b1"], a2=["seam"], b1=[], c1=["seam"]), PHOTOS, identity)
    assert found.new_donor == moved
    assert found.going_on == {"c1": ["seam"]}


@pytest.mark.parametrize("failed", [["second_face"], ["seam", "faces_yunet"], list(NAMES), []])
def test_what_no_step_can_mend_gets_a_new_donor_at_once(failed):
    checks, donors = judged(a1=["seam"], a2=failed, b1=["seam"])
    checks = checks.set_column(checks.schema.get_field_index("passed"), "passed", [[False, None, False]])
    found = next_attempt(checks, donors, PHOTOS, "per_patient")
    assert found.new_donor == {"a1", "a2", "a3"}
    assert found.going_on == {"b1": ["seam"]}


def test_checks_that_lead_are_checks_and_raise_weights():
    assert set(LED_BY) <= set(NAMES)
    settings = {"steps": 32} | {name: 2.0 for raised in LED_BY.values() for name in raised}
    for check in LED_BY:
        raised = np.stack([factors([]), factors([check])])
        led = settings_going_on(settings, raised)
        weights = {name: led[name] for name in LED_BY[check]}
        assert all(weight[0] == 2.0 and weight[1] > 2.0 for weight in weights.values())
    assert (factors([]) == 1).all()
    assert led["steps"] < settings["steps"]
    assert not can_go_on(None)


def test_donors_of_what_goes_on_are_the_same_and_carry_its_code():
    donors = [{"release_photo_id": i, "attempt": 1, "donor_id": i, "w": [1.0], "status": tables.OK} for i in "abc"]
    faces = [{"release_photo_id": i, "latent": [float(k)]} for k, i in enumerate("abc")]
    donors, faces = tables.from_rows(donors, tables.DONORS), tables.from_rows(faces, tables.FACES)
    again = same_donors(donors, faces, {"c": ["seam", "realism"], "b": ["seam"]}, 2)
    rows = again.to_pylist()
    assert [(row["donor_id"], row["attempt"], row["start"]) for row in rows] == [("b", 2, [1.0]), ("c", 2, [2.0])]
    assert [row["led_by"] for row in rows] == [["seam"], ["realism", "seam"]]
    cold = from_their_donors(again)
    assert cold.schema == tables.DONORS
    assert [(row["w"], row["start"], row["led_by"]) for row in cold.to_pylist()] == [([1.0], None, None)] * 2


def test_one_donor_serves_all_photographs_of_a_patient():
    members = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")]
    passed = {"a1": {0: "x", 2: "y"}, "a2": {2: "y"}, "b1": {1: "z"}, "c1": {}}
    assert released_attempts(members, passed) == {"a1": 2, "a2": 2, "b1": 1}


def test_what_went_on_is_released_beside_what_passed_before():
    members = [("a1", "a"), ("a2", "a"), ("a3", "a")]
    passed = {"a1": {0: "x", 2: "y"}, "a2": {1: "x"}, "a3": {2: "y", 3: "y"}}
    assert released_attempts(members, passed) == {"a1": 0, "a2": 1}


def test_the_first_of_equal_donors_is_released():
    assert released_attempts([("a1", "a"), ("a2", "a")], {"a1": {1: "y"}, "a2": {0: "x"}}) == {"a2": 0}
    assert released_attempts([("a1", "a"), ("a2", "a")], {"a1": {1: None}, "a2": {0: None}}) == {"a2": 0}


@given(st.dictionaries(st.text(min_size=1), st.dictionaries(st.integers(0, 4), st.sampled_from("xyz")), max_size=6))
def test_of_single_photographs_the_first_passing_attempt_is_released(passed):
    members = [(photo, photo) for photo in passed]
    assert released_attempts(members, passed) == {p: min(a) for p, a in passed.items() if a}


def test_a_photograph_that_passed_with_another_face_is_told_so(tmp_path):
    """One face serves both photographs of a patient; it is the first with which most of them pass."""
    fails = {"failed": ["seam"], "seam": 9.0}
    specs = [
        Spec("patient-one", "photo-one", checks=({}, fails)),
        Spec("patient-one", "photo-two", checks=(fails, {})),
        Spec("patient-two", "photo-three", checks=(fails, fails)),
    ]
    shards = write_private(tmp_path, specs, config=PER_PATIENT)
    found = {o.photo["photo_id"]: (o.attempt, o.reason) for o in outcomes_of(tmp_path, shards, config=PER_PATIENT)}
    assert found == {
        "photo-one": (0, None),
        "photo-two": (None, "passed_with_another_face"),
        "photo-three": (None, "gate_failed"),
    }


@pytest.fixture
def went_on(tmp_path):
    """A patient of two photographs, of which the second passed at attempt 1 with the donor of attempt 0."""
    fails, same = {"failed": ["seam"], "seam": 9.0}, {"donor_id": "same"}
    specs = [
        Spec("patient-one", "photo-one", checks=(same,)),
        Spec("patient-one", "photo-two", checks=(fails | same, same)),
    ]
    (shard,) = write_private(tmp_path, specs, config=PER_PATIENT)
    return tmp_path / "shards" / shard, [ids(spec)[1] for spec in specs]


def test_a_photograph_that_went_on_with_the_patients_face_is_released(went_on):
    folder, _ = went_on
    assert [found.attempt for found in collect_outcomes(folder, 2, BOUNDS)] == [0, 1]


@pytest.mark.parametrize(("photo", "attempt"), [(0, 0), (1, 1)])
def test_a_face_that_a_reviewer_turned_down_is_turned_down_at_every_attempt(went_on, photo, attempt):
    folder, photos = went_on
    found = collect_outcomes(folder, 2, BOUNDS, turned_down={photos[photo]: attempt})
    assert {one.reason for one in found} == {"another_face_asked"}


def test_a_request_for_another_face_outlives_the_photograph_that_it_was_made_on(tmp_path):
    """The photograph lost its consent since; its patient's other one still does not get the face that was refused."""
    specs = [
        Spec("patient-one", "photo-one", checks=({},)),
        Spec("patient-one", "photo-two", stopped=("intake", "consent_missing")),
    ]
    (shard,) = write_private(tmp_path, specs, config=PER_PATIENT)
    found = collect_outcomes(tmp_path / "shards" / shard, 1, BOUNDS, turned_down={ids(specs[1])[1]: 0})
    assert {one.photo["photo_id"]: one.reason for one in found} == {
        "photo-one": "another_face_asked",
        "photo-two": "consent_missing",
    }
