"""How far a run is: what a person sees of one that is under way, from the results folder alone."""

from __future__ import annotations

import fcntl
import json
import os
import re
from datetime import datetime

import pytest
from shard_tables import CONFIG, Spec, ids, outcomes_of, write_private
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.logs import last_progress, progress
from deidlib.outcomes.outcomes import read_outcomes
from deidlib.review.decisions import append_decisions, now, parse
from deidlib.running.pace import duration, pace
from deidlib.running.page import at_work, page
from deidlib.running.shard import Step, steps
from deidlib.running.status import Reader, read_status
from deidlib.storage.results import Results

HOUR = 3600.0
NOON = datetime(2030, 5, 6, 12).timestamp()
FAILS = {"failed": ["seam"]}
ABOUT = {"attempts": 2, "identity": "per_patient", "version": "1.0.0", "sweep_photos": 0}


def stamp(results, shard, time, tables=None):
    """Give a shard's tables a time each, a second apart, in the order of the stages."""
    folder = results / "private" / "shards" / shard
    for place, step in enumerate(steps(2)):
        file = step.file(folder)
        if file.exists() and (tables is None or step.table in tables):
            os.utime(file, (time + place, time + place))


def table(results, shard, name, attempt=-1):
    return Step(name, attempt).file(results / "private" / "shards" / shard)


@pytest.fixture
def results(tmp_path):
    """Three planned shards of which the last has not begun; the first is checked to the end, the second once."""
    specs = [
        Spec("A", "a1"),
        Spec("B", "b1", checks=(FAILS, {})),
        Spec("C", "c1", checks=(FAILS, FAILS)),
        Spec("D", "d1", stopped=("intake", "consent_missing")),
        Spec("E", "e1", shard="s0001"),
        Spec("F", "f1", shard="s0001", checks=(FAILS, {})),
        Spec("G", "g1", stopped=("landmarks", "no_face"), shard="s0001"),
    ]
    private = tmp_path / "private"
    write_private(private, specs)
    plan = {"shards": ["s0000", "s0001", "s0002"], "n_photos": 10, "n_shards": 3}
    (private / "plan.json").write_text(json.dumps(plan))
    (tmp_path / ".lock").write_text(json.dumps(ABOUT))
    os.utime(tmp_path / ".lock", (NOON, NOON))
    for shard in ("s0000", "s0001"):
        table(tmp_path, shard, "outcomes").unlink()
        stamp(tmp_path, shard, NOON + HOUR)
    for name in ("faces", "blended", "checks"):
        table(tmp_path, "s0001", name, 1).unlink()
    return tmp_path


class Running:
    """Holds the results as a run does."""

    def __init__(self, results):
        self._lock = results / ".lock"

    def __enter__(self):
        self._file = open(self._lock)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self._file.close()


def test_photographs_are_counted_by_what_became_of_them(results):
    status = read_status(results)
    assert (status.photos, len(status.shards)) == (10, 3)
    # E passed at once and is not made again; of F, which goes on, nothing is known.
    assert status.passed == 3
    assert status.reasons == {"consent_missing": 1, "gate_failed": 1, "no_face": 1}
    assert status.decided == 6
    assert [done.photos for done in status.through(Step("checks", 0))] == [3, 2]
    assert sum(done.stopped for done in status.through(Step("checks", 0))) == 3
    assert len(status.through(Step("faces", 1))) == 1


def test_a_patients_other_photographs_wait_with_the_one_that_failed(tmp_path):
    specs = [Spec("A", "a1", checks=({}, {})), Spec("A", "a2", checks=(FAILS, {})), Spec("B", "b1")]
    write_private(tmp_path / "private", specs)
    table(tmp_path, "s0000", "outcomes").unlink()
    stamp(tmp_path, "s0000", NOON)
    (tmp_path / "private" / "plan.json").write_text(json.dumps({"shards": ["s0000"], "n_photos": 3}))
    (tmp_path / ".lock").write_text(json.dumps(ABOUT))
    assert read_status(tmp_path).passed == 3
    table(tmp_path, "s0000", "checks", 1).unlink()
    assert read_status(tmp_path).decided == 1, "another donor has to be the new person in both"
    (tmp_path / ".lock").write_text(json.dumps(ABOUT | {"identity": "per_photo"}))
    assert read_status(tmp_path).decided == 2


