"""What SLURM and Snakemake cost a shard: one shard of some thousand through a SLURM of one node, job by job.

python tests/slurm/overhead.py [--folder /tmp/deidlib-overhead]    # root on Debian; a few minutes

Patients with nearly one photograph, about one in each shard; everything up to one shard's embeddings is made. Prints,
for every job: from its submission to its start, from its start to the birth of its first stage's log, its stages (their
benchmarks), all else. And the controller's processor time while jobs ran, and the largest Snakemake of a job.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))
from PIL import Image  # noqa: E402
from small_cohort import write_cohort  # noqa: E402

CLUSTER = REPOSITORY / "tests" / "slurm" / "cluster.sh"
SITE = [
    *("--workflow-profile", REPOSITORY / "workflow" / "profiles" / "slurm", "--max-threads", "2"),
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
]
_KEPT = re.compile(r"^(Rss|Private_Clean|Private_Dirty):\s+(\d+) kB", re.M)
PATIENTS = 1600  # dealt to as many shards, of which some thousand get one or more


def write_patients(folder: Path) -> Path:
    """The small cohort with many patients, whose photographs differ by a comment alone."""
    settings = write_cohort(folder, patients=1, shards=PATIENTS)
    portrait = io.BytesIO()
    Image.open(folder / "cohort" / "0.png").save(portrait, "JPEG", quality=90)
    start, rest = portrait.getvalue()[:2], portrait.getvalue()[2:]
    for i in range(PATIENTS):
        (folder / "cohort" / f"{i}.jpg").write_bytes(start + b"\xff\xfe" + struct.pack(">HI", 6, i) + rest)
    rows = [f"P{i}\tP{i}-a\t{i}.jpg\tyes" for i in range(PATIENTS)]
    (folder / "cohort" / "samples.tsv").write_text("\n".join(["patient_id\tphoto_id\tpath\tconsent", *rows]) + "\n")
    return settings


def started(arguments: list, folder: Path) -> subprocess.Popen:
    """Start Snakemake; what it says is added to snakemake.log."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", *arguments]
    with open(folder / "snakemake.log", "a") as log:
        return subprocess.Popen(list(map(str, command)), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def processor(pid: int) -> float:
    """Seconds of processor that a process used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of_jobs(controller: int, folder: Path) -> tuple[float, float]:
    """MiB of the Snakemakes that work in a folder now, but for the controller: peak of the largest, and all together.

    Together they need what each has to itself, and once what they share with others: the libraries that they map.
    """
    peak, own, shared = 0.0, 0, [0]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) == controller or Path(os.readlink(entry / "cwd")) != folder:
                continue
            if b"snakemake" in (entry / "cmdline").read_bytes().split(b"\0")[1:3]:
                peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", (entry / "status").read_text())[1]) / 1024)
                kept = {name: int(kb) for name, kb in _KEPT.findall((entry / "smaps_rollup").read_text())}
                private = kept["Private_Clean"] + kept["Private_Dirty"]
                own += private
                shared.append(kept["Rss"] - private)
        except (OSError, TypeError, KeyError):
            continue
    return peak, (own + max(shared)) / 1024


def watched(process: subprocess.Popen, folder: Path) -> tuple[float, float, float, float]:
    """Wait for the controller; seconds of processor and clock from the first job on, and the jobs' peaks in MiB."""
    begun = used = last = peak = together = 0.0
    while process.poll() is None:
        largest, all_of_them = memory_of_jobs(process.pid, folder)
        peak, together = max(peak, largest), max(together, all_of_them)
        try:
            last = processor(process.pid)
        except OSError:
            break
        if not begun and peak:
            begun, used = time.monotonic(), last
        time.sleep(0.2)
    if process.wait():
        sys.exit("the run failed; its snakemake.log says why")
    return last - used, time.monotonic() - begun, peak, together


def job_line(job: str, name: str, folder: Path, shard: str) -> tuple[str, float, float, float, float]:
    """Name, and seconds: waiting, from start to the first stage, the stages, all else."""
    told = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, check=True)
    shown = dict(word.split("=", 1) for word in told.stdout.split() if "=" in word)
    submit, start, end = (
        datetime.fromisoformat(shown[key]).timestamp() for key in ("SubmitTime", "StartTime", "EndTime")
    )
    births, seconds = [], 0.0
    for log in (folder / "results" / "logs").glob(f"*/{shard}*.log"):
        born = float(subprocess.run(["stat", "--format=%.W", log], capture_output=True, text=True, check=True).stdout)
        if start <= born <= end + 1:
            births.append(born)
            kept = folder / "results" / "logs" / "benchmarks" / log.parent.name / f"{log.stem}.tsv"
            seconds += float(kept.read_text().splitlines()[1].split("\t")[0])
    return name, start - submit, min(births) - start, seconds, end - start - (min(births) - start) - seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-overhead"))
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = ["--configfile", write_patients(folder / "given")]
    if subprocess.run([CLUSTER, "start", folder / "slurm"], check=False).returncode:
        sys.exit("no SLURM")
    try:
        ready = ["results/private/plan.json", "results/private/models.json"]
        started([*ready, "--cores", "2", *settings], folder).wait()
        shards = json.loads((folder / ready[0]).read_text())["shards"]
        target = f"results/private/shards/{shards[0]}/embeddings.parquet"
        load = os.getloadavg()
        used, clock, peak, together = watched(started([target, *SITE, *settings], folder), folder)
        found = re.findall(
            r"submitted with SLURM jobid (\d+) \(log: \S+/(?:group|rule)_([a-z_]+)/",
            (folder / "snakemake.log").read_text(),
        )
        lines = [job_line(job, name, folder, shards[0]) for job, name in found]
    finally:
        subprocess.run([CLUSTER, "stop", folder / "slurm"], check=False)
    print(f"{len(shards):,} shards; load {load[0]:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")
    print(f"{'job':42}{'waits':>9}{'to stage':>9}{'stages':>9}{'else':>9}   seconds")
    for name, *seconds in lines:
        print(f"{name:42}" + "".join(f"{value:9.1f}" for value in seconds))
    totals = [sum(values) for values in list(zip(*lines, strict=True))[1:]]
    print(f"{'the shard':42}" + "".join(f"{value:9.1f}" for value in totals))
    print(
        f"controller: {used:.1f} s of processor in {clock:.1f} s ({used / clock:.1%} of a core) from the first job on"
    )
    print(f"largest Snakemake of a job: {peak:.0f} MiB; all Snakemakes of the job at once: {together:.0f} MiB")


if __name__ == "__main__":
    main()
