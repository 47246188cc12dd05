"""`deidlib reid` on tables: what it reads, what it writes, and what it refuses. Embeddings are random vectors."""

import json
import shutil

import numpy as np
import pytest
from shard_tables import CONFIG, MODELS, Spec, ids, publish, write_private, write_release
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.errors import InputError
from deidlib.release.settings import settings_of_release
from deidlib.storage import tables
from deidlib.storage.images import encode_png

FAILS = {"sface_cosine": 0.9, "failed": ["sface_cosine"]}
SPECS = [Spec(f"Miller-{i // 2}", f"MillerPhoto-{i}", checks=({},) if i else (FAILS, FAILS)) for i in range(12)]
RECOGNISERS = ["sface", "dlib"]
SETTINGS = {"attempts": 2, "identity": "per_patient", "preset": CONFIG["preset"], "reid": {"recognisers": RECOGNISERS}}
CONTRACT = {
    "schema_version",
    "gate",
    "recognisers",
    "calibration",
    "attacks",
    "scores",
    "people",
    "ranks",
    "verified",
    "table_risk",
    "tradeoff",
    "price",
    "seeds",
    "inputs",
    "words",
}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tables_of(folder, specs, kinds):
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"shards": write_private(folder, specs)}))
    rng, rows = np.random.default_rng(3), []
    for spec in specs:
        patient, photo = ids(spec)
        for shown in kinds:
            for recogniser in ("sface", "dlib"):
                vector = rng.standard_normal(128)
                key = {"release_photo_id": photo, "release_patient_id": patient, "shown": shown}
                vector = vector / np.linalg.norm(vector)
                rows.append(key | {"recogniser": recogniser, "embedding": vector.astype(np.float32)})
    path = folder / "shards" / "s0000" / "embeddings.parquet"
    tables.write(tables.from_rows(rows, tables.EMBEDDINGS), path, tables.EMBEDDINGS)
    return folder


@pytest.fixture(scope="module")
def once_attacked(tmp_path_factory):
    """A private folder with the attacks' file, what the command printed, and what the file holds."""
    kinds = ("original", "square", "square_region", "released", "released_region", "donor")
    private = tables_of(tmp_path_factory.mktemp("run") / "private", SPECS, kinds)
    return private, *attacked(private)


