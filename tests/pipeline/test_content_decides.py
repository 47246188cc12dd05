"""What runs again is decided by what sheet, photographs and masks hold, never by their dates."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from snakemake_runs import jobs, snakemake

from deidlib import keys

HEADER = "patient_id\tphoto_id\tpath\tconsent\n"
GIVEN = {"cohort": "cohort/samples.tsv", "key_file": "key", "shards": 1}
PLAN, PHOTOS = Path("results/private/plan.json"), Path("results/private/shards/s0000/photos.parquet")
OLD = 1_000_000_000


def write(path: Path, content: str | np.ndarray, date: float | None = None) -> None:
    if isinstance(content, str):
        path.write_text(content)
    else:
        Image.fromarray(content).save(path)
    if date is not None:
        os.utime(path, (date, date))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (140, 150, 3), dtype=np.uint8)


def rows(*consents: str) -> str:
    return HEADER + "".join(f"P{i}\tF{i}\t{i}.png\t{consent}\n" for i, consent in enumerate(consents))


@pytest.fixture(scope="module")
def read_once(tmp_path_factory):
    """Three patients of whom intake has read two photographs."""
    folder = tmp_path_factory.mktemp("read")
    keys.write_new_key(folder / "key")
    (folder / "cohort").mkdir()
    for i in range(3):
        write(folder / "cohort" / f"{i}.png", picture(i))
    write(folder / "cohort" / "samples.tsv", rows("yes", "yes", "no"))
    run(folder)
    return folder


@pytest.fixture
def cohort(read_once, tmp_path):
    """A copy of these, with Snakemake's records."""
    return shutil.copytree(read_once, tmp_path / "copy")


def run(folder: Path) -> dict[str, int]:
    """Plan, then intake; the jobs that ran."""
    done = snakemake(folder, PLAN, PHOTOS, **GIVEN)
    assert done.returncode == 0, done.stdout[-4000:]
    return jobs(done.stdout)


def photos(folder: Path) -> dict[str, dict]:
    return {row["patient_id"]: row for row in pq.read_table(folder / PHOTOS).to_pylist()}


def test_consent_withdrawn_in_an_older_sheet_is_obeyed(cohort):
    assert photos(cohort)["P0"]["status"] == "ok"
    write(cohort / "cohort" / "samples.tsv", rows("no", "yes", "no"), OLD)
    assert jobs(snakemake(cohort, "--dry-run", PLAN, **GIVEN).stdout) == {"plan": 1}
    run(cohort)
    found = photos(cohort)
    assert (found["P0"]["reason"], found["P0"]["image"]) == ("consent_missing", None)
    assert found["P1"]["status"] == "ok"


def test_a_photograph_replaced_under_its_name_and_date_is_seen(cohort):
    before = photos(cohort)
    write(cohort / "cohort" / "1.png", picture(9), OLD)
    run(cohort)
    after = photos(cohort)
    assert after["P1"]["pixels_sha256"] != before["P1"]["pixels_sha256"]
    assert after["P0"] == before["P0"]


def test_a_new_date_alone_runs_nothing_but_the_plan_and_a_future_one_does_so_once(cohort):
    future = time.time() + 1e6
    for name in ("samples.tsv", "0.png", "1.png"):
        os.utime(cohort / "cohort" / name, (future, future))
    assert "intake" not in run(cohort)
    done = snakemake(cohort, PLAN, PHOTOS, **GIVEN)
    assert "Nothing to be done" in done.stdout
    write(cohort / "cohort" / "samples.tsv", rows("no", "yes", "no"), future)
    run(cohort)
    assert photos(cohort)["P0"]["reason"] == "consent_missing"
