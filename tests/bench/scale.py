"""A million photographs without the hardware: seconds and peak memory of everything that grows with the cohort.

make bench-scale
python tests/bench/scale.py --photos 1000000 --folder /tmp/deidlib-scale

The sheet is generated and its photographs do not exist (each is looked for, and is missing). Every part runs in a
process of its own, whose elapsed time and peak resident memory are printed: reading and checking the sheet; all of
`deidlib plan`; `snakemake --dry-run` on the planned shards; what a cluster job does before its stage begins (the SLURM
executor starts Snakemake twice in each: once to make the job step, once inside it); `snakemake --dry-run` where every
shard is through its first attempt, as Snakemake's records say; `deidlib status` there, and with every attempt through.

The shards' tables have the rows, ids and verdicts of a run, and nothing else: their images are null.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa

from deidlib.storage import tables

REPOSITORY = Path(__file__).resolve().parents[2]
os.environ["PYTHONPATH"] = str(REPOSITORY)  # what is started is this checkout's code, wherever it starts
KEY = "a key for figures, not for patients: " + 40 * "0"
ATTEMPTS = 4  # the configuration's default
HELD_BACK = 100  # one photograph of so many is quarantined by intake …
FAILING = 10  # … and one of so many fails an attempt
COLUMNS = ("patient_id", "photo_id", "path", "consent", "view", "timepoint", "age", "sex")


def write_sheet(path: Path, photos: int) -> None:
    """Three photographs a patient, a thousand a folder."""
    with open(path, "w", encoding="utf-8") as sheet:
        print(*COLUMNS, sep="\t", file=sheet)
        for i in range(photos):
            patient, file = f"PATIENT-{i // 3:07d}", f"photos/{i // 1000:04d}/{i:08d}.jpg"
            age, sex = 20 + i % 50, "FM"[i % 2]
            print(patient, f"PHOTO-{i:08d}", file, "yes", "frontal_smile", f"T{i % 3}", age, sex, sep="\t", file=sheet)


def filled(schema: pa.Schema, columns: dict[str, list]) -> pa.Table:
    """Table of a schema with these columns; all others are null."""
    rows = len(next(iter(columns.values())))
    empty = {field.name: pa.nulls(rows, field.type) for field in schema}
    return pa.table({name: columns.get(name, column) for name, column in empty.items()}, schema=schema)


def write_stages(shard: Path, photos: int) -> list[str]:
    """Write what the stages of a shard leave behind; returns the tables' names, in the order of the stages."""
    ids = [f"{i:016d}".translate(str.maketrans("0189", "abcd")) for i in range(photos)]
    stopped = [i % HELD_BACK == 0 for i in range(photos)]
    fate = {
        "release_photo_id": ids,
        "status": [tables.QUARANTINED if held else tables.OK for held in stopped],
        "reason": ["file_missing" if held else None for held in stopped],
    }
    patients = [ids[i // 3] for i in range(photos)]
    written = {}
    for name, schema in (("photos", tables.PHOTOS), ("landmarks", tables.LANDMARKS), ("regions", tables.REGIONS)):
        columns = fate | ({"release_patient_id": patients} if name == "photos" else {})
        written[f"{name}.parquet"] = schema, columns
    at = [i for i in range(photos) if not stopped[i]]
    for attempt in range(ATTEMPTS):
        passed = [n % FAILING != 0 for n in range(len(at))]
        handled = {"release_photo_id": [ids[i] for i in at], "attempt": [attempt] * len(at)}
        handled["donor_id"] = [ids[i] for i in at]
        good = handled | {"status": [tables.OK] * len(at)}
        for name, schema in (("donors", tables.DONORS), ("faces", tables.FACES), ("blended", tables.BLENDED)):
            written[f"attempt-{attempt}/{name}.parquet"] = schema, good
        verdicts = {"release_patient_id": [patients[i] for i in at], "passed": passed}
        written[f"attempt-{attempt}/checks.parquet"] = tables.CHECKS, handled | verdicts
        at = [i for i, good in zip(at, passed, strict=True) if not good]
    for name, (schema, columns) in written.items():
        tables.write(filled(schema, columns), shard / name, schema)
    return list(written)


def fill(shards: Path, names: list[str], photos: int) -> list[str]:
    """Write the first shard's tables and copy them to the others (whose photographs differ in nothing that is read)."""
    written = write_stages(shards / names[0], photos)
    for name in names[1:]:
        for table in written:
            (shards / name / table).parent.mkdir(exist_ok=True)
            shutil.copyfile(shards / names[0] / table, shards / name / table)
    return written


def write_records(snakemake: list, folder: Path, place: Path, shards: list[str]) -> None:
    """Have Snakemake record the first attempt of the first shard, and copy its records to the other shards."""
    rules = ("plan", "models", "intake", "landmarks", "regions", "donors", "inversion", "blending", "checks")
    touched = place / shards[0] / "attempt-0" / "checks.parquet"
    command = [*snakemake, "--cores", "1", "--nolock", "--touch", "--forcerun", *rules, "--", touched]
    subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, check=True)
    records = folder / ".snakemake" / "metadata"
    for record in list(records.iterdir()):
        path, text = base64.b64decode(record.name).decode(), record.read_text()
        for name in shards[1:] if shards[0] in path else []:
            other = base64.b64encode(path.replace(shards[0], name).encode()).decode()
            (records / other).write_text(text.replace(shards[0], name))


def measured(name: str, command: list, folder: Path, until: Path | None = None) -> tuple[float, float, float]:
    """Run a command; give its seconds (till the file ``until`` appears, if given), its processor's, and peak MiB."""
    if until is not None:
        until.unlink(missing_ok=True)
    with open(folder / "bench.log", "w") as log:
        begun, seen = time.monotonic(), None
        process = subprocess.Popen([*map(str, command)], cwd=folder, stdout=log, stderr=log)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if until is not None and seen is None and until.exists():
                seen = time.monotonic()
            time.sleep(0.01)
        ended = time.monotonic()
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name} failed:\n{(folder / 'bench.log').read_text()[-3000:]}")
    own, took, memory = usage.ru_utime + usage.ru_stime, (seen or ended) - begun, usage.ru_maxrss / 1024
    print(f"{name:52}{took:9.1f} s, processor{own:9.1f} s{memory:9.0f} MiB", flush=True)
    return took, own, memory


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-scale"))
    given = parser.parse_args()
    folder = given.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "key").write_text(KEY)
    (folder / "key").chmod(0o600)
    (folder / "my.yaml").write_text("cohort: samples.tsv\nkey_file: key\n")
    write_sheet(folder / "samples.tsv", given.photos)
    print(f"{given.photos:,} photographs, a sheet of {(folder / 'samples.tsv').stat().st_size / 2**20:.0f} MiB")

    python, deidlib = sys.executable, [sys.executable, "-c", "from deidlib.cli import app; app()"]
    private = folder / "results" / "private"
    reading = "import sys; from deidlib.intake.cohort import read_sheet; read_sheet(sys.argv[1])"
    measured("read and check the sheet", [python, "-c", reading, "samples.tsv"], folder)
    measured(
        "plan (read, check, deal to shards, write)",
        [*deidlib, "plan", "samples.tsv", private / "plan.json", "--key", "key"],
        folder,
    )
    shards = json.loads((private / "plan.json").read_text())["shards"]
    (private / "models.json").write_text("{}\n")
    snakemake = [python, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--configfile", "my.yaml"]
    measured(
        f"snakemake --dry-run, {len(shards):,} shards",
        [*snakemake, "--dry-run", "--quiet", "rules", "--cores", "2"],
        folder,
    )
    remote = [
        *(
            "--target-jobs",
            f"intake:shard={shards[0]}",
            "--allowed-rules",
            "intake",
            "--mode",
            "remote",
            "--cores",
            "all",
        ),
        *("--force", "--force-use-threads", "--target-files-omit-workdir-adjustment", "--max-inventory-time", "0"),
        *("--nolock", "--no-hooks", "--ignore-incomplete", "--latency-wait", "60"),
    ]
    log = folder / "results" / "logs" / "intake" / f"{shards[0]}.log"
    measured("one start of Snakemake in a job, till its stage begins", [*snakemake, *remote], folder, until=log)

    written = fill(private / "shards", shards, given.photos // len(shards))
    later = [name for name in written if name.startswith("attempt-") and not name.startswith("attempt-0")]
    aside = folder / "later"
    for shard in shards:
        for name in later:
            (aside / shard / name).parent.mkdir(parents=True, exist_ok=True)
            (private / "shards" / shard / name).rename(aside / shard / name)
    write_records(snakemake, folder, private.relative_to(folder) / "shards", shards)
    measured(
        f"snakemake --dry-run, {len(shards):,} shards through one attempt",
        [*snakemake, "--dry-run", "--quiet", "rules", "--cores", "2"],
        folder,
    )
    left = re.search(r"^total +(\d+)", (folder / "bench.log").read_text(), re.M)
    assert int(left[1]) < 10 * len(shards), "that dry run did not resume"
    measured("deidlib status, every shard through one attempt", [*deidlib, "status", "results"], folder)
    for shard in shards:
        for name in later:
            (private / "shards" / shard / name).parent.mkdir(exist_ok=True)
            (aside / shard / name).rename(private / "shards" / shard / name)
    measured(f"deidlib status, every shard through {ATTEMPTS} attempts", [*deidlib, "status", "results"], folder)
    files = sum(len(names) for _, _, names in os.walk(private))
    print(f"{files:,} private files, without images")


if __name__ == "__main__":
    main()
