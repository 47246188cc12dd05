"""What decisions do to outcomes, to the decision on a release, and to what audit and documents tell."""

from __future__ import annotations

import json

import pytest
from shard_tables import CONFIG, MODELS, Spec, ids, publish, verdict_on, write_private

from deidlib.errors import InputError, ReviewPending
from deidlib.outcomes.attempts import with_their_group
from deidlib.outcomes.outcomes import read_outcomes, to_table
from deidlib.release.decision import decide, obey
from deidlib.report.page import build_audit
from deidlib.review import workflow
from deidlib.review.decisions import append_decisions, now, parse
from deidlib.review.effect import reviewed_outcomes
from deidlib.storage import tables
from deidlib.storage.results import Results

PATIENT = {**CONFIG, "identity": "per_patient", "review": "optional", "reviewers": 1}
REQUIRED = {**PATIENT, "review": "required"}
SPECS = [Spec("P1", "a", checks=({}, {})), Spec("P1", "b", checks=({}, {})), Spec("P2", "a"), Spec("P3", "a")]
PHOTOS = [ids(spec)[1] for spec in SPECS]


@pytest.fixture
def private(tmp_path):
    folder = tmp_path / "results" / "private"
    shards = write_private(folder, SPECS, attempts=2, config=PATIENT)
    (folder / "plan.json").write_text(json.dumps({"shards": shards}))
    return folder


def say(private, photo, kind, attempt=0, reviewer=1, sha256=None, role="clinician"):
    """Decide on the image that an attempt made."""
    rows = tables.read(
        private / "shards" / "s0000" / f"attempt-{attempt}" / "checks.parquet", tables.CHECKS
    ).to_pylist()
    digest = sha256 or next(row["sha256"] for row in rows if row["release_photo_id"] == photo)
    row = {"photo": photo, "sha256": digest, "attempt": attempt, "decision": kind, "note": "", "role": role}
    row |= {"reason": "recognisable" if kind == "withhold" else None, "reviewer": reviewer, "time": now()}
    append_decisions(private, "s0000", [parse(row)])


def outcomes(private, attempts=1, config=PATIENT):
    found = reviewed_outcomes(Results(private), "s0000", attempts, {**config, "attempts": 1})
    tables.write(to_table(found), private / "shards" / "s0000" / "outcomes.parquet", tables.OUTCOMES)
    return {one.photo_id: one for one in read_outcomes(private, "s0000")}


@pytest.mark.parametrize(("kind", "reason"), [("withhold", "withheld_by_reviewer"), ("area_wrong", "area_wrong")])
def test_what_a_reviewer_turns_down_is_held_back_alone(private, kind, reason):
    say(private, PHOTOS[0], kind)
    found = outcomes(private)
    one = found[PHOTOS[0]]
    assert (one.attempt, one.reason, one.held_at, one.candidate) == (None, reason, "review", 0)
    assert [found[photo].attempt for photo in PHOTOS[1:]] == [0, 0, 0]


def test_a_decision_on_another_image_holds_back_until_this_one_is_looked_at(private):
    say(private, PHOTOS[0], "withhold", sha256="0" * 64)
    assert outcomes(private)[PHOTOS[0]].reason == "review_pending"
    say(private, PHOTOS[0], "release")
    assert outcomes(private)[PHOTOS[0]].attempt == 0


def test_another_face_is_a_further_attempt_for_the_patient_alone(private):
    config = {**PATIENT, "attempts": 1}
    say(private, PHOTOS[0], "another_face")
    waiting = outcomes(private)
    assert {waiting[photo].reason for photo in PHOTOS[:2]} == {"another_face_asked"}  # both show the face
    assert waiting[PHOTOS[2]].attempt == 0
    assert workflow.made_attempts(private, "s0000", config) == 2
    assert workflow.requested(private, "s0000", 1, config) == [PHOTOS[0]]
    photos = tables.read(private / "shards" / "s0000" / "photos.parquet", tables.PHOTOS)
    assert with_their_group([PHOTOS[0]], photos, "per_patient") == set(PHOTOS[:2])
    made = outcomes(private, attempts=2)  # the workflow made it, and it passed
    assert [made[photo].attempt for photo in PHOTOS[:2]] == [None, 1]
    assert made[PHOTOS[0]].reason == "review_pending"  # the new image of the photograph wants a decision
    say(private, PHOTOS[0], "release", attempt=1)
    assert [outcomes(private, attempts=2)[photo].attempt for photo in PHOTOS[:2]] == [1, 1]


def test_a_face_that_was_turned_down_does_not_come_back_when_its_image_changes(private):
    say(private, PHOTOS[0], "another_face", sha256="0" * 64)  # the image before a mask was drawn
    say(private, PHOTOS[0], "release", attempt=1)
    made = outcomes(private, attempts=2)
    assert [made[photo].attempt for photo in PHOTOS] == [1, 1, 0, 0]
    only_first = outcomes(private, attempts=1)
    assert {only_first[photo].reason for photo in PHOTOS[:2]} == {"another_face_asked"}


