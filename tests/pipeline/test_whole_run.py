"""A whole run of the workflow with the real models: what it releases, what it holds back, and what stays private.

The run is small: one photograph in the public domain, released by two routes, and four rows that must be quarantined.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from skimage import data
from snakemake_runs import SETTINGS, command, contents, snakemake, without_network

from deidlib.release import verify_release
from deidlib.running.ending import ending
from deidlib.running.pace import pace
from deidlib.running.status import read_status

SENTINELS = ("Sentinel", "1969-07-20", "NIKON", "48.137", "cohort-folder")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A face with telling metadata, also called a profile and intraoral; what must be refused; and a key."""
    folder = tmp_path_factory.mktemp("cohort-folder")
    (folder / "SentinelDir").mkdir()
    exif = Image.Exif()
    exif[0x010F], exif[0x013B], exif[0x0132] = "NIKON", "Sentinel Artist", "1969-07-20 20:17:40"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 13.2), 3: "E", 4: (11.0, 34.0, 31.2)})
    face = Image.fromarray(data.astronaut()[:400, 20:420])
    comment = b"Sentinel comment 48.137"
    face.save(folder / "SentinelDir" / "face.jpg", quality=95, exif=exif, comment=comment)
    face.save(folder / "SentinelDir" / "refused.jpg", quality=95)
    (folder / "SentinelDir" / "text.jpg").write_text("this is not an image, says the Sentinel")
    y, x = np.mgrid[:400, :600]
    land = np.stack([90 + y // 4, 120 + 20 * np.sin(x / 60) + y // 5, 220 - y // 3], axis=-1)
    land = land + np.random.default_rng(0).normal(0, 4, land.shape)
    Image.fromarray(land.clip(0, 255).astype(np.uint8)).save(folder / "SentinelDir" / "land.png")
    rows = [
        "patient_id\tphoto_id\tpath\tconsent\tview\tage\tsex\tdiagnosis\tward",
        "SentinelA\tSentinelA-1\tSentinelDir/face.jpg\tyes\tfrontal_smile\t34\tF\tSentinel bite\tSentinel ward",
        "SentinelB\tSentinelB-1\tSentinelDir/text.jpg\tyes\t\t\t\t\t",
        "SentinelC\tSentinelC-1\tSentinelDir/land.png\tyes\t\t\t\t\t",
        "SentinelD\tSentinelD-1\tSentinelDir/refused.jpg\t\t\t\t\t\t",
        "SentinelA\tSentinelA-2\tSentinelDir/face.jpg\tyes\tprofile\t\t\t\t",
        "SentinelA\tSentinelA-3\tSentinelDir/face.jpg\tyes\tintraoral\t\t\t\t",
    ]
    (folder / "samples.tsv").write_text("\n".join(rows) + "\n")
    (folder / "key").write_text("one fixed key, so that every run of this test draws the same donors")
    (folder / "key").chmod(0o600)
    return folder


def settings_file(folder: Path, cohort: Path, **more) -> Path:
    settings = SETTINGS | {"cohort": str(cohort / "samples.tsv"), "key_file": str(cohort / "key")} | more
    (folder / "my.yaml").write_text(yaml.safe_dump(settings))
    return folder / "my.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cohort, model_files):
    """The folder of a clean run, made without a network where the system lets us take it away."""
    model_files("mobilestylegan")
    folder = tmp_path_factory.mktemp("clean")
    done = snakemake(folder, "--configfile", settings_file(folder, cohort), prefix=without_network())
    assert done.returncode == 0, done.stdout[-6000:]
    for place in ("results/release/1.0.0", "results/report/1.0.0/audit.html", "results/private/quarantine.tsv"):
        assert place in done.stdout[-2000:]
        assert (folder / place).exists()
    return folder


@pytest.mark.slow
def test_the_release_verifies_and_holds_what_passed(finished):
    release = finished / "results" / "release" / "1.0.0"
    assert verify_release(release) == []
    index = sorted(pq.read_table(release / "index.parquet").to_pylist(), key=lambda row: row["view"])
    assert [(row["view"], row["route"]) for row in index] == [("frontal_smile", "generate"), ("profile", "region_only")]
    assert index[0]["age"] == "30-39"
    assert not {"sex", "diagnosis", "ward", "patient_id", "photo_id"} & set(index[0])
    assert not {"sface_cosine", "dlib_distance", "seam", "core_pixels"} & set(index[0])
    with Image.open(release / index[0]["path"]) as image:
        assert image.size == (index[0]["width"], index[0]["height"])


@pytest.mark.slow
def test_the_whole_run_had_no_network(finished):
    prefix = without_network()
    if not prefix:
        pytest.skip("this system lets nobody but root take the network from a process: the run above had one")
    listen = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=5)"
    tried = subprocess.run([*prefix, sys.executable, "-c", listen], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in tried.stderr
    assert (finished / "results" / "release" / "1.0.0" / "SHA256SUMS").exists()


@pytest.mark.slow
def test_the_attacks_hold_the_table_and_the_sweep(finished):
    attacks = json.loads((finished / "results/private/reid/attacks.json").read_text())
    assert (attacks["table_risk"]["k"], attacks["table_risk"]["patients"]) == (1, 1)
    points = {
        (point["preserve"], point["identity_weight"]) for point in attacks["tradeoff"] if point["recogniser"] == "dlib"
    }
    assert {area for area, _ in points} >= {"mouth", "mouth_margins", "lower_face"}
    assert sum(point["operating_point"] for point in attacks["tradeoff"]) == 3, "one for each recogniser"
    assert {"parrot_linear", "parrot_mlp", "reversal"} <= {attack["name"] for attack in attacks["attacks"]}


@pytest.mark.slow
def test_quarantine_gives_row_and_reason_of_what_did_not_pass(finished):
    with open(finished / "results/private/quarantine.tsv", newline="") as file:
        rows = {int(row["row"]): row["reason"] for row in csv.DictReader(file, delimiter="\t")}
    assert rows == {3: "format_unsupported", 4: "no_face", 5: "consent_missing", 7: "face_in_intraoral"}
    crosswalk = pq.read_table(finished / "results/private/crosswalk.parquet").to_pylist()
    assert {row["photo_id"]: row["status"] for row in crosswalk} == {
        "SentinelA-1": "released",
        "SentinelB-1": "quarantined",
        "SentinelC-1": "quarantined",
        "SentinelD-1": "quarantined",
        "SentinelA-2": "released",
        "SentinelA-3": "quarantined",
    }


@pytest.mark.slow
def test_nothing_identifying_leaves_the_private_folder(finished):
    texts = []
    for part in ("release", "report", "logs"):
        for name, content in contents(finished / "results" / part).items():
            texts.append((f"{part}/{name}", content))
            if name.endswith(".parquet"):
                table = pq.read_table(finished / "results" / part / name)
                texts.append((f"{part}/{name}", f"{table.schema.metadata}{table.to_pylist()}".encode()))
            for found in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
                texts.append((f"{part}/{name} (embedded)", base64.b64decode(found)))
    assert len(texts) > 8
    for sentinel in (*SENTINELS, str(finished)):
        holders = [name for name, content in texts if sentinel.encode() in content]
        assert holders == [], sentinel


@pytest.mark.slow
def test_private_is_closed_to_others_and_the_rest_open(finished):
    results = finished / "results"
    for path in [results / "private", *(results / "private").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path.name
    for path in [*(results / "release").rglob("*"), *(results / "report").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path.name


@pytest.mark.slow
def test_snakemakes_own_report_holds_the_audit_and_nothing_private(finished, cohort):
    settings = settings_file(finished, cohort)
    done = snakemake(finished, "--report", "snakemake-report.html", "--configfile", settings)
    assert done.returncode == 0, done.stdout[-3000:]
    text = (finished / "snakemake-report.html").read_text()
    embedded = [base64.b64decode(part) for part in re.findall(r"base64,([A-Za-z0-9+/=]+)", text)]
    audit = finished / "results/report/1.0.0"
    for name in ("audit.html", "audit.pdf", "audit.json"):
        assert (audit / name).read_bytes() in embedded, name
    private = [path.read_bytes() for path in (finished / "results/private").rglob("*") if path.is_file()]
    assert not [content for content in private if content in embedded]
    for word in ("SentinelA", "SentinelDir", "1969-07-20", "cohort-folder", str(finished), "key_file"):
        assert word not in text, word
    for caption in ("one self-contained page", "files of a review board", "for programs", "Each released photograph"):
        assert caption in text, caption


@pytest.mark.slow
def test_after_a_run_nothing_is_left_to_do(finished, cohort):
    done = snakemake(finished, "--dry-run", "--configfile", settings_file(finished, cohort))
    assert "Nothing to be done" in done.stdout, done.stdout[-3000:]


@pytest.mark.slow
def test_status_and_the_last_lines_tell_what_the_run_made(finished):
    results = finished / "results"
    status = read_status(results)
    assert status.finished
    assert pace(status, time.time()).share == 1
    lines = ending(results, "1.0.0", status, False, results / "logs" / "run.log")
    index = pq.read_table(results / "release" / "1.0.0" / "index.parquet")
    assert f"{len(index)} of {status.photos} photographs" in lines[0]
    assert len((results / "private" / "quarantine.tsv").read_text().splitlines()) - 1 == status.photos - len(index)
    assert status.passed == len(index)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_run_that_was_killed_and_whose_table_was_damaged_ends_with_the_same_bytes(finished, cohort, tmp_path):
    """The reader of the damaged table finds it and removes it; the next start makes it again.

    The results' folder has a blank in its name, and the release does not depend on that name.
    """
    results = tmp_path / "results of one clinic"
    shard = results / "private/shards/s0000"
    arguments = ("--configfile", settings_file(tmp_path, cohort, results=results.name))
    with open(tmp_path / "first.log", "w") as log:
        process = subprocess.Popen(
            command(*arguments),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + 600
            while not (shard / "attempt-0" / "donors.parquet").exists():
                assert process.poll() is None, (tmp_path / "first.log").read_text()[-4000:]
                assert time.monotonic() < until
                time.sleep(0.05)
            time.sleep(1.5)  # somewhere in the inversion
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert not (shard / "attempt-0" / "checks.parquet").exists()
    kept = (shard / "landmarks.parquet").stat().st_mtime_ns

    table = shard / "attempt-0" / "donors.parquet"
    content, times = bytearray(table.read_bytes()), table.stat()
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))  # nothing but its digests shows the damage
    done = snakemake(tmp_path, *arguments)
    assert done.returncode != 0
    assert "donors.parquet is damaged" in done.stdout, done.stdout[-3000:]
    assert not table.exists()
    assert not (results / "release" / "1.0.0").exists()

    done = snakemake(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    assert (shard / "landmarks.parquet").stat().st_mtime_ns == kept
    for part in ("release", "report"):
        clean, resumed = contents(finished / "results" / part), contents(results / part)
        assert clean.keys() == resumed.keys()
        assert [name for name in clean if clean[name] != resumed[name]] == []
