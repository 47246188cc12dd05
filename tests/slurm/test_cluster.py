"""The workflow through SLURM (a real one, of one node) gives the bytes that it gives without."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_cohort import contents, write_cohort

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = Path(__file__).parent / "cluster.sh"
PROFILE = REPOSITORY / "workflow" / "profiles" / "slurm" / "config.yaml"
#: A cluster of two processors, and no long waits.
HERE = ["--max-threads", "2", "--slurm-init-seconds-before-status-checks", "2"]
#: The profile's site settings, filled in for the cluster that cluster.sh starts.
SITE = {"GPU_PARTITION": "gpus", "GPU_TYPE": "model", "PARTITION": "main", "FEATURE": "kind"}
SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+) \(log: \S+/(?:group|rule)_([a-z0-9_]+)/")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    started = subprocess.run([CLUSTER, "start", folder], capture_output=True, text=True, check=False)
    if started.returncode == 77:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    yield folder
    subprocess.run([CLUSTER, "stop", folder], check=True)


def site_profile(folder: Path) -> Path:
    """A copy of the profile as a site would make it: every setting uncommented and filled in (but the account)."""
    text = re.sub(r"^( *)# ( *(?:- )?[\w-]+(?:=\w+|:(?: \w+)?))$", r"\1\2", PROFILE.read_text(), flags=re.M)
    text = re.sub(r"^ *- slurm_account=.*\n", "", text, flags=re.M)
    for name, value in SITE.items():
        assert name in text
        text = text.replace(name, value)
    # What `device: cuda` asks for; the jobs themselves run on the processor here.
    text = text.replace("    gpu_model: model\n", "    gpu_model: model\n    gpu: 1\n")
    folder.mkdir()
    (folder / "config.yaml").write_text(text)
    return folder


def start(folder: Path, *arguments) -> subprocess.Popen:
    """Start Snakemake in a session of its own; what it says goes to snakemake.log in the folder."""
    folder.mkdir(exist_ok=True)
    with open(folder / "snakemake.log", "w") as log:
        return subprocess.Popen(
            [*map(str, [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", *arguments])],
            cwd=folder,
            env=dict(os.environ) | {"DEIDLIB_KEY_FILE": ""},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def said(folder: Path) -> str:
    return (folder / "snakemake.log").read_text()


def wait_for(what, process: subprocess.Popen, folder: Path, seconds: float = 600):
    """What ``what()`` gives as soon as it gives something, while Snakemake runs."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, said(folder)[-6000:]
        assert time.monotonic() < until, said(folder)[-6000:]
        time.sleep(0.05)
    return found


def stage(command: str, folder: Path) -> list[int]:
    """Processes `deidlib COMMAND` that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if Path(os.readlink(entry / "cwd")) == folder and command.encode() in words[1:3]:
                found += [int(entry.name)] if Path(os.fsdecode(words[1])).name == "deidlib" else []
        except (OSError, IndexError):
            continue
    return found


def queued() -> list[str]:
    asked = ["squeue", "--noheader", "--format=%i"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def shown(job: str) -> dict[str, str]:
    """What `scontrol show job` says of a job."""
    asked = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, check=True)
    return dict(word.split("=", 1) for word in asked.stdout.split() if "=" in word)


def memory_and_time(job: str) -> tuple[int, str]:
    """What a job asked for: MB of memory, and time."""
    told = shown(job)
    amount, unit = re.fullmatch(r"([\d.]+)([MG])", told["MinMemoryNode"]).groups()
    return round(float(amount) * {"M": 1, "G": 1024}[unit]), told["TimeLimit"]


def test_a_cluster_gives_the_same_release_as_one_machine(cluster, model_files, tmp_path):
    """… with every site setting in use, after a controller that was killed, and though a stage is killed as well."""
    model_files("mobilestylegan")
    settings = write_cohort(tmp_path, patients=3, shards=2)
    folder = tmp_path / "slurm"
    arguments = ("--workflow-profile", site_profile(tmp_path / "site"), *HERE, "--configfile", settings)

    # A killed controller leaves its jobs in the queue: the next start refuses to work beside them.
    process = start(folder, *arguments)
    try:
        wait_for(lambda: SUBMITTED.search(said(folder)), process, folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left = queued()
    assert left
    assert start(folder, *arguments).wait() != 0
    refusal = r"SLURM jobs of another start .*: [\d ]+\. If that start was killed, cancel them \(scancel [\d ]+\)"
    assert re.search(refusal, said(folder))
    assert set(left) & set(re.search(r"scancel ([\d ]+)\)", said(folder))[1].split())
    subprocess.run(["scancel", *left], check=True)
    while queued():
        time.sleep(0.2)

    # What the kernel does where memory runs out, to the first inversion.
    process = start(folder, *arguments)
    try:
        os.kill(wait_for(lambda: stage("invert", folder), process, folder)[0], signal.SIGKILL)
        assert process.wait() == 0, said(folder)[-6000:]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    told = said(folder)
    assert start(tmp_path / "local", "--cores", "2", "--configfile", settings).wait() == 0, said(tmp_path / "local")
    for part in ("release", "report"):
        there, here = (contents(tmp_path / place / "results" / part) for place in ("slurm", "local"))
        assert there.keys() == here.keys()
        assert there
        assert [name for name in there if there[name] != here[name]] == []

    # Two shards of two attempts: the short stages go together, and inversion and sweep ask for a GPU.
    submitted = SUBMITTED.findall(told)
    assert sorted(name for _, name in submitted) == sorted(
        2 * ["prepare_donors_intake_landmarks_regions"]
        + 2 * ["judge_0_blending_checks_donors"]
        + 2 * ["judge_1_blending_checks"]
        + 5 * ["inversion"]  # one of them again
        + 2 * ["embed_embeddings_outcomes"]
        + ["decide", "reid", "release", "report", "sweep"]
    )
    for job, name in submitted:
        asked, gpu = shown(job), name in ("inversion", "sweep")
        assert (asked.get("TresPerJob") == "gres:gpu:model:1") == gpu, name
        assert asked["Partition"] == ("gpus" if gpu else "main")
        assert asked["Features"] == "kind"
    inversions = [memory_and_time(job) for job, name in submitted if name == "inversion"]
    assert sorted(inversions) == 4 * [(10000, "12:00:00")] + [(20000, "1-00:00:00")]
