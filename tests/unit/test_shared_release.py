"""A release and an audit by several jobs are, byte for byte, those of one; parts of another decision are refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from shard_tables import CONFIG, Spec, outcomes_of, pseudonym, verdict_on, write_private
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.release import content_digest, verify_release
from deidlib.release.examined import read_examined, write_examined
from deidlib.release.layout import file_digest
from deidlib.storage.results import Results
from deidlib.storage.shares import dealt, image_jobs

PARTS = 3
SPECS = [
    *(Spec(f"P{i // 2}", f"F{i}", shard=f"s{i % 4:04d}") for i in range(10)),
    Spec("Q", "q", shard="s0001", stopped=("intake", "file_missing")),
    Spec("R", "r", shard="s0002", checks=({"failed": ["seam"]}, {})),
]


@pytest.fixture
def folder(tmp_path):
    """Results up to the decision."""
    results = Results.of_folder(tmp_path)
    shards = write_private(results.private, SPECS)
    results.plan.write_text(json.dumps({"shards": shards, "n_photos": len(SPECS)}))
    results.reid.mkdir()
    results.attacks.write_text(json.dumps(verdict_on(outcomes_of(results.private, shards))))
    run(tmp_path, "decide", with_config=True)
    return tmp_path


def run(folder, *command, with_config=False, plan=True, fails=False):
    line = [*command, *(("--plan", folder / "private" / "plan.json") if plan else ())]
    line += ["--config", json.dumps(CONFIG)] if with_config else []
    done = CliRunner().invoke(app, list(map(str, line)))
    assert (done.exit_code != 0) == fails, done.output
    return done.output


def images(folder):
    for part in range(PARTS):
        out = Results.of_folder(folder).release_part("1.0.0", part)
        run(folder, "images", "--part", part, "--of", PARTS, "--out", out, with_config=True)


def release(folder, out, *more, **about):
    sheet = folder / "private" / "samples.tsv"
    return run(folder, "release", "--sheet", sheet, "--out", out, *more, with_config=True, **about)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_release_and_audit_of_several_jobs_are_those_of_one(folder):
    there, other = folder / "release" / "1.0.0", folder / "by-parts" / "1.0.0"
    images(folder)
    release(folder, there)
    release(folder, other, "--parts", PARTS)
    assert content(there) == content(other)
    assert verify_release(other) == []
    shutil.rmtree(folder / "private" / "release" / "1.0.0")  # as the workflow does when the release is there
    assert verify_release(other) == []
    for part in range(PARTS):
        out = Results.of_folder(folder).examined_part("1.0.0", part)
        run(folder, "examine", there, "--part", part, "--of", PARTS, "--out", out, plan=False)
    audits = folder / "report" / "1.0.0", folder / "report-by-parts" / "1.0.0"
    for audit, more in zip(audits, ((), ("--parts", PARTS)), strict=True):
        run(folder, "report", "--out", audit, "--release", there, *more, with_config=True)
    assert content(audits[0]) == content(audits[1])
    assert json.loads((audits[1] / "audit.json").read_text())["release"]["problems"] == 0


def test_the_audit_reads_no_image_again_that_jobs_examined(folder, monkeypatch):
    there, report = folder / "release" / "1.0.0", folder / "report" / "1.0.0"
    release(folder, there)
    for part in range(PARTS):
        out = Results.of_folder(folder).examined_part("1.0.0", part)
        run(folder, "examine", there, "--part", part, "--of", PARTS, "--out", out, plan=False)
    read = []

    def noted(*place):
        read.append(Path(*place).suffix)
        return file_digest(Path(*place))

    monkeypatch.setattr("deidlib.release.layout.file_digest", noted)
    monkeypatch.setattr("deidlib.release.verify.digest", noted)
    run(folder, "report", "--out", report, "--release", there, "--parts", PARTS, with_config=True)
    assert ".parquet" in read
    assert ".png" not in read
    found = json.loads((report / "audit.json").read_text())["release"]
    assert (found["problems"], found["content_sha256"]) == (0, content_digest(there))
    assert ".png" in read


def test_parts_of_another_decision_or_missing_ones_make_no_release(folder):
    images(folder)
    results = Results.of_folder(folder)
    shutil.rmtree(results.release_part("1.0.0", 1))
    said = release(folder, folder / "release" / "1.0.0", "--parts", PARTS, fails=True)
    assert "part 1" in said
    images(folder)
    release(folder, folder / "release" / "1.0.0", "--parts", PARTS - 1, fails=True)
    assert not (folder / "release" / "1.0.0").exists()
    decision = json.loads(results.decision.read_text())
    results.decision.write_text(json.dumps(decision | {"release": False, "why": "gate_failed", "failed": ["x"]}))
    run(folder, "images", "--part", 0, "--of", 2, "--out", results.release_part("2", 0), with_config=True, fails=True)


def test_images_that_were_about_to_be_released_go_before_the_next_decision(folder):
    images(folder)
    examined = Results.of_folder(folder).examined_part("1.0.0", 0)
    examined.parent.mkdir()
    examined.touch()
    run(folder, "decide", with_config=True)
    assert [path.name for path in (folder / "private" / "release").iterdir()] == ["1.0.0.examined"]


def test_what_was_changed_is_found_whoever_looked(folder, tmp_path):
    there = folder / "release" / "1.0.0"
    release(folder, there)
    path = next(there.rglob("*.png"))
    sound = path.read_bytes()
    path.chmod(0o644)
    for damage in (sound[:-20], sound[:-20] + b"x" * 20, sound + b"more"):
        path.write_bytes(damage)
        files = [tmp_path / f"{part}.parquet" for part in range(PARTS)]
        for part, file in enumerate(files):
            write_examined(there, file, (part, PARTS))
        assert verify_release(there, examined=read_examined(there, files)) == verify_release(there) != []
    path.write_bytes(sound)
    for part, file in enumerate(files):
        write_examined(there, file, (part, PARTS))
    path.write_bytes(sound + b"after the examination")
    assert verify_release(there, examined=read_examined(there, files)) == verify_release(there) != []
    os.utime(path)
    (there / "SHA256SUMS").write_text((there / "SHA256SUMS").read_text()[1:])
    with pytest.raises(ValueError, match="another release"):
        read_examined(there, files)


def test_work_is_dealt_out_whole_and_small_cohorts_have_no_jobs():
    names = [pseudonym(str(i)) for i in range(37)]
    assert sorted(name for part in range(5) for name in dealt(names, (part, 5))) == sorted(names)
    assert [image_jobs(n) for n in (1, 1000, 20_000)] == [1, 1, 1]
    assert image_jobs(1_000_000) == 100
