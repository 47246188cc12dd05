"""The workflow through Snakemake: refusals before any job, growth, and what runs again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from snakemake_runs import jobs, snakemake

from deidlib import keys


@pytest.fixture
def noise(tmp_path):
    """Six patients with a small picture each, and a key: enough for plan and intake."""
    keys.write_new_key(tmp_path / "key")
    folder = tmp_path / "cohort"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (140, 150, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    write_sheet(folder, 6)
    return tmp_path


def write_sheet(folder: Path, patients: int) -> None:
    rows = [f"P{i}\tP{i}-a\t{i}.png\tyes" for i in range(patients)]
    (folder / "samples.tsv").write_text("\n".join(["patient_id\tphoto_id\tpath\tconsent", *rows]) + "\n")


def test_no_key_no_run(noise):
    done = snakemake(noise, cohort="cohort/samples.tsv")
    assert done.returncode != 0
    assert "deidlib keygen FILE" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (noise / "results").exists()


def test_a_wrong_setting_is_refused_before_any_job(noise):
    done = snakemake(noise, cohort="cohort/samples.tsv", key_file="key", preserve="nose")
    assert done.returncode != 0
    assert "preserve: 'nose' is not allowed; use one of teeth, mouth, lower_face" in done.stdout
    assert not (noise / "results").exists()
    done = snakemake(noise, key_file="key")
    assert done.returncode != 0
    assert "cohort: missing" in done.stdout


def test_a_generator_of_ones_own_has_to_be_there_with_its_bank_before_any_job(noise):
    given = {"cohort": "cohort/samples.tsv", "key_file": "key", "generator": "stylegan2"}
    done = snakemake(noise, environment={"DEIDLIB_MODELS_FILE": ""}, **given)
    assert done.returncode != 0
    assert "Register it in a file of your own and name that in models_file" in done.stdout
    entry = {"task": "t", "path": "w.safetensors", "sha256": "0" * 64, "licence": "l", "citation": "c", "use": "u"}
    (noise / "my.yaml").write_text(yaml.safe_dump({"stylegan2": entry}))
    done = snakemake(noise, models_file="my.yaml", **given)
    assert done.returncode != 0
    assert "run `deidlib donors build --generator stylegan2` once" in done.stdout
    assert not (noise / "results").exists()


def test_a_wrong_sheet_is_shown_with_line_and_mend(noise):
    sheet = noise / "cohort" / "samples.tsv"
    sheet.write_text(sheet.read_text().replace("consent", "consent\tview").replace("\tyes", "\tyes\tsideways"))
    done = snakemake(noise, cohort="cohort/samples.tsv", key_file="key")
    assert done.returncode != 0
    assert "samples.tsv, line 2, column view" in done.stdout
    assert "P0-a" not in done.stdout
    assert not (noise / "results" / "private" / "models.json").exists()


@pytest.mark.exhaustive
def test_a_grown_sheet_reruns_one_shard_and_a_changed_setting_what_depends_on_it(noise):
    given = {"cohort": "cohort/samples.tsv", "key_file": "key", "shards": 2}
    plan = Path("results/private/plan.json")
    assert snakemake(noise, plan, **given).returncode == 0
    shards = json.loads((noise / plan).read_text())["shards"]
    photos = [plan.parent / "shards" / shard / "photos.parquet" for shard in shards]
    assert snakemake(noise, *photos, **given).returncode == 0

    os.utime(noise / "cohort" / "samples.tsv")
    assert snakemake(noise, plan, **given).returncode == 0
    assert "Nothing to be done" in snakemake(noise, "--dry-run", *photos, **given).stdout

    (patient,) = patient_in(noise, shards)
    write_sheet(noise / "cohort", 6)
    with open(noise / "cohort" / "samples.tsv", "a") as sheet:
        sheet.write(f"{patient}\tnew\t6.png\tyes\n")
    assert snakemake(noise, plan, **given).returncode == 0
    assert json.loads((noise / plan).read_text())["shards"] == shards
    assert jobs(snakemake(noise, "--dry-run", *photos, **given).stdout) == {"intake": 1}
    assert snakemake(noise, *photos, **given).returncode == 0

    everything = jobs(snakemake(noise, "--dry-run", **given).stdout)
    assert "intake" not in everything
    assert everything["landmarks"] == everything["regions"] == len(shards)
    assert everything["donors"] == everything["inversion"] == everything["blending"] == 4 * len(shards)
    settings = noise / "my.yaml"
    settings.write_text(yaml.safe_dump(given | {"preset": {"landmarks": {"max_yaw": 20}}}))
    assert jobs(snakemake(noise, "--dry-run", *photos, "--configfile", settings).stdout) == {}
    settings.write_text(yaml.safe_dump(given | {"intake": {"min_side": 130}}))
    shown = jobs(snakemake(noise, "--dry-run", *photos, "--configfile", settings).stdout)
    assert shown == {"intake": len(shards)}


def patient_in(folder: Path, shards: list[str]) -> list[str]:
    """A patient of the first planned shard: a new photograph of theirs lands in that shard."""
    table = pq.read_table(folder / "results/private/shards" / shards[0] / "cohort.parquet", columns=["patient_id"])
    return table["patient_id"].to_pylist()[:1]


def test_inversion_and_sweep_ask_for_a_gpu_and_nothing_else_does(noise):
    given = {"cohort": "cohort/samples.tsv", "key_file": "key"}
    assert snakemake(noise, "results/private/plan.json", **given).returncode == 0
    for device, wanted in (("cuda", {"inversion", "sweep"}), ("cpu", set())):
        done = snakemake(noise, "--dry-run", device=device, **given)
        assert done.returncode == 0, done.stdout[-3000:]
        asked = dict(re.findall(r"^ *(?:local)?rule (\w+):\n(?: +[a-z].*\n)*? +resources: (.*)", done.stdout, re.M))
        assert {"intake", "reid", "release"} < set(asked)
        assert {rule for rule, resources in asked.items() if "gpu=1" in resources} == wanted


def test_a_second_run_in_the_same_results_is_refused(noise):
    (noise / "results").mkdir()
    hold = (
        "import fcntl, sys, time\nfile = open('results/.lock', 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(120)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], cwd=noise, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        done = snakemake(noise, "results/private/plan.json", cohort="cohort/samples.tsv", key_file="key")
        assert done.returncode != 0
        assert "Another run is working in results" in done.stdout
        assert not (noise / "results/private/plan.json").exists()
    finally:
        holder.kill()
        holder.wait()
    done = snakemake(noise, "results/private/plan.json", cohort="cohort/samples.tsv", key_file="key")
    assert done.returncode == 0, done.stdout
