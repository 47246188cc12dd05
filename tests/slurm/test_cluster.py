"""The workflow through SLURM (a real one, of one node) gives the bytes that it gives without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_cohort import contents, write_cohort

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = Path(__file__).parent / "cluster.sh"
#: What a cluster without accounting, and with two processors, needs besides the profile; and no long waits.
SITE = [
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
    *("--max-threads", "2", "--set-resources", "inversion:gpu=1"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    started = subprocess.run([CLUSTER, "start", folder], capture_output=True, text=True, check=False)
    if started.returncode == 77:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    yield folder
    subprocess.run([CLUSTER, "stop", folder], check=True)


def snakemake(folder: Path, *arguments) -> str:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", *arguments],
        cwd=folder,
        env=dict(os.environ) | {"DEIDLIB_KEY_FILE": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_a_cluster_gives_the_same_release_as_one_machine(cluster, model_files, tmp_path):
    model_files("mobilestylegan")
    settings = write_cohort(tmp_path, patients=3, shards=2)
    profile = REPOSITORY / "workflow" / "profiles" / "slurm"
    told = snakemake(tmp_path / "slurm", "--workflow-profile", profile, *SITE, "--configfile", settings)
    snakemake(tmp_path / "local", "--cores", "2", "--configfile", settings)
    for part in ("release", "report"):
        there, here = (contents(tmp_path / place / "results" / part) for place in ("slurm", "local"))
        assert there.keys() == here.keys()
        assert there
        assert [name for name in there if there[name] != here[name]] == []

    # Two shards of two attempts: the short stages go together, and only inversion asks for a GPU.
    submitted = re.findall(r"submitted with SLURM jobid (\d+) \(log: \S+/(?:group|rule)_([a-z_]+)/", told)
    stages = sorted(name for _, name in submitted)
    assert stages == sorted(
        2 * ["prepare_donors_intake_landmarks_regions"]
        + 2 * ["judge_blending_checks_donors"]
        + 2 * ["judge_blending_checks"]
        + 4 * ["inversion"]
        + 2 * ["embeddings"]
        + ["reid", "release", "report", "sweep"]
    )
    asked = {name: gpus(job) for job, name in submitted}
    assert {name for name, wants in asked.items() if wants} == {"inversion"}


def gpus(job: str) -> bool:
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    return "gres:gpu:1" in shown
