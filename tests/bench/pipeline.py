"""Cost of every stage per photograph, and the share of Snakemake, over cohorts of growing size.

python tests/bench/pipeline.py 10 100 1000 --folder /tmp/deidlib-pipeline

Each size is a whole run on one core, so that stages do not overlap: cuts of one portrait, one attempt, one step of
inversion on the small image and none at full size (the cheapest that the generator can be), shards of about 50.
Seconds of a stage are those of its process, from Snakemake's benchmark files; what is left of the run's time is
Snakemake's. A stage's start (imports, models) is paid once a shard and is part of its cost.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))
from small_cohort import write_cohort  # noqa: E402

STAGES = ("intake", "landmarks", "regions", "donors", "inversion", "blending", "checks", "release", "report")
SHARD = 50


def costs(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of every rule, summed over its jobs, and the largest resident memory of one, MiB."""
    seconds, memory = defaultdict(float), defaultdict(float)
    benchmarks = folder / "results" / "logs" / "benchmarks"
    for file in benchmarks.rglob("*.tsv"):
        stage = file.parent.name if file.parent != benchmarks else file.stem
        with open(file, newline="") as rows:
            for row in csv.DictReader(rows, delimiter="\t"):
                seconds[stage] += float(row["s"])
                memory[stage] = max(memory[stage], float(row["max_rss"]) if row["max_rss"] not in ("-", "NA") else 0)
    return seconds, memory


def run(folder: Path, photos: int) -> None:
    """One cohort, one line of the table."""
    shutil.rmtree(folder, ignore_errors=True)
    inversion = {"steps": 1, "refine_steps": 0}
    given = write_cohort(folder, photos, max(1, math.ceil(photos / SHARD)), attempts=1, inversion=inversion)
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--cores", "1"]
    begun = time.monotonic()
    with open(folder / "run.log", "w") as log:
        done = subprocess.run(
            [*map(str, command), "--configfile", str(given)], cwd=folder, stdout=log, stderr=log, check=False
        )
    wall = time.monotonic() - begun
    if done.returncode:
        sys.exit((folder / "run.log").read_text()[-3000:])
    seconds, memory = costs(folder)
    files = sum(len(names) for _, _, names in os.walk(folder / "results" / "private"))
    own = wall - sum(seconds.values())
    cells = [f"{1000 * seconds[stage] / photos:8.0f}" for stage in STAGES]
    print(f"{photos:6}", *cells, f"{1000 * wall / photos:8.0f}{own / wall:8.0%}{files:7}", flush=True)
    print(" MiB  ", *(f"{memory[stage]:8.0f}" for stage in STAGES), flush=True)


def main() -> None:
    """Print the table: milliseconds per photograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-pipeline"))
    given = parser.parse_args()
    print("photos", *(f"{stage[:8]:>8}" for stage in STAGES), f"{'all':>8}{'own':>8}{'files':>7}")
    print(
        "(milliseconds of a stage per photograph; all: of the whole run; own: Snakemake's share of it; files: private)"
    )
    for photos in given.photos:
        run(given.folder, photos)


if __name__ == "__main__":
    main()