@pytest.fixture
def private(once_attacked, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(once_attacked[0], tmp_path / "private")


def attacked(private, *further):
    out = private / "reid" / "attacks.json"
    done = run("reid", "--plan", private / "plan.json", "--out", out, "--config", json.dumps(SETTINGS), *further)
    return done, json.loads(out.read_text()) if out.is_file() else None


def test_the_file_holds_what_release_and_report_read_and_names_nobody(once_attacked):
    private, done, result = once_attacked
    assert done.exit_code == 0
    assert set(result) == CONTRACT
    assert result["tradeoff"] == [], "nothing was swept"
    fields = {"name", "title", "recogniser", "region", "rate", "hits", "trials", "chance", "ci95", "threshold", "fmr"}
    assert all(fields <= set(attack) and attack["explanation"] for attack in result["attacks"])
    assert {entry["role"] for entry in result["recognisers"]} == {"identity_loss", "judge"}
    text = (private / "reid" / "attacks.json").read_text() + done.output
    assert "Miller" not in text
    assert (private / "reid" / "attacks.json").stat().st_mode & 0o077 == 0


def test_donors_that_are_not_known_fail_the_gate_and_the_release_obeys(once_attacked, private, tmp_path):
    _, done, result = once_attacked
    failed = {entry["name"] for entry in result["gate"]["criteria"] if not entry["passed"]}
    assert "distinct_donors" in failed
    assert "release gate FAILED" in done.output
    released = publish(tmp_path, "1.0.0", SETTINGS)
    assert released.exit_code == 1
    assert not (tmp_path / "release" / "1.0.0").exists()
    assert "new person" in released.output


def test_a_gallery_is_embedded_once_and_searched_among(private, tmp_path, astronaut, monkeypatch):
    monkeypatch.setenv("DEIDLIB_DEBUG", "1")  # native libraries are silenced by closing the stream that CliRunner reads
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    (crowd / "face.png").write_bytes(encode_png(astronaut))
    (crowd / "notes.txt").write_text("no photograph")
    for _ in range(2):
        done, result = attacked(private, "--gallery", crowd, "--recogniser", "sface")
        assert done.exit_code == 0, done.output
        assert result["inputs"]["gallery faces"] == {"sface": 1}
        assert {entry["gallery"] for entry in result["ranks"]} == {12 + 2048 + 1, 12}
    rows = tables.read(private / "reid" / "gallery.parquet", tables.EMBEDDINGS)
    assert rows.num_rows == 2
    assert str(tmp_path) not in json.dumps(result)


@pytest.mark.parametrize("kinds", [("original", "square", "released", "donor"), ("original",), ()])
def test_one_patient_or_nothing_to_release_gives_a_verdict(tmp_path, kinds):
    specs = [Spec("Miller-1", "MillerPhoto-1", checks=({},) if "released" in kinds else (FAILS, FAILS))]
    done, result = attacked(tables_of(tmp_path / "private", specs, kinds))
    assert done.exit_code == 0, done.output
    assert result["gate"]["passed"] is False
    known = {entry["name"]: entry["passed"] for entry in result["gate"]["criteria"]}
    assert known["no_verified_reidentification"] is ("released" in kinds)
    assert result["words"]


def test_what_cannot_be_attacked_is_refused_in_words(private):
    done, _ = attacked(private, "--recogniser", "nobody")
    assert done.exit_code == 1
    assert "models.yaml" in done.output
    done, _ = attacked(private, "--gallery", private / "absent")
    assert done.exit_code == 1
    assert "reid.gallery" in done.output
    out = private / "x.json"
    done = run("reid", private, "--plan", private / "plan.json", "--out", out, "--config", json.dumps(SETTINGS))
    assert done.exit_code == 1
    assert "no release" in done.output


def test_a_finished_release_is_judged_by_the_settings_that_made_it(private, tmp_path, monkeypatch):
    """SFace leads by default; this release was made without it, which its documents state."""
    monkeypatch.setenv("DEIDLIB_DEBUG", "1")  # native libraries are silenced by closing the stream that CliRunner reads
    preset = {**CONFIG["preset"], "name": "without-sface", "inversion": {"identity_led_by": ["arcface"]}}
    made_with = {**CONFIG, "preset": preset, "reid": {"reversal_steps": 0, "recognisers": ["sface"], "seed": 4}}
    release = write_release(private, tmp_path / "release", ["s0000"], 2, "1.0.0", made_with, MODELS)
    for attempt in (0, 1):  # without donors, no face has to be drawn
        donors = private / "shards" / "s0000" / f"attempt-{attempt}" / "donors.parquet"
        tables.write(tables.DONORS.empty_table(), donors, tables.DONORS)
    out, other = private / "again.json", {"reid": {"seed": 5}, "preset": {"inversion": {"identity_led_by": ["sface"]}}}
    done = run("reid", release, "--plan", private / "plan.json", "--out", out, "--config", json.dumps(other))
    assert done.exit_code == 1, done.output  # drawings without a face cannot be measured
    result = json.loads(out.read_text())
    assert {one["name"]: one["role"] for one in result["recognisers"]} == {"sface": "judge"}
    assert result["seeds"]["reid"] == 5, "how it is attacked is decided now"
    with_preset = settings_of_release(release, {"fpir": 0.05})
    assert with_preset["preset"]["name"] == "without-sface"
    assert with_preset["preset"]["checks"]["mouth_shift_max"] == CONFIG["preset"]["checks"]["mouth_shift_max"]
    assert (with_preset["reid"]["fpir"], with_preset["reid"]["seed"]) == (0.05, 4)


@pytest.mark.parametrize("preset", ["/etc/hostname", "absent.yaml", None, {"inversion": {"no_such_weight": 1}}])
def test_a_release_with_unknown_settings_is_refused_and_no_path_in_them_is_followed(private, tmp_path, preset):
    release = write_release(private, tmp_path / "release", ["s0000"], 2, "1.0.0", CONFIG, MODELS)
    settings = json.loads((release / "settings.json").read_text())
    (release / "settings.json").write_text(json.dumps(settings | {"preset": preset}))
    with pytest.raises(InputError, match=r"settings\.json"):
        settings_of_release(release)


def test_learned_attacks_and_the_sweep_are_part_of_the_file(tmp_path):
    """Nine patients: enough to learn from half of them, with images that a recogniser sees no face in."""
    specs = [Spec(f"Miller-{i}", f"MillerPhoto-{i}") for i in range(9)]
    private = tables_of(tmp_path / "private", specs, ("original", "square", "released", "donor"))
    row = {"preserve": "mouth", "identity_weight": 0.5, "recogniser": "sface", "photo": "a", "patient": "a"}
    (tmp_path / "sweep.json").write_text(json.dumps({"rows": [row | {"score": 0.2, "share": 0.04}]}))
    done, result = attacked(private, "--sweep", tmp_path / "sweep.json")
    assert done.exit_code == 0, done.output
    attacks = {(attack["name"], attack["recogniser"], attack["region"]): attack for attack in result["attacks"]}
    for name in ("parrot_linear", "parrot_mlp", "parrot_linear_rank1", "parrot_mlp_rank1"):
        assert attacks[name, "dlib", "whole"]["trials"] == 9
        assert attacks[name, "dlib", "region_only"]["explanation"].startswith("Not tried"), "it was not embedded"
    assert attacks["reversal", "sface", "whole"]["explanation"].startswith("Not tried")
    (point,) = result["tradeoff"]
    assert (point["operating_point"], point["hits"], point["trials"]) == (True, 0, 1)


def test_a_sample_of_no_photograph_is_swept_at_once(private):
    settings = SETTINGS | {"reid": {"sweep_photos": 0, "recognisers": RECOGNISERS}}
    out = private / "reid" / "sweep.json"
    done = run("sweep", "--plan", private / "plan.json", "--out", out, "--config", json.dumps(settings))
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text()) == {"rows": [], "price": []}
    assert out.stat().st_mode & 0o077 == 0