def test_of_a_shard_that_is_through_the_outcomes_alone_are_read(results):
    private = results / "private"
    outcomes = table(results, "s0000", "outcomes")
    command = ["outcomes", "--plan", private / "plan.json", "--shard", "s0000", "--out", outcomes, "--made", 2]
    done = CliRunner().invoke(app, [*map(str, command), "--config", json.dumps(CONFIG)])
    assert done.exit_code == 0, done.output
    stamp(results, "s0000", NOON + HOUR)
    found = read_status(results).shards[0]
    outcomes_of(private, ["s0000"])  # without notes, as earlier versions wrote them
    stamp(results, "s0000", NOON + HOUR)
    assert read_status(results).shards[0] == found
    done = CliRunner().invoke(app, [*map(str, command), "--config", json.dumps(CONFIG)])
    for name in ("photos", "landmarks", "regions"):
        table(results, "s0000", name).write_bytes(b"not read")
    stamp(results, "s0000", NOON + HOUR)
    assert read_status(results).shards[0] == found
    assert (found.photos, found.passed, found.reasons.total()) == (4, 2, 2)


def test_the_outcomes_have_the_last_word(tmp_path):
    write_private(tmp_path / "private", [Spec("A", "a1"), Spec("B", "b1", checks=(FAILS, FAILS))])
    stamp(tmp_path, "s0000", NOON)
    (tmp_path / "private" / "plan.json").write_text(json.dumps({"shards": ["s0000"], "n_photos": 2}))
    status = read_status(tmp_path)
    assert (status.passed, status.reasons) == (1, {"gate_failed": 1})


def test_a_table_that_is_older_than_what_it_is_made_from_does_not_count(results):
    stamp(results, "s0000", NOON + 2 * HOUR, ["regions"])
    status = read_status(results)
    assert [len(status.through(Step(name, attempt))) for name, attempt in (("regions", -1), ("donors", 0))] == [2, 1]
    assert status.decided == 3, "of the first shard D alone, which is held back before regions are made"
    (results / "private" / "shards" / "s0000" / "cohort.parquet").touch()
    os.utime(results / "private" / "shards" / "s0000" / "cohort.parquet", (NOON + 3 * HOUR,) * 2)
    assert read_status(results).decided == 2, "rows of the sheet changed: the shard begins anew"


def test_what_the_run_makes_anew_for_every_shard_does_not_count_as_done(results):
    assert len(read_status(results).through(Step("faces", 0))) == 2
    (results / ".lock").write_text(json.dumps(ABOUT | {"jobs": {"inversion": 6, "blending": 6}}))
    os.utime(results / ".lock", (NOON + 2 * HOUR,) * 2)
    status = read_status(results)
    assert len(status.through(Step("donors", 0))) == 2
    assert status.through(Step("faces", 0)) == []
    stamp(results, "s0000", NOON + 3 * HOUR, ["faces", "blended", "checks"])
    assert len(read_status(results).through(Step("faces", 0))) == 1
    (results / ".lock").write_text(json.dumps(ABOUT | {"jobs": {"inversion": 2}}))
    os.utime(results / ".lock", (NOON + 2 * HOUR,) * 2)
    assert len(read_status(results).through(Step("faces", 0))) == 2, "a run that goes on keeps what is there"


def test_the_reader_reads_a_shard_again_only_where_its_tables_changed(results, monkeypatch):
    reader = Reader(results)
    before = reader.status()
    assert reader.status().shards[0] is before.shards[0]
    stamp(results, "s0001", NOON + 2 * HOUR)
    after = reader.status()
    assert after.shards[0] is before.shards[0]
    assert after.shards[1] is not before.shards[1]


def test_pace_share_and_time_left_agree(results):
    with Running(results):
        status = read_status(results)
        early, late = pace(status, NOON + 2 * HOUR), pace(status, NOON + 4 * HOUR)
    assert 0.3 < early.share < 0.8
    # What was done in two hours takes as long again, in proportion to what is left of it.
    assert early.left == pytest.approx(2 * HOUR * (1 - early.share) / early.share)
    assert early.per_hour == pytest.approx(status.photos * early.share / 2)
    assert late.left == pytest.approx(2 * early.left)
    assert late.per_hour == pytest.approx(early.per_hour / 2)


def test_what_an_earlier_run_did_is_done_but_sets_no_pace(results):
    os.utime(results / ".lock", (NOON + 3 * HOUR,) * 2)
    with Running(results):
        found = pace(read_status(results), NOON + 4 * HOUR)
    assert found.share > 0.3
    assert (found.per_hour, found.left) == (None, None)


