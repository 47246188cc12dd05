"""`deidlib status`: what a person sees of a run that is under way, from the results folder alone."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from datetime import datetime

import pytest
from shard_tables import CONFIG, Spec, ids, outcomes_of, write_private
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.outcomes.outcomes import read_outcomes
from deidlib.review.decisions import append_decisions, now, parse
from deidlib.status import page, read_status

HOUR = 3600.0
NOON = datetime(2030, 5, 6, 12).timestamp()
FAILS = {"failed": ["seam"]}


@pytest.fixture
def results(tmp_path):
    """Three planned shards of which the last has not begun; of the first two, one is checked to the end."""
    specs = [
        Spec("A", "a1"),
        Spec("B", "b1", checks=(FAILS, {})),
        Spec("C", "c1", checks=(FAILS, FAILS)),
        Spec("D", "d1", stopped=("intake", "consent_missing")),
        Spec("E", "e1", shard="s0001"),
        Spec("F", "f1", stopped=("landmarks", "no_face"), shard="s0001"),
    ]
    private = tmp_path / "private"
    write_private(private, specs)
    (private / "shards" / "pinned.json").write_text(json.dumps({"n_shards": 3}))
    plan = {"shards": ["s0000", "s0001", "s0002"], "n_photos": 10, "n_shards": 3}
    (private / "plan.json").write_text(json.dumps(plan))
    (tmp_path / ".lock").write_text(json.dumps({"attempts": 2, "identity": "per_patient", "version": "1.0.0"}))
    for table in ("faces", "blended", "checks"):
        (private / "shards" / "s0001" / "attempt-1" / f"{table}.parquet").unlink()
    os.utime(private / "shards" / "pinned.json", (NOON, NOON))
    for table, time in (
        ("s0000/attempt-0", NOON + HOUR),
        ("s0001/attempt-0", NOON + 1.5 * HOUR),
        ("s0000/attempt-1", NOON + 2 * HOUR),
    ):
        os.utime(private / "shards" / table / "faces.parquet", (time, time))
    return tmp_path


def told(results, hour=14):
    """The page while a run is going on."""
    with open(results / ".lock") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        return page(read_status(results), datetime(2030, 5, 6, hour))


def test_photographs_are_counted_by_what_became_of_them(results):
    status = read_status(results)
    assert (status.photos, status.shards, status.passed) == (10, 3, 2)
    assert status.reasons == {"consent_missing": 1, "gate_failed": 1, "no_face": 1}
    assert status.decided == 5
    assert (status.stages["photos"].shards, status.stages["photos"].stopped) == (2, 1)
    assert (status.stages["checks 0"].photos, status.stages["checks 0"].stopped) == (4, 2)
    assert status.stages["faces 1"].shards == 1


def test_pace_and_end_count_all_attempts(results):
    # Shards of 4 and 2 photographs; the first attempt handled 3 + 1, the second 2 of the first shard's and none of the
    # second's, whose donors are chosen. 4 photographs wait in the shard that has not begun.
    status = read_status(results)
    assert status.per_hour() == pytest.approx((3 + 1 + 2) / 2)
    assert status.shares() == pytest.approx([4 / 6, 2 / 6])
    assert status.ahead() == pytest.approx(4 * 4 / 6 + 4 * 2 / 6)
    shown = told(results)
    assert "a run is going on" in shown
    assert "3 photographs per hour in the last day of work: 3 inversions, 1.00 a photograph" in shown
    assert "expected end of inversion, all attempts: 2030-05-06 15:20, in 1.3 h" in shown
    assert "so far went 33% to attempt 1\n" in shown
    assert "after it, not estimated: last blending and checks, embeddings, sweep, attacks, release, report" in shown


def test_photographs_that_are_known_to_go_on_are_not_estimated(results):
    (results / "private" / "shards" / "s0000" / "attempt-1" / "faces.parquet").unlink()
    status = read_status(results)
    assert status.shares() == pytest.approx([4 / 6, 2 / 6])
    assert status.ahead() == pytest.approx(4 * 4 / 6 + 2 + 4 * 2 / 6)


def test_an_attempt_that_no_shard_has_reached_is_left_out_and_named(results):
    for shard in ("s0000", "s0001"):
        shutil.rmtree(results / "private" / "shards" / shard / "attempt-1")
    shown = told(results)
    assert "expected end of inversion, the attempts that a shard has reached: 2030-05-06 15:00, in 1.0 h" in shown
    assert "not in it, since no shard has reached it: attempt 1\n" in shown
    assert "so far went" not in shown


def test_no_end_is_expected_of_a_run_that_is_not_going_on(results):
    assert "expected end" not in page(read_status(results), datetime(2030, 5, 6, 14))


def later(shown):
    """Lines of the stages after the attempts."""
    names = ("embeddings", "sweep", "attacks", "release", "report")
    return [line.split(maxsplit=1)[1] for line in shown.splitlines() if line.split()[:1] and line.split()[0] in names]


def test_the_stages_after_the_attempts_are_told_by_their_files(results):
    assert later(told(results)) == ["0/3", "not yet", "not yet", "not yet", "not yet"]
    private = results / "private"
    (private / "shards" / "s0000" / "embeddings.parquet").touch()
    assert later(told(results))[0] == "1/3"
    plan = {"shards": ["s0000"], "n_photos": 4, "n_shards": 3}
    (private / "plan.json").write_text(json.dumps(plan))
    (private / "reid").mkdir()
    (private / "reid" / "sweep.json").touch()
    assert later(told(results)) == ["1/1", "done", "not yet", "not yet", "not yet"]
    (private / "reid" / "attacks.json").touch()
    for version in ("0.9.0", "1.0.0"):
        assert later(told(results))[2:] == ["done", "not yet", "not yet"], "another version is another release"
        (results / "release" / version).mkdir(parents=True)
        (results / "release" / version / "SHA256SUMS").touch()
    assert later(told(results))[2:] == ["done", "done", "not yet"]
    (results / "report" / "1.0.0").mkdir(parents=True)
    (results / "report" / "1.0.0" / "audit.html").touch()
    assert later(told(results)) == ["1/1", "done", "done", "done", "done"]
    assert "releases: 0.9.0, 1.0.0" in told(results)


def test_what_is_there_before_its_inputs_is_of_an_earlier_run(results):
    (results / "private" / "reid").mkdir()
    (results / "private" / "reid" / "sweep.json").touch()
    assert later(told(results)) == ["0/3", "outdated", "not yet", "not yet", "not yet"]


def reviewed(folder, *kinds):
    """A results folder of one shard, three photographs passed; reviewers decided so on the first ones."""
    specs = [Spec("A", "a1", checks=({}, {}, {})), Spec("B", "b1"), Spec("C", "c1")]
    private = folder / "private"
    shards = write_private(private, specs, attempts=2, config=CONFIG | {"reviewers": 1})
    (private / "shards" / "pinned.json").write_text(json.dumps({"n_shards": 1}))
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
    assert "review: cannot be told: private/review/s0000.jsonl, line 1" in page(read_status(tmp_path), datetime.now())


def test_an_attempt_that_reviewers_asked_for_is_told(tmp_path):
    results = reviewed(tmp_path, "another_face")
    status = read_status(results)
    assert status.attempts == 2
    assert status.stages["faces 2"].of == 1
    assert status.finished == 0  # this attempt is still to be made
    assert (status.passed, status.decided) == (0, 0)
    shown = page(status, datetime(2030, 5, 6))
    assert re.search(r"inversion, attempt 2 +0/1 .*asked by reviewers\n", shown)
    write_private(results / "private", [Spec("A", "a1", checks=({}, {}, {})), Spec("B", "b1"), Spec("C", "c1")], 3)
    assert read_status(results).finished == 1


def test_a_damaged_table_is_named_and_left_alone(results):
    file = results / "private" / "shards" / "s0000" / "attempt-0" / "checks.parquet"
    content = file.read_bytes()[:-9]
    file.write_bytes(content)
    done = CliRunner().invoke(app, ["status", str(results)])
    assert done.exit_code == 0
    assert "s0000/attempt-0/checks.parquet" in done.output
    assert file.read_bytes() == content


def test_a_folder_without_a_plan_is_a_clear_error(tmp_path):
    done = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert done.exit_code == 1
    assert "nothing is planned" in done.output
