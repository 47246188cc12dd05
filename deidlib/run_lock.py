"""One run at a time in a results folder: a lock that ends with its process, and a search for left-over SLURM jobs.

Snakemake's own lock outlives a killed run and has to be removed by hand, so the profiles switch it off.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from deidlib.errors import InputError
from deidlib.logs import say
from deidlib.storage.results import Results


def hold_results(results: Path, about: Mapping[str, Any]) -> TextIO:
    """Keep every other run out of a results folder for as long as the file that is returned stays open.

    Parameters
    ----------
    results : Path
        The results folder; made where it is missing.
    about : mapping
        What ``deidlib status`` cannot see otherwise: ``attempts, identity, version``, and what the run will do.
        Written into the lock file.

    Raises
    ------
    InputError
        Another run works in the folder, or SLURM jobs of an earlier start do.
    """
    os.makedirs(results, exist_ok=True)
    lock = open(Results.of_folder(results).run_file, "a", encoding="utf-8")  # noqa: SIM115 (closing it gives the lock up)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InputError(f"Another run is working in {results}. Wait for it, or stop it.") from None
    except OSError:
        say(f"This file system has no locks: make sure that no other run works in {results}")
    refuse_slurm_jobs(Path.cwd())
    lock.truncate(0)
    json.dump(dict(about), lock)
    lock.flush()
    return lock


def last_run(results: Results) -> dict[str, Any]:
    """What the run that last worked in a results folder said of itself to :func:`hold_results`.

    Raises
    ------
    InputError
        No run worked there.
    """
    try:
        return dict(json.loads(results.run_file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise InputError("no run worked in this folder; name the results folder of a run") from None


def refuse_slurm_jobs(folder: Path) -> None:
    """Raise where SLURM jobs of an earlier start still work in a folder, or wait to.

    They would write the tables that this run writes, with the settings of their own start, whenever their turn comes.

    Raises
    ------
    InputError
        There are such jobs; the message names them.
    """
    if not shutil.which("squeue"):
        return
    asked = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i|%k|%Z"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        say("squeue does not answer: make sure that no SLURM job of an earlier start is left")
        return
    jobs = [line.split("|", 2) for line in asked.stdout.splitlines()]
    here = os.path.realpath(folder)
    left = " ".join(job for job, comment, place in jobs if comment.startswith("rule_") and place == here)
    if left:
        raise InputError(
            f"SLURM jobs of another start work in this folder, or wait to: {left}. If that start was killed, cancel "
            f"them (scancel {left}), wait until squeue shows them no more, and start again. If that start still "
            "runs (with other results), wait for it, or start this one from another folder."
        )
