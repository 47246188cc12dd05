"""One run at a time in a results folder, and none beside SLURM jobs of a start that was killed."""

import json
import os

import pytest

from deidlib.errors import InputError
from deidlib.run_lock import hold_results, refuse_slurm_jobs

ABOUT = {"attempts": 3, "identity": "per_patient", "version": "1.0.0"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No SLURM, whatever the machine has."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


def squeue(tmp_path, lines: list[str], code: int = 0):
    script = tmp_path / "bin" / "squeue"
    script.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n")
    script.chmod(0o755)


def test_a_second_run_is_refused_until_the_first_lets_go(tmp_path):
    results = tmp_path / "results of one clinic"
    first = hold_results(results, ABOUT)
    with pytest.raises(InputError, match="Another run is working"):
        hold_results(results, ABOUT)
    assert json.loads((results / ".lock").read_text()) == ABOUT
    first.close()
    hold_results(results, ABOUT | {"version": "1.1.0"}).close()
    assert json.loads((results / ".lock").read_text())["version"] == "1.1.0"


def test_jobs_of_an_earlier_start_in_this_folder_are_refused_and_named(tmp_path):
    here = os.path.realpath(tmp_path)
    squeue(tmp_path, [f"17|rule_inversion|{here}", f"18|rule_donors|{here}-other", f"19|my own work|{here}"])
    with pytest.raises(InputError, match="scancel 17") as caught:
        refuse_slurm_jobs(tmp_path)
    assert "18" not in str(caught.value)
    assert "19" not in str(caught.value)


def test_an_empty_queue_and_one_that_does_not_answer_let_the_run_start(tmp_path, capfd):
    squeue(tmp_path, [])
    refuse_slurm_jobs(tmp_path)
    squeue(tmp_path, ["slurm_load_jobs error"], code=1)
    refuse_slurm_jobs(tmp_path)
    assert "squeue does not answer" in capfd.readouterr().err
