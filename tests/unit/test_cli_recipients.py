"""What a recipient types: verify, diff; and what the institution does before it shares: sign."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from shard_tables import CONFIG, Spec, ids, outcomes_of, publish, verdict_on, write_private
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.storage import images

SPECS = [Spec("patient-one", "photo-one"), Spec("patient-two", "photo-two"), Spec("patient-two", "photo-three")]


@pytest.fixture(autouse=True)
def _umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def make(folder: Path, version: str, specs=SPECS):
    shards = write_private(folder / "private", specs, attempts=1)
    plan = folder / "private" / "plan.json"
    plan.write_text(json.dumps({"shards": shards}))
    config = {name: CONFIG[name] for name in ("release", "identity", "preset")} | {"attempts": 1}
    verdict = verdict_on(outcomes_of(folder / "private", shards, 1))
    (folder / "private" / "reid").mkdir(exist_ok=True)
    (folder / "private" / "reid" / "attacks.json").write_text(json.dumps(verdict))
    return publish(folder, version, config)


@pytest.fixture
def release(tmp_path) -> Path:
    done = make(tmp_path, "1.0.0")
    assert done.exit_code == 0, done.output
    return tmp_path / "release" / "1.0.0"


@pytest.fixture
def key(tmp_path) -> Path:
    done = run("keygen", "--signing", tmp_path / "keys" / "signing")
    assert done.exit_code == 0
    assert "ed25519:" in done.output
    return tmp_path / "keys" / "signing"


def test_sign_and_verify(release, key):
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}
    assert "not signed" in run("verify", release).output
    assert run("verify", release, "--public-key", f"{key}.pub").exit_code == 1
    assert run("sign", release, "--key", key).exit_code == 0
    shown = run("verify", release)
    assert shown.exit_code == 0
    assert "compare it with the one that the institution published" in shown.output
    assert "it was when it was signed with the key given" in run("verify", release, "--public-key", f"{key}.pub").output
    assert all(path.read_bytes() == data for path, data in before.items())
    for name in ("SHA256SUMS.sig", "SHA256SUMS.pub"):
        assert stat.S_IMODE((release / name).stat().st_mode) == 0o644
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len((release / "SHA256SUMS.sig").read_bytes()) == 64


def test_openssl_checks_the_signature_too(release, key):
    run("sign", release, "--key", key)
    command = "openssl pkeyutl -verify -pubin -inkey SHA256SUMS.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig"
    assert command in (release / "README.md").read_text()
    done = subprocess.run(command.split(), cwd=release, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Signature Verified Successfully" in done.stdout


def test_a_signed_version_made_again_keeps_its_signature(release, key, tmp_path):
    run("sign", release, "--key", key)
    signature = (release / "SHA256SUMS.sig").read_bytes()
    assert make(tmp_path, "1.0.0").exit_code == 0
    assert (release / "SHA256SUMS.sig").read_bytes() == signature
    assert run("verify", release, "--public-key", f"{key}.pub").exit_code == 0


def test_what_somebody_else_signed_is_found(release, key, tmp_path):
    run("sign", release, "--key", key)
    assert run("keygen", "--signing", tmp_path / "other").exit_code == 0
    refused = run("sign", release, "--key", tmp_path / "other")
    assert refused.exit_code == 1
    assert "is signed with another key already (ed25519:" in refused.output
    for name in ("SHA256SUMS.sig", "SHA256SUMS.pub"):
        (release / name).unlink()
    (release / "tombstones.txt").write_text("a" * 16 + "\n")
    damaged = run("sign", release, "--key", tmp_path / "other")
    assert damaged.exit_code == 1
    assert "not whole" in damaged.output
    (release / "tombstones.txt").write_text("")
    assert run("sign", release, "--key", tmp_path / "other").exit_code == 0
    assert run("verify", release).exit_code == 0, "whole, by a key that nobody knows"
    shown = run("verify", release, "--public-key", f"{key}.pub")
    assert shown.exit_code == 1
    assert "another key" in shown.output


def test_keys_that_cannot_be_used_are_refused_with_the_mend(release, key, tmp_path):
    assert "never overwritten" in run("keygen", "--signing", key).output
    rsa = generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "rsa").write_bytes(rsa)
    (tmp_path / "rsa").chmod(0o600)
    (tmp_path / "open").write_bytes(key.read_bytes())
    (tmp_path / "open").chmod(0o644)
    for name, says in (("rsa", "no Ed25519 private key"), ("open", "read by others"), ("absent", "cannot be read")):
        done = run("sign", release, "--key", tmp_path / name)
        assert done.exit_code == 1
        assert says in done.output
        assert "keygen --signing" in done.output
    assert "ask the institution" in run("verify", release, "--public-key", tmp_path / "rsa").output
    assert not (release / "SHA256SUMS.sig").exists()


def test_diff_prints_what_changed_and_the_release_says_what_to_delete(release, tmp_path):
    told = make(tmp_path, "1.1.0", [SPECS[0], SPECS[1], Spec("patient-four", "photo-four")])
    assert told.exit_code == 0
    assert "1 id of earlier versions is not in it" in told.output
    assert "remove the earlier versions from release/ and report/" in told.output
    shown = run("diff", release, tmp_path / "release" / "1.1.0")
    assert shown.exit_code == 0
    added, removed, last = shown.output.splitlines()
    assert added == f"+ {ids(Spec('patient-four', 'photo-four'))[1]}  new patient"
    assert removed.startswith(f"- {ids(SPECS[2])[1]}  withdrawn, or it no longer passes; delete it")
    assert last == "1 added, 1 removed, 0 changed, 2 unchanged"
    crosswalk = tmp_path / "private" / "crosswalk.parquet"
    told = run("diff", release, tmp_path / "release" / "1.1.0", "--crosswalk", crosswalk)
    assert f"- {ids(SPECS[2])[1]}  no longer on the sample sheet" in told.output
    assert run("diff", release, tmp_path / "nowhere").exit_code == 1


def with_images(release, out, changes):
    """A copy of a release in which some images are others: photograph → what its pixels become, and the PNG's level."""
    shutil.copytree(release, out)
    index = pq.read_table(out / "index.parquet")
    rows = index.to_pylist()
    for row in rows:
        if row["release_photo_id"] in changes:
            change, level = changes[row["release_photo_id"]]
            data = images.encode_png(change(images.decode_png((out / row["path"]).read_bytes())), level)
            (out / row["path"]).write_bytes(data)
            row["sha256"] = hashlib.sha256(data).hexdigest()
    pq.write_table(pa.Table.from_pylist(rows, schema=index.schema), out / "index.parquet")
    return out


