"""Below the release gate nothing leaves: no folder, every photograph held back, and the reason in words."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from shard_tables import CONFIG, Spec, write_private
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.outcomes.outcomes import read_outcomes
from deidlib.release import GateFailed, ReleaseError, obey_gate
from deidlib.release.gate import chosen_digest

FAILS = {"sface_cosine": 0.9, "failed": ["sface_cosine"]}
SPECS = [Spec("patient-one", "photo-one"), Spec("patient-two", "photo-two", checks=(FAILS, FAILS))]


@pytest.fixture
def private(tmp_path):
    return tmp_path / "private", write_private(tmp_path / "private", SPECS)


def verdict(private, passed, **changes):
    folder, shards = private
    outcomes = [o for s in shards for o in read_outcomes(folder, s, 2, CONFIG["checks"], CONFIG["identity"])]
    told = {"name": "x", "statement": "No face is recognised", "passed": passed, "note": "dlib: 3 of 9."}
    return {"gate": {"passed": passed, "criteria": [told]}, "inputs": {"chosen": chosen_digest(outcomes)}} | changes


def obey(private, attacks):
    obey_gate(*private, 2, CONFIG, attacks)


def test_a_kept_gate_changes_nothing(private):
    obey(private, verdict(private, True))
    assert not (private[0] / "crosswalk.parquet").exists()


def test_below_the_gate_every_photograph_is_held_back_with_the_reason(private):
    with pytest.raises(GateFailed, match="No face is recognised"):
        obey(private, verdict(private, False))
    crosswalk = pq.read_table(private[0] / "crosswalk.parquet").to_pylist()
    assert {row["photo_id"]: row["reason"] for row in crosswalk} == {
        "photo-one": "release_gate_failed",
        "photo-two": "gate_failed",
    }
    assert {(row["status"], row["path"]) for row in crosswalk} == {("quarantined", None)}
    with open(private[0] / "quarantine.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["reason"] for row in rows} == {"release_gate_failed", "gate_failed"}
    assert all(row["meaning"] for row in rows)


@pytest.mark.parametrize(
    "change",
    [
        {"gate": {"passed": True, "criteria": []}},
        {"gate": {}},
        {"inputs": {}},
        {"inputs": {"chosen": "another cohort's"}},
    ],
)
def test_no_verdict_or_one_on_other_photographs_is_refused(private, change):
    with pytest.raises(ReleaseError, match="deidlib reid"):
        obey(private, verdict(private, True) | change)
    with pytest.raises(ReleaseError, match="deidlib reid"):
        obey(private, {})


def test_a_criterion_that_failed_outweighs_the_verdict(private):
    attacks = verdict(private, True)
    attacks["gate"]["criteria"][0]["passed"] = None
    with pytest.raises(GateFailed):
        obey(private, attacks)


def test_the_command_writes_no_folder_and_says_what_failed(private, tmp_path):
    folder, shards = private
    (folder / "plan.json").write_text(json.dumps({"shards": shards}))
    (folder / "reid").mkdir()
    (folder / "reid" / "attacks.json").write_text(json.dumps(verdict(private, False)))
    settings = {"attempts": 2, "identity": CONFIG["identity"], "checks": CONFIG["checks"]}
    arguments = ["release", "--plan", folder / "plan.json", "--out", tmp_path / "release" / "1.0.0"]
    arguments += ["--failure-report", tmp_path / "report" / "1.0.0", "--config", json.dumps(settings)]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    assert "No face is recognised" in done.output
    assert "photo-one" not in done.output
    assert not list((tmp_path / "release").glob("*"))
    assert json.loads((tmp_path / "report" / "1.0.0" / "audit.json").read_text())["conclusion"]["passed"] is False
