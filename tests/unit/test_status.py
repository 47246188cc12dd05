"""`deidlib status`: what a person sees of a run that is under way, from the results folder alone."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import datetime

import pytest
from shard_tables import Spec, write_private
from typer.testing import CliRunner

from deidlib.cli import app
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
    for shard, time in (("s0000", NOON + HOUR), ("s0001", NOON + 1.5 * HOUR)):
        os.utime(private / "shards" / shard / "attempt-0" / "faces.parquet", (time, time))
    return tmp_path


def test_photographs_are_counted_by_what_became_of_them(results):
    status = read_status(results)
    assert (status.photos, status.shards, status.passed) == (10, 3, 2)
    assert status.reasons == {"consent_missing": 1, "gate_failed": 1, "no_face": 1}
    assert status.decided == 5
    assert (status.stages["photos"].shards, status.stages["photos"].stopped) == (2, 1)
    assert (status.stages["checks 0"].photos, status.stages["checks 0"].stopped) == (4, 2)
    assert status.stages["faces 1"].shards == 1


def test_pace_and_end_come_from_the_finished_inversions(results):
    status = read_status(results)
    assert status.per_hour() == pytest.approx(6 / 1.5)
    assert status.ahead == 4
    with open(results / ".lock") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        told = page(read_status(results), datetime(2030, 5, 6, 14))
    assert "a run is going on" in told
    assert "4 photographs per hour" in told
    assert "2030-05-06 15:00, in 1.0 h" in told


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