def test_status_says_what_the_bar_of_the_run_says(results):
    now = datetime.fromtimestamp(NOON + 2 * HOUR)
    with Running(results):
        status = read_status(results)
        shown = page(status, now)
        found = pace(status, now.timestamp())
    assert at_work(status) in shown
    assert f"{found.per_hour:,.0f} photographs an hour" in shown
    assert f"about {duration(found.left)} left" in shown
    assert "left" not in page(read_status(results), now), "no end is expected of a run that is not going on"


def test_photographs_of_a_stage_that_goes_on_are_counted_by_its_log(results):
    log = Step("faces", 1).log(Results.of_folder(results), "s0001")
    log.parent.mkdir(parents=True)
    log.write_text("a warning\ninversion: 4 photographs\ninversion: 3 of 4 photographs, 61 s\n")
    with Running(results):
        before = pace(read_status(results), NOON + 2 * HOUR).share
        os.utime(log, (NOON + HOUR,) * 2)
        status = read_status(results)
        assert status.now() == ("inversion, attempt 1", 2 + 3, 2 + 4)
        assert pace(status, NOON + 2 * HOUR).share > before
        os.utime(log, (NOON - HOUR,) * 2)
        assert read_status(results).under == [], "the log is of an earlier run"


def test_the_plain_lines_of_progress_are_read_as_they_are_written(monkeypatch, capsys):
    monkeypatch.setattr("deidlib.logs.LINE_INTERVAL", 0)
    with progress("inversion", 3) as step:
        assert last_progress(capsys.readouterr().err) == (0, 3)
        step()
        step()
        assert last_progress(capsys.readouterr().err) == (2, 3)
        step()
    assert last_progress(capsys.readouterr().err) == (3, 3)
    assert last_progress("nothing of the kind") is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "10 s"), (84, "80 s"), (840, "14 min"), (7900, "2 h 10 min"), (200000, "2.3 days")]
)
def test_a_time_to_wait_is_told_as_exactly_as_it_is_known(seconds, words):
    assert duration(seconds) == words


def later(results):
    """State of the stages after the shards."""
    return list(read_status(results).later.values())


def finish(path, time):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (time, time))


@pytest.fixture
def through(tmp_path):
    """One shard, embedded."""
    write_private(tmp_path / "private", [Spec("A", "a1")])
    (tmp_path / "private" / "shards" / "s0000" / "embeddings.parquet").touch()
    stamp(tmp_path, "s0000", NOON)
    (tmp_path / "private" / "plan.json").write_text(json.dumps({"shards": ["s0000"], "n_photos": 1}))
    (tmp_path / ".lock").write_text(json.dumps(ABOUT))
    return tmp_path


def test_the_stages_after_the_shards_are_told_by_their_files(through):
    private = through / "private"
    assert later(through) == ["not yet"] * 4
    assert read_status(through).now()[0] == "sweep"
    finish(private / "reid" / "sweep.json", NOON + 100)
    finish(private / "reid" / "attacks.json", NOON + 200)
    finish(through / "release" / "0.9.0" / "SHA256SUMS", NOON + 300)
    assert later(through) == ["done", "done", "not yet", "not yet"], "another version is another release"
    finish(through / "release" / "1.0.0" / "SHA256SUMS", NOON + 300)
    finish(through / "report" / "1.0.0" / "audit.html", NOON + 400)
    status = read_status(through)
    assert later(through) == ["done"] * 4
    assert status.finished
    assert (status.versions, pace(status, NOON + 500).share) == (["0.9.0", "1.0.0"], 1.0)


def test_what_is_older_than_what_it_is_made_from_is_outdated(through):
    finish(through / "private" / "reid" / "sweep.json", NOON - 100)
    assert later(through) == ["outdated", "not yet", "not yet", "not yet"]


def test_a_release_that_the_gate_forbids_is_held_back_and_the_run_is_finished(through):
    private = through / "private"
    finish(private / "reid" / "sweep.json", NOON + 100)
    finish(private / "reid" / "attacks.json", NOON + 200)
    (private / "decision.json").write_text(json.dumps({"release": False}))
    os.utime(private / "decision.json", (NOON + 300,) * 2)
    finish(through / "report" / "1.0.0" / "audit.html", NOON + 400)
    assert later(through) == ["done", "done", "held back", "done"]
    assert read_status(through).finished


