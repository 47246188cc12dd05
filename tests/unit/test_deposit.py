"""``deidlib publish --check``: what is refused, and what the prepared folders hold."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from shard_tables import CONFIG, MODELS, Spec, write_private, write_release
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.release import content_digest, verify_release
from deidlib.release.deposit_metadata import datacite, metadata_problems, stated_by, zenodo

SPECS = [Spec(f"patient-{n // 2}", f"photo-{n}", age=20.0 + 9 * n) for n in range(4)]
NAME = 'Smiles <script>alert(1)</script> & "teeth"'


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A results folder with a release and the audit of a gate that passed."""
    folder = tmp_path_factory.mktemp("results")
    stated = {"institution": "Test institute", "licence": "CC-BY-4.0", "contact": "data@example.org"}
    config = CONFIG | {"release": CONFIG["release"] | {"embed": True, "name": NAME}, "study": stated}
    shards = write_private(folder / "private", SPECS, attempts=1)
    release = write_release(folder / "private", folder / "release", shards, 1, "1.0.0", config, MODELS)
    write_audit(folder, release)
    return folder


@pytest.fixture
def copy(results, tmp_path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "results"))


def write_audit(results: Path, release: Path, **gate) -> None:
    gate = {"passed": True, "verdict": "passed", "criteria": []} | gate
    place = results / "report" / release.name / "audit.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"gate": gate, "release": {"content_sha256": content_digest(release)}}))


def publish(*arguments, check: bool = True):
    return CliRunner().invoke(app, ["publish", *(["--check"] if check else []), *map(str, arguments)])


@pytest.fixture(scope="module")
def prepared(results, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("deposit") / "deposit"
    done = publish(results / "release" / "1.0.0", out)
    assert done.exit_code == 0, done.output
    assert "nothing was uploaded" in done.output
    return out


def test_what_a_recipient_downloads_verifies(results, prepared, tmp_path):
    release = results / "release" / "1.0.0"
    assert verify_release(prepared / "huggingface") == []
    with zipfile.ZipFile(prepared / "zenodo" / "files" / "release-1.0.0.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    assert verify_release(tmp_path / "1.0.0") == []
    assert content_digest(tmp_path / "1.0.0") == content_digest(prepared / "huggingface") == content_digest(release)
    beside = {path.name for path in (prepared / "zenodo" / "files").iterdir()}
    assert beside == {"release-1.0.0.zip", "README.md", "datasheet.md", "tombstones.txt", "SHA256SUMS"}


def test_the_same_release_gives_the_same_folder(results, prepared, tmp_path):
    assert publish(results / "release" / "1.0.0", tmp_path / "again").exit_code == 0
    for path in prepared.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(prepared)).read_bytes() == path.read_bytes()


def test_hugging_face_loads_the_folder_with_its_images(prepared, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = datasets.load_dataset(str(prepared / "huggingface"), split="train")
    assert data.num_rows == len(SPECS)
    assert data[0]["image"].size == (data[0]["width"], data[0]["height"])
    front = yaml.safe_load((prepared / "huggingface" / "README.md").read_text().split("---\n")[1])
    assert {"license", "pretty_name", "size_categories", "configs"} <= front.keys()


def test_metadata_state_the_release_and_escape_its_texts(prepared):
    deposit = json.loads((prepared / "zenodo" / ".zenodo.json").read_text())
    assert deposit["access_right"] == "restricted"
    assert "data@example.org" in deposit["access_conditions"]
    assert deposit["license"] == "cc-by-4.0"
    assert deposit["creators"] == [{"name": "Test institute"}]
    assert "4 photographs of 2 patients" in deposit["description"]
    assert "<script" not in deposit["description"] + deposit["access_conditions"]
    record = json.loads((prepared / "zenodo" / "datacite.json").read_text())
    assert record["publicationYear"] == "2026"
    assert record["rightsList"][0]["rightsUri"] == "https://creativecommons.org/licenses/by/4.0/"
    assert "doi" not in record
    assert metadata_problems({"zenodo": deposit, "datacite": record}) == []


def test_what_only_people_know_is_named_and_not_made_up(prepared, results, tmp_path):
    to_do = (prepared / "TO-DO.md").read_text()
    assert "- [ ] creators: the people who made the dataset" in to_do
    assert "- [ ] access conditions: your data use agreement" in to_do
    assert "- [ ] contact" not in to_do
    bare = tmp_path / "results"
    options = {"columns": {}, "quasi_identifiers": [], "sensitive": [], "k": 1, "date": "2026-03-01"}
    config = CONFIG | {"release": options, "study": {}}
    shards = write_private(bare / "private", SPECS[:2], attempts=1)
    release = write_release(bare / "private", bare / "release", shards, 1, "1.0.0", config, MODELS)
    write_audit(bare, release)
    done = publish(release, tmp_path / "out")
    assert done.exit_code == 0, done.output
    for field in ("creators", "contact", "licence", "access conditions", "funder", "ethics", "DOI"):
        assert f"to be filled in: {field}: " in done.output
    deposit = json.loads((tmp_path / "out" / "zenodo" / ".zenodo.json").read_text())
    assert deposit["creators"] == [{"name": ":tba"}]
    assert "license" not in deposit


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"passed": False, "verdict": "failed"}, "the release gate did not pass"),
        ({"passed": None, "verdict": "not judged"}, "did not judge this release: the cohort is too small"),
        ({"passed": None, "verdict": "unheard of"}, "the release gate did not pass"),
    ],
)
def test_a_gate_that_did_not_pass_is_refused(copy, tmp_path, change, says):
    write_audit(copy, copy / "release" / "1.0.0", **change)
    done = publish(copy / "release" / "1.0.0", tmp_path / "out")
    assert done.exit_code == 1
    assert says in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_a_release_with_a_fault_or_without_its_audit_is_refused(copy, tmp_path):
    release, out = copy / "release" / "1.0.0", tmp_path / "out"
    audit = copy / "report" / "1.0.0" / "audit.json"
    text = audit.read_text()
    for broken, says in (("{", "is damaged or no audit.json"), (json.dumps([]), "is damaged or no audit.json")):
        audit.write_text(broken)
        done = publish(release, out)
        assert (done.exit_code, says in done.output) == (1, True)
    audit.write_text(text.replace(content_digest(release), "0" * 64))
    assert "is about other images" in publish(release, out).output
    audit.unlink()
    assert "name it with --audit" in " ".join(publish(release, out).output.split())
    audit.write_text(text)
    image = next((release / "images").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"x")
    done = publish(release, out)
    assert done.exit_code == 1
    assert "this release is not whole" in done.output
    assert not out.exists()


def test_without_check_nothing_happens_and_folders_are_not_overwritten(copy, tmp_path):
    release, out = copy / "release" / "1.0.0", tmp_path / "out"
    assert "uploads nothing" in publish(release, out, check=False).output
    out.mkdir()
    (out / "mine").write_text("kept")
    assert "exists already" in publish(release, out).output
    assert (out / "mine").read_text() == "kept"
    inside = publish(release, release / "deposit")
    assert inside.exit_code == 1
    assert "lies inside the release" in inside.output
    assert verify_release(release) == []


def test_a_record_that_breaks_a_rule_is_found(copy):
    release = copy / "release" / "1.0.0"
    found = stated_by(release)
    short = zenodo(found) | {"title": "x", "access_right": "open", "publication_date": "yesterday"}
    problems = metadata_problems({"zenodo": short, "datacite": datacite(found) | {"creators": []}})
    assert {problem.split(": ")[1] for problem in problems} == {"title", "access_right", "publication_date", "creators"}
