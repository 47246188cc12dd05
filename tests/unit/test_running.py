"""`deidlib run`: what is refused before it starts, what becomes of Snakemake, and what is said in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from shard_tables import CONFIG, Spec, outcomes_of, pseudonym, publish, verdict_on, write_private
from typer.testing import CliRunner

from deidlib import config, keys
from deidlib.cli import app
from deidlib.panel.study import PANEL, STUDY_FILE, Picture, Rater, Study, Trial, to_json
from deidlib.reid.verdicts import NOT_JUDGED, RELEASE, criterion
from deidlib.running import follow
from deidlib.running.ending import ending
from deidlib.running.preview import check_sheet, write_settings
from deidlib.running.shard import Shard
from deidlib.running.status import Status
from deidlib.storage.results import Results

FAILS = {"failed": ["seam"]}
HEADER = "patient_id\tphoto_id\tpath\tconsent\n"


@pytest.fixture(autouse=True)
def _umask(monkeypatch):
    monkeypatch.delenv("DEIDLIB_KEY_FILE", raising=False)
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A folder with a key and a sheet; Snakemake must not be started from here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(follow, "run", lambda *_: pytest.fail("the workflow was started"))
    keys.write_new_key(tmp_path / "key")
    (tmp_path / "samples.tsv").write_text(HEADER + "Miller\tMiller-a\ta.png\tyes\nMiller\tMiller-b\tb.png\tno\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_what_is_wrong_ends_the_run_before_it_starts(start):
    assert "deidlib keygen" in run("samples.tsv").output
    assert "no sample sheet" in run("other.tsv", "--key", "key").output
    assert "preserve: 'nose' is not allowed" in run("samples.tsv", "--key", "key", "--config", "preserve=nose").output
    assert "extra: not a setting" in run("samples.tsv", "extra").output
    (start / "my.yaml").write_text("key_file: key\n")
    assert "two key files" in run("samples.tsv", "--key", "key", "--configfile", "my.yaml").output
    assert not (start / "results").exists()
    (start / "samples.tsv").write_text(HEADER + "\tMiller-a\ta.png\tyes\n")
    done = run("samples.tsv", "--key", "key")
    assert done.exit_code == 1
    assert "line 2, column patient_id" in done.output
    assert "Miller" not in done.output


def test_results_of_another_start_folder_are_refused(start):
    """Their settings are on record there alone: a changed one would not be seen here."""
    (start / "results" / "private").mkdir(parents=True)
    (start / "results" / "private" / "plan.json").write_text("{}")
    assert "begun from another folder" in run("samples.tsv", "--key", "key").output


def test_a_run_begins_with_the_preview_and_keeps_what_it_read(start):
    words = check_sheet(Path("samples.tsv"), start / "results", {})
    assert "2 photographs of 1 patient" in words
    assert "no consent: 2 photographs" in words, "no row of a patient counts who did not consent in all of them"
    assert "no file at this path" in words
    assert "Miller" not in words
    assert (start / "results" / "private").stat().st_mode & 0o777 == 0o700


def test_settings_of_the_command_line_reach_the_workflow_privately(start, monkeypatch):
    given = {}

    def started(line, results, log, key_file):
        files = [Path(word) for word in line[line.index("--configfile") + 1 :]]
        given.update(config=config.load_config(files[-1]), key=key_file, line=line)
        return 1, True, ""

    monkeypatch.setattr(follow, "run", started)
    done = run(
        "samples.tsv",
        "--key",
        "key",
        "--config",
        "version=1.1.0",
        "release.k=3",
        "preset={inversion: {steps: 8}}",
        "--cores",
        3,
    )
    assert done.exit_code == 1
    assert (given["config"]["version"], given["config"]["release"]["k"]) == ("1.1.0", 3)
    assert (given["config"]["preset"]["inversion"]["steps"], given["key"]) == (8, Path("key"))
    assert "samples.tsv" not in " ".join(given["line"]), "Snakemake's log holds its command line"
    assert "goes on from here" in done.output


def test_settings_are_read_as_they_are_written_and_mistakes_are_told():
    assert config.nested(["a.b=1", "a.c=x", "d=[1, 2]"]) == {"a": {"b": 1, "c": "x"}, "d": [1, 2]}
    for wrong in (["a"], ["=1"], ["a=1", "a.b=2"], ["a={"]):
        with pytest.raises(config.ConfigError):
            config.nested(wrong)


def test_the_commands_settings_are_private(tmp_path):
    file = write_settings({"cohort": "samples.tsv"}, tmp_path)
    assert yaml.safe_load(file.read_text()) == {"cohort": "samples.tsv"}
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


SNAKEFILE = """
rule all:
    input: "good.txt", "bad.txt"
rule good:
    output: "good.txt"
    shell: "touch {output}"
rule bad:
    output: "bad.txt"
    shell: "echo what is wrong; false"
