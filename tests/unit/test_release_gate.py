"""Below the release gate nothing leaves: no folder, every photograph held back, and the reason in words."""

import csv
import json
import os

import pyarrow.parquet as pq
import pytest
from shard_tables import CONFIG, MODELS, Spec, publish, verdict_on, write_private

from deidlib.errors import GateFailed, ReleaseError
from deidlib.outcomes.outcomes import all_outcomes
from deidlib.release import dataset
from deidlib.release.decision import decide, obey, read_decision

FAILS = {"sface_cosine": 0.9, "failed": ["sface_cosine"]}
SPECS = [Spec("patient-one", "photo-one"), Spec("patient-two", "photo-two", checks=(FAILS, FAILS))]


@pytest.fixture
def private(tmp_path):
    return tmp_path / "private", write_private(tmp_path / "private", SPECS)


def verdict(private, passed):
    return verdict_on(list(all_outcomes(*private)), passed)


def test_a_kept_gate_releases_what_passed_its_own_checks(private):
    decision = decide(*private, verdict(private, True))
    obey(decision)
    assert (decision.release, decision.released, decision.held) == (True, 1, 1)
    assert read_decision(private[0]) == decision
    crosswalk = {row["photo_id"]: row for row in pq.read_table(private[0] / "crosswalk.parquet").to_pylist()}
    assert crosswalk["photo-one"]["status"] == "released"
    assert crosswalk["photo-one"]["path"].startswith("images/")
    assert crosswalk["photo-two"]["reason"] == "gate_failed"


def test_below_the_gate_every_photograph_is_held_back_with_the_reason(private):
    decision = decide(*private, verdict(private, False))
    with pytest.raises(GateFailed, match="No face is recognised"):
        obey(decision)
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
        decide(*private, verdict(private, True) | change)
    with pytest.raises(ReleaseError, match="deidlib reid"):
        decide(*private, {})


def test_a_criterion_that_failed_outweighs_the_verdict(private):
    attacks = verdict(private, True)
    attacks["gate"]["criteria"][0]["passed"] = None
    decision = decide(*private, attacks)
    with pytest.raises(GateFailed):
        obey(decision)


def test_the_command_writes_no_folder_and_says_what_failed(private, tmp_path):
    folder, shards = private
    (folder / "plan.json").write_text(json.dumps({"shards": shards}))
    (folder / "reid").mkdir()
    (folder / "reid" / "attacks.json").write_text(json.dumps(verdict(private, False)))
    settings = {"attempts": 2, "identity": CONFIG["identity"], "preset": CONFIG["preset"]}
    done = publish(tmp_path, "1.0.0", settings)
    assert done.exit_code == 1
    assert "No face is recognised" in done.output
    assert "photo-one" not in done.output
    assert not list((tmp_path / "release").glob("*"))
    assert json.loads((tmp_path / "report" / "1.0.0" / "audit.json").read_text())["conclusion"]["passed"] is False


@pytest.mark.parametrize("change", ["withdrawn", "in another row", "no row"])
def test_what_the_sheet_no_longer_consents_to_ends_the_release(private, tmp_path, change):
    folder, shards = private
    (folder / "plan.json").write_text(json.dumps({"shards": shards}))
    (folder / "reid").mkdir()
    (folder / "reid" / "attacks.json").write_text(json.dumps(verdict(private, True)))
    sheet, before = folder / "samples.tsv", (folder / "samples.tsv").stat()
    head, first, *others = sheet.read_text().splitlines()
    new = {
        "withdrawn": [first.removesuffix("yes") + "no", *others],
        "in another row": [first, *others, first.replace(first.split("\t")[1], "another").removesuffix("yes") + "no"],
        "no row": others,
    }[change]
    settings = {"attempts": 2, "identity": CONFIG["identity"], "preset": CONFIG["preset"]}
    sheet.write_text("\n".join([head, *new]) + "\n")
    os.utime(sheet, (before.st_atime, before.st_mtime - 10_000))
    refused = publish(tmp_path, "1.0.0", settings)
    assert refused.exit_code == 1
    assert "consent" in refused.output
    assert first.split("\t")[0] not in refused.output
    assert not list((tmp_path / "release").glob("*"))
    sheet.write_text("\n".join([head, first, *others]) + "\n")
    assert publish(tmp_path, "1.0.0", settings).exit_code == 0


def test_consent_is_looked_at_once_more_right_before_the_release_appears(private, tmp_path):
    folder, shards = private
    decide(folder, shards, verdict(private, True), CONFIG["release"]["columns"])
    looks = []

    def withdrawn_meanwhile():
        looks.append(1)
        if len(looks) == 2:
            raise ReleaseError("consent was withdrawn meanwhile")

    with pytest.raises(ReleaseError, match="meanwhile"):
        dataset.write_release(folder, tmp_path / "release", shards, "1.0.0", CONFIG, MODELS, look=withdrawn_meanwhile)
    assert not list((tmp_path / "release").glob("*"))
