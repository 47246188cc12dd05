"""A million photographs without the hardware: seconds and peak memory of everything that grows with the cohort.

make bench-scale
python tests/bench/scale.py --photos 1000000 --folder /tmp/deidlib-scale

The sheet is generated and its photographs do not exist (each is looked for, and is missing). Every part runs in a
process of its own, whose elapsed time and peak resident memory are printed: reading and checking the sheet; all of
`deidlib plan`; `snakemake --dry-run` on the planned shards; what a cluster job does before its stage begins (the SLURM
executor starts Snakemake twice in each: once to make the job step, once inside it); `deidlib status`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "a key for figures, not for patients: " + 40 * "0"
COLUMNS = ("patient_id", "photo_id", "path", "consent", "view", "timepoint", "age", "sex")


def write_sheet(path: Path, photos: int) -> None:
    """Three photographs a patient, a thousand a folder."""
    with open(path, "w", encoding="utf-8") as sheet:
        print(*COLUMNS, sep="\t", file=sheet)
        for i in range(photos):
            patient, file = f"PATIENT-{i // 3:07d}", f"photos/{i // 1000:04d}/{i:08d}.jpg"
            age, sex = 20 + i % 50, "FM"[i % 2]
            print(patient, f"PHOTO-{i:08d}", file, "yes", "frontal_smile", f"T{i % 3}", age, sex, sep="\t", file=sheet)


def measured(name: str, command: list, folder: Path, until: Path | None = None) -> None:
    """Run a command; print its seconds (till the file ``until`` appears, if given), its processor's, and peak MiB."""
    if until is not None:
        until.unlink(missing_ok=True)
    with open(folder / "bench.log", "w") as log:
        begun, seen = time.monotonic(), None
        process = subprocess.Popen([*map(str, command)], cwd=folder, stdout=log, stderr=log)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if until is not None and seen is None and until.exists():
                seen = time.monotonic()
            time.sleep(0.01)
        ended = time.monotonic()
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name} failed:\n{(folder / 'bench.log').read_text()[-3000:]}")
    own = usage.ru_utime + usage.ru_stime
    print(
        f"{name:52}{(seen or ended) - begun:9.1f} s, processor{own:9.1f} s{usage.ru_maxrss / 1024:9.0f} MiB", flush=True
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-scale"))
    given = parser.parse_args()
    folder = given.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "key").write_text(KEY)
    (folder / "key").chmod(0o600)
    (folder / "my.yaml").write_text("cohort: samples.tsv\nkey_file: key\n")
    write_sheet(folder / "samples.tsv", given.photos)
    print(f"{given.photos:,} photographs, a sheet of {(folder / 'samples.tsv').stat().st_size / 2**20:.0f} MiB")

    python, deidlib = sys.executable, [sys.executable, "-c", "from deidlib.cli import app; app()"]
    private = folder / "results" / "private"
    reading = "import sys; from deidlib.cohort import read_sheet; read_sheet(sys.argv[1])"
    measured("read and check the sheet", [python, "-c", reading, "samples.tsv"], folder)
    measured(
        "plan (read, check, deal to shards, write)",
        [*deidlib, "plan", "samples.tsv", private / "plan.json", "--key", "key"],
        folder,
    )
    shards = json.loads((private / "plan.json").read_text())["shards"]
    (private / "models.json").write_text("{}\n")
    snakemake = [python, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--configfile", "my.yaml"]
    measured(
        f"snakemake --dry-run, {len(shards):,} shards",
        [*snakemake, "--dry-run", "--quiet", "rules", "--cores", "2"],
        folder,
    )
    remote = [
        *(
            "--target-jobs",
            f"intake:shard={shards[0]}",
            "--allowed-rules",
            "intake",
            "--mode",
            "remote",
            "--cores",
            "all",
        ),
        *("--force", "--force-use-threads", "--target-files-omit-workdir-adjustment", "--max-inventory-time", "0"),
        *("--nolock", "--no-hooks", "--ignore-incomplete", "--latency-wait", "60"),
    ]
    log = folder / "results" / "logs" / "intake" / f"{shards[0]}.log"
    measured("one start of Snakemake in a job, till its stage begins", [*snakemake, *remote], folder, until=log)
    measured("deidlib status", [*deidlib, "status", "results"], folder)
    files = sum(len(names) for _, _, names in os.walk(folder / "results"))
    print(f"{files:,} files after planning and one stage of one shard")


if __name__ == "__main__":
    main()
