"""Decisions: what is kept of them, and what they do to images, attempts and releases."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidlib.errors import InputError
from deidlib.review import verdicts
from deidlib.review.decisions import (
    AGAINST,
    KINDS,
    Decision,
    Overtaken,
    append_decisions,
    decisions_file,
    parse,
    read_decisions,
)

PHOTO, OTHER = "a" * 16, "b" * 16
DIGEST, NEWER = hashlib.sha256(b"first").hexdigest(), hashlib.sha256(b"second").hexdigest()


def decision(kind="release", photo=PHOTO, sha256=DIGEST, attempt=0, reviewer=1, **more) -> Decision:
    reason = "recognisable" if kind == "withhold" else None
    row = {"photo": photo, "sha256": sha256, "attempt": attempt, "decision": kind, "reason": reason, "note": ""}
    row |= {"role": "clinician", "reviewer": reviewer, "time": "2026-03-01T10:00:00+00:00"}
    return parse(row | more)


def test_a_decision_is_read_as_it_was_written(tmp_path):
    made = [decision("withhold", note="tattoo, \u2028 \n ä"), decision("release", photo=OTHER)]
    for one in made:
        append_decisions(tmp_path, "s0000", [one])
    assert read_decisions(tmp_path, "s0000") == made
    assert read_decisions(tmp_path, "s0001") == []


def test_decisions_are_for_their_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        append_decisions(tmp_path, "s0000", [decision()])
    finally:
        os.umask(old)
    file = decisions_file(tmp_path, "s0000")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_line_that_was_never_finished_is_dropped(tmp_path):
    append_decisions(tmp_path, "s0000", [decision()])
    with open(decisions_file(tmp_path, "s0000"), "ab") as file:
        file.write(b'{"photo": "aaaa')  # the power went
    assert read_decisions(tmp_path, "s0000") == [decision()]
    append_decisions(tmp_path, "s0000", [decision("withhold")])
    assert read_decisions(tmp_path, "s0000") == [decision(), decision("withhold")]


def test_a_damaged_line_is_told_and_nothing_is_written(tmp_path):
    append_decisions(tmp_path, "s0000", [decision(), decision("withhold")])
    file = decisions_file(tmp_path, "s0000")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"garbage\n" + lines[1])
    with pytest.raises(InputError, match="line 1"):
        read_decisions(tmp_path, "s0000")
    with pytest.raises(InputError, match="line 1"):
        append_decisions(tmp_path, "s0000", [decision()])
    assert file.read_bytes() == b"garbage\n" + lines[1]


def test_many_writers_lose_nothing(tmp_path):
    ids = [f"{number:016d}".translate(str.maketrans("0189", "abcd")) for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda photo: append_decisions(tmp_path, "s0000", [decision(photo=photo)]), ids))
    assert sorted(one.photo for one in read_decisions(tmp_path, "s0000")) == sorted(ids)


def test_a_slower_window_of_the_same_reviewer_is_told(tmp_path):
    append_decisions(tmp_path, "s0000", [decision("withhold")], seen=0)
    append_decisions(tmp_path, "s0000", [decision(photo=OTHER)], seen=0)  # another photograph: nothing is overtaken
    with pytest.raises(Overtaken):
        append_decisions(tmp_path, "s0000", [decision("release")], seen=0)
    assert len(append_decisions(tmp_path, "s0000", [decision("release")], seen=2)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"photo": "../../etc/passwd"},
        {"sha256": "0" * 63},
        {"attempt": -1},
        {"attempt": True},
        {"decision": "publish"},
        {"decision": "withhold", "reason": None},
        {"reason": "recognisable"},
        {"note": "x" * 501},
        {"role": "Dr A. Person"},
        {"reviewer": 3},
        {"time": "yesterday"},
        {"time": "2026-03-01T10:00:00"},
        {"extra": 1},
    ],
)
def test_what_is_no_decision_is_refused_without_quoting_it(wrong):
    with pytest.raises(InputError) as error:
        parse({**asdict(decision()), **wrong})
    assert "passwd" not in str(error.value)
    assert "Person" not in str(error.value)


def test_a_decision_says_nothing_about_another_image():
    assert verdicts.verdict([decision("release")], DIGEST).state == "release"
    assert verdicts.verdict([decision("release")], NEWER).state == "undecided"
    assert not verdicts.verdict([decision("release")], NEWER).holds_back


@pytest.mark.parametrize("kind", AGAINST)
def test_the_successor_of_an_image_that_was_turned_down_waits_for_its_own_decision(kind):
    waiting = verdicts.verdict([decision(kind)], NEWER)
    assert (waiting.state, waiting.holds_back) == ("undecided", True)
    assert not verdicts.verdict([decision(kind), decision("release", sha256=NEWER)], NEWER).holds_back


def test_the_last_decision_counts_and_can_be_taken_back():
    assert verdicts.verdict([decision("withhold"), decision("release")], DIGEST).state == "release"
    assert verdicts.verdict([decision("release"), decision("withhold")], DIGEST).state == "withhold"
    taken_back = verdicts.verdict([decision("withhold"), decision("reopen")], DIGEST)
    assert (taken_back.state, taken_back.holds_back) == ("undecided", False)


def test_two_reviewers_have_to_agree():
    first, second = decision("release"), decision("release", reviewer=2, role="privacy_officer")
    assert verdicts.verdict([first], DIGEST, 2).state == "undecided"
    assert verdicts.verdict([first, second], DIGEST, 2).state == "release"
    against = decision("withhold", reviewer=2)
    assert verdicts.verdict([against], DIGEST, 2).holds_back  # also before the other one has looked
    assert verdicts.verdict([first, against], DIGEST, 2).state == "disagreement"
    assert verdicts.verdict([first, against], DIGEST, 2).holds_back
    assert verdicts.verdict([first, against, replace(against, decision="release", reason=None)], DIGEST, 2).state == (
        "release"
    )


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from([DIGEST, NEWER]), st.sampled_from([1, 2])), max_size=8)
)
def test_nothing_that_somebody_stands_against_is_let_through(steps):
    made = [decision(kind, sha256=sha256, reviewer=reviewer) for kind, sha256, reviewer in steps]
    found = verdicts.verdict(made, NEWER, 2)
    last = {}
    for one in made:
        if one.sha256 == NEWER:
            last[one.reviewer] = one.decision
    if any(kind in AGAINST for kind in last.values()):
        assert found.holds_back
    if found.state == "release":
        assert set(last.values()) == {"release"}
        assert len(last) == 2


def test_a_request_is_answered_by_the_first_attempt_after_the_configured_ones():
    made = [decision("another_face", attempt=1), decision("release", photo=OTHER)]
    assert verdicts.requests(made, attempts=3) == {3: {PHOTO}}
    assert verdicts.attempts_needed(made, attempts=3) == 4
    again = [*made, decision("another_face", sha256=NEWER, attempt=3)]
    assert verdicts.requests(again, attempts=3) == {3: {PHOTO}, 4: {PHOTO}}
    assert verdicts.attempts_needed(again, attempts=3) == 5
    assert verdicts.attempts_needed([*made, decision("release", attempt=1)], attempts=3) == 3  # changed their mind
    assert verdicts.attempts_needed([], attempts=3) == 3


def test_a_request_turns_its_attempt_down_until_the_reviewer_takes_it_back():
    made = [decision("another_face", attempt=1), decision("release", photo=OTHER)]
    assert verdicts.turned_down(made) == {PHOTO: 1}
    assert verdicts.turned_down([*made, decision("release", sha256=NEWER, attempt=3)]) == {PHOTO: 1}
    assert verdicts.turned_down([*made, decision("reopen", attempt=1)]) == {}
    assert verdicts.turned_down(made, reviewers=2) == {}


def test_releasing_makes_nothing_run_again():
    released = [decision("release"), decision("release", photo=OTHER)]
    assert verdicts.effect_digest(released) == verdicts.effect_digest([])
    against = [*released, decision("withhold")]
    assert verdicts.effect_digest(against) != verdicts.effect_digest(released)
    assert verdicts.effect_digest([*against, decision("release")]) != verdicts.effect_digest(against)


def test_counts_name_roles_and_no_names():
    seen = {
        "a": verdicts.verdict([decision("release", note="asked Dr Person")], DIGEST),
        "b": verdicts.verdict([decision("withhold")], DIGEST),
        "c": verdicts.verdict([], DIGEST),
    }
    counts = verdicts.count_verdicts(seen)
    assert (counts["photographs"], counts["looked_at"], counts["roles"]) == (3, 2, {"clinician": 2})
    assert counts["verdicts"] == {"release": 1, "undecided": 1, "withhold": 1}
    assert "Person" not in str(counts)
