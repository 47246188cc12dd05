"""What the next attempt handles and which attempt is released."""

from hypothesis import given
from hypothesis import strategies as st
from shard_tables import CONFIG, Spec, outcomes_of, write_private

from deidlib.outcomes.attempts import photos_to_retry, released_attempts
from deidlib.storage import tables


def checks(*rows):
    return tables.from_rows(
        [{"release_photo_id": i, "release_patient_id": p, "passed": ok} for i, p, ok in rows], tables.CHECKS
    )


def test_a_patient_is_retried_whole():
    table = checks(("a1", "a", True), ("a2", "a", False), ("b1", "b", True), ("c1", "c", None))
    assert photos_to_retry(table, "per_patient") == {"a1", "a2", "c1"}
    assert photos_to_retry(table, "per_photo") == {"a2", "c1"}


def test_one_attempt_serves_all_photographs_of_a_patient():
    members = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")]
    passed = {"a1": {0, 2}, "a2": {2}, "b1": {1}, "c1": set()}
    assert released_attempts(members, passed) == {"a": 2, "b": 1}


def test_the_first_of_equal_attempts_is_released():
    assert released_attempts([("a1", "a"), ("a2", "a")], {"a1": {1}, "a2": {0}}) == {"a": 0}


@given(st.dictionaries(st.text(min_size=1), st.sets(st.integers(0, 4)), max_size=6))
def test_of_single_photographs_the_first_passing_attempt_is_released(passed):
    members = [(photo, photo) for photo in passed]
    assert released_attempts(members, passed) == {p: min(a) for p, a in passed.items() if a}


def test_a_photograph_that_passed_with_another_face_is_told_so(tmp_path):
    """One face serves both photographs of a patient; it is the first at which most of them pass."""
    fails = {"failed": ["seam"], "seam": 9.0}
    specs = [
        Spec("patient-one", "photo-one", checks=({}, fails)),
        Spec("patient-one", "photo-two", checks=(fails, {})),
        Spec("patient-two", "photo-three", checks=(fails, fails)),
    ]
    config = {**CONFIG, "identity": "per_patient"}
    shards = write_private(tmp_path, specs, config=config)
    found = {o.photo["photo_id"]: (o.attempt, o.reason) for o in outcomes_of(tmp_path, shards, config=config)}
    assert found == {
        "photo-one": (0, None),
        "photo-two": (None, "passed_with_another_face"),
        "photo-three": (None, "gate_failed"),
    }
