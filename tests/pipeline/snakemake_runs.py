"""How the tests of the workflow run Snakemake, and read what it says and makes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from small_cohort import WIDE_BOUNDS

REPOSITORY = Path(__file__).resolve().parents[2]
#: Settings of a small whole run.
SETTINGS = {
    "shards": 1,
    "attempts": 2,
    "device": "cpu",
    "preset": {"inversion": {"steps": 4}, "checks": WIDE_BOUNDS},
    "reid": {"sweep_photos": 1},
    "release": {
        "k": 1,
        "columns": {"age": {"rule": "bin", "width": 10}, "ward": {"rule": "drop"}},
        "date": "2026-03-01",
    },
}


def snakemake(folder: Path, *arguments, environment=None, prefix=(), **options):
    """Run Snakemake in ``folder`` on this repository's Snakefile; ``options`` go to ``--config``."""
    given = [f"{key}={value}" for key, value in options.items()]
    return subprocess.run(
        [*prefix, *command(*arguments)] + (["--config", *given] if given else []),
        cwd=folder,
        env=dict(os.environ) | {"DEIDLIB_KEY_FILE": ""} | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def command(*arguments) -> list[str]:
    snakefile = str(REPOSITORY / "Snakefile")
    return [sys.executable, "-m", "snakemake", *map(str, arguments), "--cores", "2", "--snakefile", snakefile]


def without_network() -> list[str]:
    """Command prefix that leaves a process no network, loopback included; empty where this is not allowed."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-current-user", "--net"]):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL).returncode == 0:
            return prefix
    return []


def jobs(output: str) -> dict[str, int]:
    """Rule → number of jobs, from the table that Snakemake prints first."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", output, re.M | re.S)
    return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines()} if table else {}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