def test_nothing_is_asked_of_the_workflow_without_a_request(private):
    config = {**PATIENT, "attempts": 1}
    before = workflow.effect_of_shard(private, "s0000")
    say(private, PHOTOS[0], "release")
    assert workflow.effect_of_shard(private, "s0000") == before  # so no stage runs again
    assert workflow.made_attempts(private, "s0000", config) == 1
    assert workflow.requested(private, "s0000", 1, config) == []
    all_before = workflow.digest_of_all(private)
    say(private, PHOTOS[1], "withhold")
    assert workflow.effect_of_shard(private, "s0000") != before
    assert workflow.digest_of_all(private) != all_before


def test_review_off_and_decisions_against_is_a_contradiction(private):
    say(private, PHOTOS[0], "release")
    off = {**PATIENT, "review": "off"}
    assert outcomes(private, config=off)[PHOTOS[0]].attempt == 0
    say(private, PHOTOS[0], "withhold")
    with pytest.raises(InputError, match="review is off"):
        outcomes(private, config=off)


def take(private, config):
    found = list(outcomes(private, config=config).values())
    return decide(private, ["s0000"], verdict_on(found), {}, config)


def test_a_required_review_stops_the_release_until_it_is_complete(private):
    for count, photo in enumerate(PHOTOS):
        decision = take(private, REQUIRED)
        assert (decision.release, decision.why, decision.review["waiting"]) == (False, "review_pending", 4 - count)
        assert decision.released == 0
        assert "released" not in (private / "quarantine.tsv").read_text()
        with pytest.raises(ReviewPending, match="deidlib review"):
            obey(decision)
        say(private, photo, "withhold" if photo == PHOTOS[3] else "release")
    decision = take(private, REQUIRED)
    assert (decision.release, decision.released, decision.held) == (True, 3, 1)
    assert decision.review["verdicts"] == {"release": 3, "withhold": 1}


def test_an_optional_review_stops_nothing(private):
    decision = take(private, PATIENT)
    assert (decision.release, decision.released) == (True, 4)


def test_disagreement_is_no_decision(private):
    two = {**REQUIRED, "reviewers": 2}
    for photo in PHOTOS:
        for reviewer in (1, 2):
            say(private, photo, "release", reviewer=reviewer, role="surgeon")
    assert take(private, two).release
    say(private, PHOTOS[2], "withhold", reviewer=2)
    decision = take(private, two)
    assert (decision.release, decision.review["waiting"]) == (False, 1)
    assert outcomes(private, config=two)[PHOTOS[2]].reason == "reviewers_disagree"


def audit(private, config):
    outcomes(private, config=config)
    return build_audit(private, None, ["s0000"], 1, "1.0.0", config, MODELS)


def test_the_audit_says_first_whether_a_person_looked(private):
    numbers, html = audit(private, PATIENT)
    assert "No person looked" in html
    say(private, PHOTOS[0], "release")
    say(private, PHOTOS[2], "withhold", role="orthodontist")
    numbers, html = audit(private, PATIENT)
    assert numbers["review"]["looked_at"] == 2
    assert numbers["review"]["roles"] == {"clinician": 1, "orthodontist": 1}
    assert "A person looked at 2 of the 4 photographs" in html
    assert html.index("A person looked") < html.index('id="method"')
    assert numbers["cohort"]["flow"][-1] == {"step": "review", "entering": 4, "held_back": {"withheld_by_reviewer": 1}}
    numbers, _ = audit(private, REQUIRED)
    (row,) = [row for row in numbers["gate"]["criteria"] if row["name"] == "reviewed"]
    assert (row["passed"], row["value"]) == (False, 2)


def test_release_and_documents_follow_the_decisions(private):
    config = {**REQUIRED, "attempts": 1}
    (private / "reid").mkdir()

    def run():
        found = outcomes(private, config=config)
        (private / "reid" / "attacks.json").write_text(json.dumps(verdict_on(list(found.values()))))
        return publish(private.parent, "1.0.0", config)

    stopped = run()
    assert stopped.exit_code == 1
    assert "4 photographs wait for a reviewer" in stopped.output
    assert (private.parent / "report" / "1.0.0" / "audit.html").is_file()
    for photo in PHOTOS[:3]:
        say(private, photo, "release")
    say(private, PHOTOS[3], "withhold")
    done = run()
    assert done.exit_code == 0, done.output
    release = private.parent / "release" / "1.0.0"
    assert {file.stem for file in release.rglob("*.png")} == set(PHOTOS[:3])
    card = (release / "README.md").read_text()
    assert "A person looked at 4 of the 4 photographs" in card
    assert "A person looked at 4 of the 4 photographs" in (release / "datasheet.md").read_text()
    assert "withheld_by_reviewer" in card
    crate = json.loads((release / "ro-crate-metadata.json").read_text())
    (action,) = [one for one in crate["@graph"] if one["@type"] == "ReviewAction"]
    assert "clinician 4" in action["description"]