def moved(levels, height):
    """The first rows of an image, brighter or darker by so many grey levels."""

    def change(image):
        first = image[:height].astype(int)
        image = image.copy()
        image[:height] = np.where(first < 128, first + levels, first - levels)
        return image

    return change


def test_diff_of_images_gives_the_pixels_differences(release, tmp_path):
    one, two, three = sorted(ids(spec)[1] for spec in SPECS)
    plain = run("diff", release, release).output
    assert run("diff", release, release, "--images").output == plain + "pixels: 3 of 3 photographs in both are equal\n"
    # One in another encoding; one off by 6 levels in a quarter, away from the core; one off by 2 everywhere.
    changes = {one: (lambda image: image, 9), two: (moved(6, 12), 6), three: (moved(2, 48), 6)}
    new = with_images(release, tmp_path / "other", changes)
    shown = run("diff", release, new, "--images")
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[:4] == run("diff", release, new).output.splitlines()
    assert lines[4:] == [
        f"≠ {two}  pixels: mean 1.50, largest 6",
        f"≠ {three}  pixels: mean 2.00, largest 2",
        "pixels: 1 of 3 photographs in both are equal",
        "the other 2 differ by 1.75 grey levels in the mean (1.50 to 2.00 a photograph) and 6 at most, over the whole "
        "image: a release does not say where the core lies",
    ]


def test_diff_of_images_compares_no_other_size_and_trusts_no_changed_file(release, tmp_path):
    one, two, _ = sorted(ids(spec)[1] for spec in SPECS)
    new = with_images(release, tmp_path / "other", {one: (lambda image: image[:40], 6)})
    shown = run("diff", release, new, "--images").output
    assert f"≠ {one}  pixels: of another size" in shown
    assert "1 are of another size and were not compared" in shown
    new = with_images(release, tmp_path / "third", {two: (moved(1, 1), 6)})
    path = next(new.glob(f"images/*/{two}.png"))
    path.write_bytes(path.read_bytes()[:-1])
    shown = run("diff", release, new, "--images")
    assert shown.exit_code == 1
    assert f"third: the image of {two} is not what the index says; check it with `deidlib verify`" in shown.output


def test_a_version_that_goes_backwards_or_exists_is_one_line_with_the_mend(release, tmp_path):
    backwards = make(tmp_path, "0.9.0")
    assert backwards.exit_code == 1
    assert "version 0.9.0 goes backwards: 1.0.0 is released already. Set `version` to one above it" in backwards.output
    exists = make(tmp_path, "1.0.0", SPECS[:1])
    assert exists.exit_code == 1
    assert "version 1.0.0 exists already with another content; raise `version`" in exists.output
    assert run("verify", release).exit_code == 0
