"""The workflow through Snakemake: refusals before any job, growth, and a whole run with the real models.

The whole run is small: one photograph in the public domain, released by two routes, and four rows that must be
quarantined; few inversion steps, and bounds of quality (not of privacy) wide enough for them.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
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

from deidlib import keys
from deidlib.release import verify_release
from deidlib.running.ending import ending
from deidlib.running.pace import pace
from deidlib.running.status import read_status

REPOSITORY = Path(__file__).resolve().parents[2]
SENTINELS = ("Sentinel", "1969-07-20", "NIKON", "48.137", "cohort-folder")
SETTINGS = {
    "shards": 1,
    "attempts": 2,
    "device": "cpu",
    "preset": {
        "inversion": {"steps": 4},
        "checks": {"seam_max": 10.0, "mouth_shift_max": 30.0, "latent_distance_max": 10.0, "realism_min": -100.0},
    },
    "reid": {"sweep_photos": 1},
    "release": {
        "k": 1,
        "columns": {"age": {"rule": "bin", "width": 10}, "ward": {"rule": "drop"}},
        "date": "2026-03-01",
    },
}


def snakemake(folder: Path, *arguments, environment=None, prefix=(), **options):
    """Run Snakemake in ``folder`` on this repository's Snakefile; ``options`` go to ``--config``."""
    given = [f"{key}={value}" for key, value in options.items()]
    return subprocess.run(
        [*prefix, *command(*arguments)] + (["--config", *given] if given else []),
        cwd=folder,
        env=dict(os.environ) | {"DEIDLIB_KEY_FILE": ""} | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def command(*arguments) -> list[str]:
    snakefile = str(REPOSITORY / "Snakefile")
    return [sys.executable, "-m", "snakemake", *map(str, arguments), "--cores", "2", "--snakefile", snakefile]


def without_network() -> list[str]:
    """Command prefix that leaves a process no network, loopback included; empty where this is not allowed."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-current-user", "--net"]):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL).returncode == 0:
            return prefix
    return []


def jobs(output: str) -> dict[str, int]:
    """Rule → number of jobs, from the table that Snakemake prints first."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", output, re.M | re.S)
    return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines()} if table else {}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def noise(tmp_path):
    """Six patients with a small picture each, and a key: enough for plan and intake."""
    keys.write_new_key(tmp_path / "key")
    folder = tmp_path / "cohort"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (140, 150, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    write_sheet(folder, 6)
    return tmp_path


def write_sheet(folder: Path, patients: int) -> None:
    rows = [f"P{i}\tP{i}-a\t{i}.png\tyes" for i in range(patients)]
    (folder / "samples.tsv").write_text("\n".join(["patient_id\tphoto_id\tpath\tconsent", *rows]) + "\n")


def test_no_key_no_run(noise):
    done = snakemake(noise, cohort="cohort/samples.tsv")
    assert done.returncode != 0
    assert "deidlib keygen FILE" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (noise / "results").exists()


def test_a_wrong_setting_is_refused_before_any_job(noise):
    done = snakemake(noise, cohort="cohort/samples.tsv", key_file="key", preserve="nose")
    assert done.returncode != 0
    assert "preserve: 'nose' is not allowed; use one of teeth, mouth, lower_face" in done.stdout
    assert not (noise / "results").exists()
    done = snakemake(noise, key_file="key")
    assert done.returncode != 0
    assert "cohort: missing" in done.stdout


def test_a_generator_of_ones_own_has_to_be_there_with_its_bank_before_any_job(noise):
    given = {"cohort": "cohort/samples.tsv", "key_file": "key", "generator": "stylegan2"}
    done = snakemake(noise, environment={"DEIDLIB_MODELS_FILE": ""}, **given)
    assert done.returncode != 0
    assert "Register it in a file of your own and name that in models_file" in done.stdout
    entry = {"task": "t", "path": "w.safetensors", "sha256": "0" * 64, "licence": "l", "citation": "c", "use": "u"}
    (noise / "my.yaml").write_text(yaml.safe_dump({"stylegan2": entry}))
    done = snakemake(noise, models_file="my.yaml", **given)
    assert done.returncode != 0
    assert "run `deidlib donors build --generator stylegan2` once" in done.stdout
    assert not (noise / "results").exists()


def test_a_wrong_sheet_is_shown_with_line_and_mend(noise):
    sheet = noise / "cohort" / "samples.tsv"
    sheet.write_text(sheet.read_text().replace("consent", "consent\tview").replace("\tyes", "\tyes\tsideways"))
    done = snakemake(noise, cohort="cohort/samples.tsv", key_file="key")
    assert done.returncode != 0
    assert "samples.tsv, line 2, column view" in done.stdout
    assert "P0-a" not in done.stdout
    assert not (noise / "results" / "private" / "models.json").exists()


def test_a_grown_sheet_reruns_one_shard_and_a_changed_setting_what_depends_on_it(noise):
    given = {"cohort": "cohort/samples.tsv", "key_file": "key", "shards": 4}
    plan = Path("results/private/plan.json")
    assert snakemake(noise, plan, **given).returncode == 0
    shards = json.loads((noise / plan).read_text())["shards"]
    photos = [plan.parent / "shards" / shard / "photos.parquet" for shard in shards]
    assert snakemake(noise, *photos, **given).returncode == 0

    os.utime(noise / "cohort" / "samples.tsv")
    assert snakemake(noise, plan, **given).returncode == 0
    assert "Nothing to be done" in snakemake(noise, "--dry-run", *photos, **given).stdout

    (patient,) = patient_in(noise, shards)
    write_sheet(noise / "cohort", 6)
    with open(noise / "cohort" / "samples.tsv", "a") as sheet:
        sheet.write(f"{patient}\tnew\t6.png\tyes\n")
    assert snakemake(noise, plan, **given).returncode == 0
    assert json.loads((noise / plan).read_text())["shards"] == shards
    assert jobs(snakemake(noise, "--dry-run", *photos, **given).stdout) == {"intake": 1}
    assert snakemake(noise, *photos, **given).returncode == 0

    everything = jobs(snakemake(noise, "--dry-run", **given).stdout)
    assert "intake" not in everything
    assert everything["landmarks"] == everything["regions"] == len(shards)
    assert everything["donors"] == everything["inversion"] == everything["blending"] == 3 * len(shards)
    settings = noise / "my.yaml"
    settings.write_text(yaml.safe_dump(given | {"preset": {"landmarks": {"max_yaw": 20}}}))
    assert jobs(snakemake(noise, "--dry-run", *photos, "--configfile", settings).stdout) == {}
    settings.write_text(yaml.safe_dump(given | {"intake": {"min_side": 130}}))
    shown = jobs(snakemake(noise, "--dry-run", *photos, "--configfile", settings).stdout)
    assert shown == {"intake": len(shards)}


def patient_in(folder: Path, shards: list[str]) -> list[str]:
    """A patient of the first planned shard: a new photograph of theirs lands in that shard."""
    table = pq.read_table(folder / "results/private/shards" / shards[0] / "cohort.parquet", columns=["patient_id"])
    return table["patient_id"].to_pylist()[:1]


def test_inversion_and_sweep_ask_for_a_gpu_and_nothing_else_does(noise):
    given = {"cohort": "cohort/samples.tsv", "key_file": "key"}
    assert snakemake(noise, "results/private/plan.json", **given).returncode == 0
    for device, wanted in (("cuda", {"inversion", "sweep"}), ("cpu", set())):
        done = snakemake(noise, "--dry-run", device=device, **given)
        assert done.returncode == 0, done.stdout[-3000:]
        asked = dict(re.findall(r"^ *(?:local)?rule (\w+):\n(?: +[a-z].*\n)*? +resources: (.*)", done.stdout, re.M))
        assert {"intake", "reid", "release"} < set(asked)
        assert {rule for rule, resources in asked.items() if "gpu=1" in resources} == wanted


def test_a_second_run_in_the_same_results_is_refused(noise):
    (noise / "results").mkdir()
    hold = (
        "import fcntl, sys, time\nfile = open('results/.lock', 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(120)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], cwd=noise, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        done = snakemake(noise, "results/private/plan.json", cohort="cohort/samples.tsv", key_file="key")
        assert done.returncode != 0
        assert "Another run is working in results" in done.stdout
        assert not (noise / "results/private/plan.json").exists()
    finally:
        holder.kill()
        holder.wait()
    done = snakemake(noise, "results/private/plan.json", cohort="cohort/samples.tsv", key_file="key")
    assert done.returncode == 0, done.stdout


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
def test_a_run_that_was_killed_and_started_again_gives_the_same_bytes(finished, cohort, tmp_path):
    """The results' folder has a blank in its name, and the release does not depend on that name."""
    shard = tmp_path / "results of one clinic/private/shards/s0000"
    arguments = ("--configfile", settings_file(tmp_path, cohort, results="results of one clinic"))
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
    done = snakemake(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    assert (shard / "landmarks.parquet").stat().st_mtime_ns == kept
    for part in ("release", "report"):
        clean, resumed = contents(finished / "results" / part), contents(tmp_path / "results of one clinic" / part)
        assert clean.keys() == resumed.keys()
        assert [name for name in clean if clean[name] != resumed[name]] == []


@pytest.mark.slow
def test_a_damaged_table_is_found_by_its_reader_and_made_anew(finished, cohort, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    for part in ("release", "report"):
        shutil.rmtree(folder / "results" / part)
    table = folder / "results/private/shards/s0000/attempt-0/faces.parquet"
    content, times = bytearray(table.read_bytes()), table.stat()
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))  # nothing but its digests tells
    arguments = ("--configfile", settings_file(folder, cohort))
    done = snakemake(folder, "--forcerun", "blending", *arguments)
    assert done.returncode != 0
    assert "faces.parquet is damaged" in done.stdout, done.stdout[-3000:]
    assert not table.exists()
    assert not (folder / "results" / "release" / "1.0.0").exists()
    done = snakemake(folder, *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    for part in ("release", "report"):
        clean, mended = (contents(place / "results" / part) for place in (finished, folder))
        assert clean.keys() == mended.keys()
        assert [name for name in clean if clean[name] != mended[name]] == []
