"""The command line: what a user types, sees and gets as exit code; what stays private; what stays unimported."""

from __future__ import annotations

import importlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from shard_tables import Spec, publish, write_private
from typer.testing import CliRunner

from deidlib import keys, logs
from deidlib.cli import app
from deidlib.cli.common import add, group
from deidlib.storage import tables

HEAVY = ("torch", "mediapipe", "cv2", "dlib")


@pytest.fixture(autouse=True)
def _umask_and_environment(monkeypatch):
    """Commands narrow the umask of their process; give the next test the usual one."""
    monkeypatch.delenv("DEIDLIB_KEY_FILE", raising=False)
    monkeypatch.delenv("DEIDLIB_DEBUG", raising=False)
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def key_file(tmp_path):
    keys.write_new_key(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def sheet(tmp_path):
    """Eight patients with a small photograph each."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(9):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 256, (160, 160, 3), dtype=np.uint8))
    write_sheet(folder / "samples.tsv", range(8))
    return folder / "samples.tsv"


def write_sheet(path: Path, patients) -> None:
    rows = [f"Miller{i}\tMiller{i}-a\t{i}.png\tyes" for i in patients]
    path.write_text("\n".join(["patient_id\tphoto_id\tpath\tconsent", *rows]) + "\n")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def commands(application: typer.Typer, prefix=()):
    for info in application.registered_commands:
        yield (*prefix, info.name)
    for info in application.registered_groups:
        yield from commands(info.typer_instance, (*prefix, info.name))


def imported_by(*arguments) -> set[str]:
    """Heavy libraries that a command has imported when it ends."""
    code = (
        "import sys\nfrom deidlib.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_every_command_has_help_with_an_example():
    names = list(commands(app))
    assert {("intake",), ("donors", "build"), ("models", "fetch"), ("verify",), ("demo-cohort",)} <= set(names)
    for name in names:
        shown = run(*name, "--help")
        assert shown.exit_code == 0
        assert f"Example:\n    deidlib {' '.join(name)}" in shown.output, name


def test_help_is_quick_because_nothing_heavy_is_imported():
    assert imported_by("--help") == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("landmarks", "--photos", "p"),
        ("no-such-command",),
        ("landmarks", "--photos", "p", "--out", "o", "--options", "not json"),
        ("landmarks", "--photos", "p", "--out", "o", "--options", "[1]"),
        ("landmarks", "--photos", "p", "--out", "o", "--options", '{"max_yaww": 3}'),
        ("regions", "--photos", "p", "--landmarks", "l", "--out", "o", "--preserve", "nose"),
        (
            "invert",
            *["--photos", "p", "--landmarks", "l", "--regions", "r", "--donors", "d", "--out", "o", "--device", "tpu"],
        ),
        ("donors", "choose", *["--photos", "p", "--landmarks", "l", "--regions", "r", "--out", "o", "--attempt", "1"]),
        (
            "release",
            "--plan",
            "plan.json",
            "--sheet",
            "samples.tsv",
            "--out",
            "release/1.0.0",
            "--config",
            '{"attempts": 0}',
        ),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(arguments):
    shown = run(*arguments)
    assert shown.exit_code == 2
    assert "Error" in shown.output
    assert "Traceback" not in shown.output


def test_no_key_no_run(sheet, tmp_path):
    shown = run("plan", sheet, tmp_path / "private" / "plan.json")
    assert shown.exit_code == 1
    assert "deidlib keygen" in shown.output
    assert not (tmp_path / "private").exists()


def test_keygen_makes_a_key_that_works_and_never_overwrites(tmp_path, sheet):
    os.umask(0)
    assert run("keygen", tmp_path / "new.key").exit_code == 0
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600
    content = (tmp_path / "new.key").read_bytes()
    assert run("keygen", tmp_path / "new.key").exit_code == 1
    assert (tmp_path / "new.key").read_bytes() == content
    plan = tmp_path / "results/private/plan.json"
    assert run("plan", sheet, plan, "--key", tmp_path / "new.key").exit_code == 0


def test_a_key_inside_the_results_is_refused(tmp_path, sheet):
    keys.write_new_key(tmp_path / "results" / "private" / "key")
    shown = run("plan", sheet, tmp_path / "results/private/plan.json", "--key", tmp_path / "results/private/key")
    assert shown.exit_code == 1
    assert "inside the results" in shown.output


def test_a_plan_tells_the_preview_first_and_screens_what_is_released(tmp_path, key_file, sheet):
    plan = tmp_path / "results/private/plan.json"
    shown = run("plan", sheet, plan, "--key", key_file)
    assert "8 photographs of 8 patients, 8 ready" in shown.output
    sheet.write_text(sheet.read_text().replace("consent", "consent\tnote").replace("\tyes", "\tyes\tmiller-3"))
    assert run("plan", sheet, plan, "--key", key_file).exit_code == 0
    kept = json.dumps({"release": {"columns": {"note": {"rule": "keep"}}}})
    assert run("plan", sheet, plan, "--key", key_file, "--config", kept).exit_code == 0  # eight share it: a category
    sheet.write_text(sheet.read_text().replace("miller-3", "of miller 3", 1))
    shown = run("plan", sheet, plan, "--key", key_file, "--config", kept)
    assert shown.exit_code == 1
    assert "line 2, column note" in shown.output
    assert "iller" not in shown.output


def test_a_wrong_sheet_is_reported_with_file_and_line_and_no_id(tmp_path, key_file, sheet):
    sheet.write_text(sheet.read_text().replace("consent", "consent\tage").replace("\tyes", "\tyes\told"))
    shown = run("plan", sheet, tmp_path / "results/private/plan.json", "--key", key_file)
    assert shown.exit_code == 1
    assert "samples.tsv, line 2, column age" in shown.output
    assert "Miller" not in shown.output
    assert "Traceback" not in shown.output


def test_a_grown_sheet_touches_one_shard_and_a_withdrawn_patient_leaves_nothing(tmp_path, key_file, sheet):
    plan = tmp_path / "results/private/plan.json"
    arguments = ("plan", sheet, plan, "--key", key_file, "--shards", 4)
    write_sheet(sheet, range(7))
    assert run(*arguments).exit_code == 0
    shards = plan.parent / "shards"
    before = {file: file.stat().st_mtime_ns for file in shards.rglob("cohort.parquet")}
    write_sheet(sheet, range(8))
    assert run(*arguments).exit_code == 0
    after = {file: file.stat().st_mtime_ns for file in shards.rglob("cohort.parquet")}
    assert len(set(after.items()) - set(before.items())) == 1

    one_shard = json.loads(plan.read_text())["shards"][0]
    (shards / one_shard / "photos.parquet").write_bytes(b"decoded photographs")
    patients = tables.read(shards / one_shard / "cohort.parquet", tables.COHORT, ["patient_id"])
    gone = {int(name.removeprefix("Miller")) for name in patients["patient_id"].to_pylist()}
    write_sheet(sheet, set(range(8)) - gone)
    assert run(*arguments).exit_code == 0
    assert not (shards / one_shard).exists()
    assert one_shard not in json.loads(plan.read_text())["shards"]


def test_private_files_are_private_under_any_umask(tmp_path, key_file, sheet):
    os.umask(0)
    private = tmp_path / "results" / "private"
    (private / "shards" / "s0000").mkdir(parents=True)  # as Snakemake makes them: open to all
    assert run("plan", sheet, private / "plan.json", "--key", key_file, "--shards", 1).exit_code == 0
    os.umask(0)
    shard = private / "shards" / "s0000"
    shard.chmod(0o777)
    arguments = ("--cohort", shard / "cohort.parquet", "--sheet", sheet, "--out", shard / "photos.parquet")
    shown = run("intake", *arguments, "--key", key_file)
    assert shown.exit_code == 0
    assert "Miller" not in shown.output
    assert tables.handled(tables.read(shard / "photos.parquet", tables.PHOTOS)).num_rows == 8
    for path in [private, *private.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_stages_without_work_write_their_empty_table_and_import_nothing_heavy(tmp_path):
    def empty(name: str) -> Path:
        path = tmp_path / f"{name.lower()}.parquet"
        tables.write(getattr(tables, name).empty_table(), path, getattr(tables, name))
        return path

    keys.write_new_key(tmp_path / "key")
    photos, landmarks, regions, donors = (empty(n) for n in ("PHOTOS", "LANDMARKS", "REGIONS", "DONORS"))
    faces, blended, checks = (empty(n) for n in ("FACES", "BLENDED", "CHECKS"))
    given = ("--photos", photos, "--landmarks", landmarks, "--regions", regions)
    again = ("--attempt", 1, "--key", tmp_path / "key")
    calls = {
        "LANDMARKS": ("landmarks", "--photos", photos),
        "REGIONS": ("regions", "--photos", photos, "--landmarks", landmarks),
        "DONORS": ("donors", "choose", checks, donors, faces, *given, *again),
        "FACES": ("invert", *given, "--donors", donors),
        "BLENDED": ("blend", *given, "--faces", faces),
        "CHECKS": ("check", "--photos", photos, "--regions", regions, "--faces", faces, "--blended", blended),
    }
    for schema, arguments in calls.items():
        out = tmp_path / "out" / f"{schema}.parquet"
        assert imported_by(*arguments, "--out", out) == set(), schema
        assert tables.read(out, getattr(tables, schema)).num_rows == 0


def test_what_goes_on_needs_no_network_to_get_its_donor_again(tmp_path):
    photo = {"release_photo_id": "a", "release_patient_id": "p", "route": "generate", "status": tables.OK}
    made = {**photo, "donor_id": "d", "attempt": 0, "w": [1.0], "latent": [2.0], "passed": False, "failed": ["seam"]}
    for name in ("PHOTOS", "LANDMARKS", "REGIONS", "CHECKS", "DONORS", "FACES"):
        schema = getattr(tables, name)
        row = {column: value for column, value in made.items() if column in schema.names}
        tables.write(tables.from_rows([row], schema), tmp_path / name, schema)
    keys.write_new_key(tmp_path / "key")
    before = [tmp_path / name for name in ("CHECKS", "DONORS", "FACES")]
    given = [f"--{name.lower()}={tmp_path / name}" for name in ("PHOTOS", "LANDMARKS", "REGIONS")]
    out = tmp_path / "again"
    again = ("--attempt", 1, "--key", tmp_path / "key", "--out", out)
    assert imported_by("donors", "choose", *before, *given, *again) == set()
    (row,) = tables.read(out, tables.DONORS).to_pylist()
    assert (row["donor_id"], row["attempt"], row["w"], row["start"], row["led_by"]) == ("d", 1, [1.0], [2.0], ["seam"])


def test_missing_and_damaged_tables_are_one_line_with_the_mend(tmp_path):
    (tmp_path / "photos.parquet").write_bytes(b"not parquet")
    for name in ("photos.parquet", "absent.parquet"):
        shown = run("landmarks", "--photos", tmp_path / name, "--out", tmp_path / "out.parquet")
        assert shown.exit_code == 1
        assert len(shown.output.splitlines()) == 1
        assert name in shown.output
    assert not (tmp_path / "out.parquet").exists()


def test_an_unexpected_error_is_placed_but_not_quoted(monkeypatch):
    def fail() -> None:
        """Fail as a library would, quoting what it was given."""
        raise KeyError("Miller, Anna")

    application = group("test")
    add(application, "fail", fail)
    add(application, "other", fail)
    shown = CliRunner().invoke(application, ["fail"])
    assert shown.exit_code == 1
    assert "Miller" not in shown.output
    assert "KeyError" in shown.output
    assert "test_cli.py" in shown.output
    monkeypatch.setenv("DEIDLIB_DEBUG", "1")
    assert "Miller, Anna" in CliRunner().invoke(application, ["fail"]).output


def test_an_error_of_a_library_is_not_quoted_whatever_its_folder_is_called(tmp_path, monkeypatch):
    """A checkout called deidlib holds its environment, too, and so every library."""
    library = tmp_path / "deidlib" / "library.py"
    library.parent.mkdir()
    library.write_text('def fail():\n    raise KeyError("Miller, Anna")\n')
    monkeypatch.syspath_prepend(library.parent)

    def fail() -> None:
        """Call the library."""
        importlib.import_module("library").fail()

    application = group("test")
    add(application, "fail", fail)
    add(application, "other", fail)
    shown = CliRunner().invoke(application, ["fail"])
    assert shown.exit_code == 1
    assert "Miller" not in shown.output


def test_verify_fails_loudly_on_what_is_no_release(tmp_path):
    assert run("verify", tmp_path / "absent").exit_code == 1
    (tmp_path / "empty").mkdir()
    shown = run("verify", tmp_path / "empty")
    assert shown.exit_code == 1
    assert "FAILED" in shown.output


def test_where_nothing_passes_there_is_an_audit_and_no_release(tmp_path):
    fails = {"sface_cosine": 0.9, "failed": ["sface_cosine"]}
    shards = write_private(tmp_path / "private", [Spec("patient-one", "photo-one", checks=(fails,))], attempts=1)
    plan = tmp_path / "private" / "plan.json"
    plan.write_text(json.dumps({"shards": shards}))
    done = publish(tmp_path, "1.0.0", {"attempts": 1})
    assert done.exit_code == 1
    assert not list((tmp_path / "release").glob("*"))
    audit = json.loads((tmp_path / "report" / "1.0.0" / "audit.json").read_text())
    assert audit["conclusion"]["passed"] is False
    assert "photo-one" not in (tmp_path / "report" / "1.0.0" / "audit.html").read_text()


def test_progress_off_a_terminal_is_plain_lines_with_counts(capsys, monkeypatch):
    monkeypatch.setattr(logs, "LINE_INTERVAL", 0.0)
    with logs.progress("landmarks", 3) as step:
        step()
        step(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "landmarks: 3 photographs"
    assert lines[1].startswith("landmarks: 1 of 3 photographs")
    assert lines[-1].startswith("landmarks: done, 3 of 3 photographs")
    with logs.progress("models", 1, unit="models") as step:
        step(2, 5)
    assert "models: done, 2 of 5 models" in capsys.readouterr().err