def reviewed(folder, *kinds):
    """A results folder of one shard, three photographs passed; reviewers decided so on the first ones."""
    specs = [Spec("A", "a1", checks=({}, {}, {})), Spec("B", "b1"), Spec("C", "c1")]
    private = folder / "private"
    shards = write_private(private, specs, attempts=2, config=CONFIG | {"reviewers": 1})
    (private / "plan.json").write_text(json.dumps({"shards": shards, "n_photos": 3, "n_shards": 1}))
    run = {"attempts": 2, "identity": "per_photo", "version": "1.0.0", "review": "required", "reviewers": 1}
    (folder / ".lock").write_text(json.dumps(run))
    for spec, kind in zip(specs, kinds, strict=False):
        shown = next(one for one in read_outcomes(private, "s0000") if one.photo_id == ids(spec)[1])
        row = {"photo": shown.photo_id, "sha256": shown.check["sha256"], "attempt": shown.attempt, "decision": kind}
        row |= {"reason": "other" if kind == "withhold" else None, "note": "", "role": "clinician", "reviewer": 1}
        append_decisions(private, "s0000", [parse(row | {"time": now()})])
    return folder


def test_what_reviewers_decided_is_told(tmp_path):
    status = read_status(reviewed(tmp_path, "release", "withhold"))
    assert status.review["verdicts"] == {"release": 1, "undecided": 1, "withhold": 1}
    assert status.passed == 3  # as the last run left it; what the reviewer withheld since, the next run takes out
    outcomes_of(tmp_path / "private", ["s0000"], 2, CONFIG | {"reviewers": 1})
    status = read_status(tmp_path)
    assert (status.passed, status.reasons) == (2, {"withheld_by_reviewer": 1})
    shown = page(status, datetime(2030, 5, 6))
    assert "review: required, one person decides; 3 photographs passed the checks, 2 were looked at" in shown
    assert re.search(r"to be decided +1\n", shown)
    (tmp_path / "private" / "review" / "s0000.jsonl").write_text("{}\n")
    assert "review: cannot be read: private/review/s0000.jsonl, line 1" in page(read_status(tmp_path), datetime.now())


def test_an_attempt_that_reviewers_asked_for_is_told(tmp_path):
    results = reviewed(tmp_path, "another_face")
    status = read_status(results)
    assert status.attempts == 2
    assert status.shards_with(Step("faces", 2)) == 1
    assert (status.passed, status.decided) == (0, 0), "this attempt is still to be made"
    shown = page(status, datetime(2030, 5, 6))
    assert re.search(r"inversion, attempt 2 +0/1 .*asked by reviewers\n", shown)
    write_private(results / "private", [Spec("A", "a1", checks=({}, {}, {})), Spec("B", "b1"), Spec("C", "c1")], 3)
    assert len(read_status(results).through(Step("checks", 2))) == 1


def test_a_run_that_makes_such_an_attempt_leaves_the_attempts_before_it_done(tmp_path):
    results = reviewed(tmp_path, "another_face")
    table(results, "s0000", "donors", 1).unlink()
    stamp(results, "s0000", NOON)
    jobs = dict.fromkeys(("donors", "inversion", "blending", "checks", "outcomes", "embeddings"), 1)
    about = json.loads((results / ".lock").read_text()) | {"attempts": 1, "jobs": jobs}
    (results / ".lock").write_text(json.dumps(about))
    os.utime(results / ".lock", (NOON + HOUR,) * 2)
    status = read_status(results)
    assert len(status.through(Step("checks", 0))) == 1
    assert status.now()[0] == "donors, attempt 1"
    jobs = dict.fromkeys(jobs, 2)  # both attempts are made again
    (results / ".lock").write_text(json.dumps(about | {"jobs": jobs}))
    os.utime(results / ".lock", (NOON + HOUR,) * 2)
    assert read_status(results).now()[0] == "donors, attempt 0"


def test_a_damaged_table_is_named_and_left_alone(results):
    file = table(results, "s0000", "checks", 0)
    content = file.read_bytes()[:-9]
    file.write_bytes(content)
    stamp(results, "s0000", NOON + HOUR)
    done = CliRunner().invoke(app, ["status", str(results)])
    assert done.exit_code == 0
    assert "s0000/attempt-0/checks.parquet" in done.output
    assert file.read_bytes() == content


def test_a_folder_without_a_plan_is_a_clear_error(tmp_path):
    done = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert done.exit_code == 1
    assert "nothing is planned" in done.output