rule long:
    output: "long.txt"
    shell: "touch begun; sleep 311.25; touch {output}"
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small workflow: one rule that works, one that fails, one that takes long."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def snakemake(*targets):
    return [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going", *targets]


def test_the_exit_code_is_snakemakes_and_a_failed_stage_is_named_once(small, capsys):
    code, stopped, said = follow.run(snakemake(), small / "results", small / "logs" / "run.log", small / "key")
    assert (code, stopped) == (1, False)
    assert (small / "good.txt").exists()
    assert capsys.readouterr().err.count("stage bad failed") == 1
    assert said in (small / "logs" / "run.log").read_text()
    assert "what is wrong" in said
    assert (small / "logs" / "run.log").stat().st_mode & 0o777 == 0o600


def test_a_refusal_is_shown_without_what_snakemake_says_around_it():
    error = 'WorkflowError in file x.smk, line 9:\nno key is named\n  make one\n  File "x.smk", line 9, in refuse\n'
    said = f"Building DAG\n{error}"
    assert follow.refusal(said) == "no key is named\n  make one"
    assert follow.refusal("Error in rule bad:\n    jobid: 1\n") is None
    assert follow.refusal(f"Execute 1 jobs...\n{error}") is None, "it had begun: the last lines say how to go on"


def test_ctrl_c_ends_the_workflow_and_its_jobs(small):
    line = snakemake("long.txt")
    code = (
        "import sys\nfrom pathlib import Path\nfrom deidlib.running import follow\n"
        f"print(follow.run({line!r}, Path('results'), Path('run.log'), Path('key'))[:2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if (small / "begun").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert said.strip().endswith("True)")
    assert not (small / "long.txt").exists()
    assert not any(b"sleep\x00311.25" in _command_line(pid) for pid in os.listdir("/proc") if pid.isdigit())


def _command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def finished(tmp_path):
    """Make a results folder that was run to its end; returns what makes it with a verdict of the release gate."""

    def make(passed=True, **review):
        private = tmp_path / "private"
        settings = CONFIG | {"review": "optional", "reviewers": 1} | review
        specs = [Spec("A", "a1"), Spec("A", "a2"), Spec("B", "b1", stopped=("landmarks", "no_face"))]
        specs += [Spec("C", "c1", checks=(FAILS, FAILS))]
        shards = write_private(private, specs, config=settings)
        (private / "plan.json").write_text(json.dumps({"shards": shards, "n_photos": 4}))
        found = outcomes_of(private, shards, config=settings)
        Results(private).attacks.parent.mkdir()
        Results(private).attacks.write_text(json.dumps(verdict_on(found, passed)))
        return tmp_path, settings

    return make


def last_lines(results, settings):
    """The run's last lines after the commands from decide on."""
    publish(results, "1.0.0", settings)
    status = Status(4, shards=[Shard()], later={"release": "done", "report": "done"})
    return ending(results, "1.0.0", status, False, results / "logs" / "run.log")


def test_the_end_of_a_release_is_five_lines(finished):
    results, settings = finished()
    lines = last_lines(results, settings)
    assert len(lines) == 5
    assert "2 of 4 photographs, 1 patient, as version 1.0.0" in lines[0]
    assert "2 (1 no_face, 1 gate_failed)" in lines[1] or "2 (1 gate_failed, 1 no_face)" in lines[1]
    assert "gate passed; no person has looked" in lines[2]
    for place in ("release/1.0.0", "report/1.0.0/audit.html", "private/quarantine.tsv"):
        assert str(results / place) in lines[3]


def test_the_end_of_a_small_cohort_claims_no_pass(finished):
    results, settings = finished()
    file = Results(results / "private").attacks
    attacks = json.loads(file.read_text())
    attacks["gate"]["small_cohort"] = RELEASE
    attacks["gate"]["criteria"].append(criterion("rank1", "No more are found", None, 0, 2, NOT_JUDGED, small=True))
    file.write_text(json.dumps(attacks))
    lines = last_lines(results, settings)
    assert "as version 1.0.0" in lines[0]
    assert "too few patients for 1 criterion" in lines[2]
    assert "passed" not in lines[2]


def test_the_end_says_what_the_gate_forbids(finished):
    results, settings = finished(passed=False)
    lines = last_lines(results, settings)
    assert "0 of 4" in lines[0]
    assert "version" not in lines[0]
    assert "failed: No face is recognised. dlib: 3 of 9." in lines[2]
    assert str(results / "release") not in lines[3]


def test_the_end_asks_for_the_review_that_is_required(finished):
    results, settings = finished(review="required")
    lines = last_lines(results, settings)
    assert "2 photographs wait for a reviewer" in lines[2]
    assert f"deidlib review {results}" in lines[4]


def test_the_end_names_the_panel_studies_of_patients_who_withdrew(finished):
    """What lies in private/panel/ is removed by a person, who reads these lines and not the log of a stage."""
    results, settings = finished()
    study = Results(results / "private").panel / "spring"
    study.mkdir(parents=True)
    gone = pseudonym("photo", "D", "d1")
    picture = Picture("x.png", gone, "original")
    trial = Trial("t1", "rater-01", 1, "realism", False, None, gone, pseudonym("patient", "D"), "original", [picture])
    drawn = Study("0" * 16, {}, {"version": "1.0.0"}, [Rater("rater-01", PANEL, [])], [trial])
    (study / STUDY_FILE).write_text(to_json(drawn))
    lines = last_lines(results, settings)
    assert len(lines) == 6
    assert "panel study spring shows 1 photograph without" in lines[5]
    assert gone not in "".join(lines)


def test_an_unfinished_run_says_how_to_go_on(tmp_path):
    status = Status(10, shards=[Shard(photos=10, passed=3, reasons=Counter(no_face=1))])
    lines = ending(tmp_path, "1.0.0", status, True, tmp_path / "run.log")
    assert len(lines) == 5
    assert "1 (1 no_face)" in lines[1]
    assert "the run was stopped, 4 of 10" in lines[2]
    assert str(tmp_path / "run.log") in lines[3]
    assert "same command again" in lines[4]
    assert "a stage failed" in ending(tmp_path, "1.0.0", None, False, tmp_path / "run.log")[2]
