"""The wheel: it holds all that a run needs, and is the same code as the checkout; the command line's own texts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from typer.testing import CliRunner

from deidlib import distribution
from deidlib.cli import app
from deidlib.storage.provenance import code_digest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's content, as an installation has it."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(REPOSITORY)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "packages")
    return folder / "packages"


def run_installed(installed, folder, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed), "DEIDLIB_KEY_FILE": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_is_the_checkouts_code_and_holds_its_texts(installed, tmp_path):
    code = (
        "import deidlib\nfrom deidlib import config, distribution, models\nfrom deidlib.pages import templates\n"
        "from deidlib.storage import provenance\nfrom deidlib.release import crate\n"
        "print(deidlib.__file__, distribution.snakefile(), provenance.code_digest(), sep='\\n')\n"
        "[config.load_schema(name) for name in ('config', 'samples', 'panel')]\n"
        "templates_found = len(list(templates.template_folder().rglob('*')))\n"
        "print(len(models.load_registry()), len(crate.workflow_files()), templates_found)\n"
    )
    done = run_installed(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    package, snakefile, digest, numbers = done.stdout.splitlines()
    assert Path(package).is_relative_to(installed)
    assert Path(snakefile).is_relative_to(installed)
    assert digest == code_digest()
    here = [len(list((REPOSITORY / place).rglob(what))) for place, what in (("workflow", "*.smk"), ("reports", "*"))]
    assert numbers.split()[1:] == [str(here[0] + 1), str(here[1])]


def test_the_wheel_holds_neither_tests_nor_documents_of_the_repository(installed):
    tops = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"deidlib"}
    assert not list(installed.rglob("test_*"))


def test_snakemake_plans_the_whole_workflow_from_the_wheel(installed, tmp_path):
    """From a folder that holds a sheet and a key, and no part of the repository; no job is started."""
    (tmp_path / "samples.tsv").write_text("patient_id\tphoto_id\tpath\tconsent\nP\tP-a\ta.png\tyes\n")
    (tmp_path / "key").write_text("a key of more than thirty-two characters, for tests")
    (tmp_path / "key").chmod(0o600)
    snakefile = installed / "deidlib" / "share" / "workflow" / "Snakefile"
    line = ["-m", "snakemake", "--dry-run", "--cores", "1", "--snakefile", snakefile]
    done = run_installed(installed, tmp_path, *line, "--config", "cohort=samples.tsv", "key_file=key")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^report +1$", done.stdout + done.stderr, re.M)
    assert str(installed) in done.stdout + done.stderr


def test_the_workflow_is_a_module_of_another_one(tmp_path):
    """With a prefix for its rules, which its checkpoints have to follow; a job of the plan and one behind it run."""
    (tmp_path / "samples.tsv").write_text("patient_id\tphoto_id\tpath\tconsent\nP\tP-a\ta.png\tyes\n")
    (tmp_path / "key").write_text("a key of more than thirty-two characters, for tests")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "Snakefile").write_text(
        'config = {"cohort": "samples.tsv", "key_file": "key"}\n'
        f'module deidlib:\n    snakefile: "{distribution.snakefile()}"\n    config: config\n'
        "use rule * from deidlib as clinic_*\n"
    )
    photos = "results/private/shards/s0000/photos.parquet"
    for target in (["--until", "clinic_plan"], [photos]):
        line = [sys.executable, "-m", "snakemake", "--cores", "1", *target]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / photos).is_file()


def test_every_command_stands_in_a_group_of_the_help_with_a_whole_sentence():
    shown = CliRunner().invoke(app, ["--help"], terminal_width=300).output
    groups = re.split(r"^(?=\S.*:$)", shown, flags=re.M)
    commands = {}
    for text in groups[2:]:
        title, *lines = text.strip().splitlines()
        commands[title] = {line.split()[0]: line.strip() for line in lines}
    assert len(commands) == 4
    assert "run" in next(iter(commands.values()))
    names = {info.name for info in (*app.registered_commands, *app.registered_groups)}
    assert {name for found in commands.values() for name in found} == names
    assert all(line.endswith(".") for found in commands.values() for line in found.values())


def test_the_version_is_told():
    assert CliRunner().invoke(app, ["--version"]).output.startswith("deidlib ")
