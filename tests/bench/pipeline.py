"""Cost of every stage per photograph, and the share of Snakemake, over cohorts of growing size.

python tests/bench/pipeline.py 10 100 1000 --folder /tmp/deidlib-pipeline

Each size is a whole run, from the sheet to the report, on one core, so that stages do not overlap. The cohort is of
virtual patients, two photographs of 384² each (rest and smile), whom the generator draws beforehand; one attempt, one
step of inversion (the cheapest that the generator can be), shards of about 50.
Seconds of a stage are those of its processes, from Snakemake's benchmark files; what is left of the run's time is
Snakemake's. A stage's start (imports, models) is paid once a shard and is part of its cost. Beside each stage: the
largest resident memory of one of its processes, and what a further photograph cost from the size before to this one,
without what every run pays once. Processor seconds, of the whole run, say what a busy machine would hide (Snakemake
reads those of a stage every half minute only).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
from small_cohort import KEY, SETTINGS  # noqa: E402

SHARD, SIDE, PER_PATIENT = 50, 384, 2
CHEAP = {
    "attempts": 1,
    "preset": SETTINGS["preset"] | {"inversion": {"steps": 1}},
    "reid": {"sweep_photos": 0, "reversal_steps": 20},
}
_REST = {"yaw": 0.0, "pitch": 2.0, "smile": 0.02, "upper_up": 0.02, "jaw_open": 0.01, "pucker": 0.05}
_SMILE = {"yaw": 0.0, "pitch": 2.0, "smile": 0.85, "upper_up": 0.6, "jaw_open": 0.03, "pucker": 0.0}


def draw_patients(folder: Path, patients: int, seed: int = 11) -> None:
    """Draw virtual patients that are not in ``folder`` yet: ``PATIENT-rest.png`` and ``PATIENT-smile.png``."""
    import torch

    from deidlib.donors import model
    from deidlib.donors.bank import to_uint8

    folder.mkdir(parents=True, exist_ok=True)
    network, editor, _ = model.donor_model("mobilestylegan")
    for number in range(patients):
        paths = [folder / f"{number:05d}-{name}.png" for name in ("rest", "smile")]
        if all(path.exists() for path in paths):
            continue
        z = np.random.default_rng([seed, number]).standard_normal((1, 512)).astype(np.float32)
        with torch.no_grad():
            w = network.map(torch.from_numpy(z))[0].double().numpy()
            w = editor.prior.mean + 0.7 * (w - editor.prior.mean)
            codes = np.array([editor.follow(w, _REST), editor.follow(w, _SMILE)], np.float32)
            batch = torch.from_numpy(codes)[:, None].expand(-1, network.n_styles, -1)
            images = to_uint8(network.synthesise(batch))
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(path)


def write_cohort(folder: Path, drawn: Path, photos: int) -> Path:
    """Write sheet, key and configuration of a cohort of the first patients; returns the configuration's path."""
    files = [f"{i // PER_PATIENT:05d}-{('rest', 'smile')[i % PER_PATIENT]}" for i in range(photos)]
    rows = [f"P{file[:5]}\t{file}\t{file}.png\tyes\tfrontal_{file[6:]}" for file in files]
    sheet = drawn / f"{photos}.tsv"
    sheet.write_text("\n".join(["patient_id\tphoto_id\tpath\tconsent\tview", *rows]) + "\n")
    (folder / "key").write_text(KEY)
    (folder / "key").chmod(0o600)
    given = {"cohort": str(sheet), "key_file": str(folder / "key")}
    given["shards"] = math.ceil(photos / SHARD)
    (folder / "my.yaml").write_text(yaml.safe_dump({**SETTINGS, **CHEAP, **given}))
    return folder / "my.yaml"


def costs(benchmarks: Path) -> dict[str, dict[str, float]]:
    """Rule → seconds, summed over its jobs; the largest resident memory of one, MiB."""
    found = defaultdict(lambda: {"s": 0.0, "max_rss": 0.0})
    for file in sorted(benchmarks.rglob("*.tsv"), key=os.path.getmtime):
        mine = found[file.parent.name if file.parent != benchmarks else file.stem]
        with open(file, newline="") as rows:
            for row in csv.DictReader(rows, delimiter="\t"):
                cells = {name: float(row[name]) if row[name] not in ("-", "NA") else 0.0 for name in mine}
                mine["s"] += cells["s"]
                mine["max_rss"] = max(mine["max_rss"], cells["max_rss"])
    return dict(found)


def run(folder: Path, drawn: Path, photos: int) -> dict:
    """Run one cohort from the sheet to the report; what it cost."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    given = write_cohort(folder, drawn, photos)
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--cores", "1"]
    begun = time.monotonic()
    with open(folder / "run.log", "w") as log:
        process = subprocess.Popen([*map(str, command), "--configfile", str(given)], cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begun
    release = folder / "results" / "release" / "1.0.0"
    stages, held = costs(folder / "results" / "logs" / "benchmarks"), ""
    if not release.is_dir():
        stages["release"], held = release_past_the_gate(folder, given)
        release = folder / "past-the-gate" / "1.0.0"
    elif status:
        sys.exit((folder / "run.log").read_text()[-3000:])
    return {
        "photos": photos,
        "wall": wall,
        "processor": usage.ru_utime + usage.ru_stime,
        "stages": stages,
        "held": held,
        "released": sum(1 for _ in (release / "images").rglob("*.png")),
        "files": sum(len(names) for _, _, names in os.walk(folder / "results" / "private")),
    }


def release_past_the_gate(folder: Path, given: Path) -> tuple[dict[str, float], str]:
    """Measure the release of a cohort that the gate held back, into a folder of its own; also what failed."""
    attacks = json.loads((folder / "results" / "private" / "reid" / "attacks.json").read_text())
    failed = [entry["name"] for entry in attacks["gate"]["criteria"] if entry["passed"] is not True]
    if not failed:
        sys.exit((folder / "run.log").read_text()[-3000:])
    code = (
        "import json, sys, yaml; from pathlib import Path; from deidlib import config; "
        "from deidlib.release import write_release; private = Path('results/private'); "
        "c = config.complete_config(yaml.safe_load(open(sys.argv[1]))); "
        "shards = json.loads((private / 'plan.json').read_text())['shards']; "
        "write_release(private, Path('past-the-gate'), shards, c['attempts'], '1.0.0', c, [])"
    )
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code, str(given)], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("the release past the gate failed; its error is above")
    return {"s": time.monotonic() - begun, "max_rss": usage.ru_maxrss / 1024}, ", ".join(failed)


def show(one: dict, before: dict | None) -> None:
    """Print the table of one size."""
    photos, more = one["photos"], one["photos"] - before["photos"] if before else 0
    print(
        f"\n{photos} photographs, {one['released']} released, {math.ceil(photos / SHARD)} shards, "
        f"{one['files']} private files\n{'':12}seconds  per photograph  further one      MiB"
    )
    if one["held"]:
        print(f"(held back by the release gate: {one['held']}; the release was measured by itself, there is no report)")
    rows = [(name, cost["s"], cost["max_rss"]) for name, cost in one["stages"].items()]
    inside = sum(row[1] for row in rows if not (one["held"] and row[0] == "release"))
    rows += [("Snakemake", one["wall"] - inside, None), ("all", one["wall"], None)]
    rows += [("processor", one["processor"], None)]
    earlier = {name: cost["s"] for name, cost in before["stages"].items()} if before else {}
    if before:
        earlier |= {"all": before["wall"], "Snakemake": before["wall"] - sum(earlier.values())}
        earlier |= {"processor": before["processor"]}
    for name, seconds, memory in rows:
        further = f"{(seconds - earlier.get(name, 0.0)) / more:.3f}" if more else ""
        size = "" if memory is None else f"{memory:.0f}"
        print(f"{name:10}{seconds:9.1f}{seconds / photos:16.3f}{further:>13}{size:>9}")
    print(f"Snakemake's share: {1 - inside / one['wall']:.0%}", flush=True)


def main() -> None:
    """Print a table for each size; ``costs.json`` in the folder keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-pipeline"))
    given = parser.parse_args()
    folder, done = given.folder.absolute(), []
    draw_patients(folder / "drawn", math.ceil(max(given.photos) / PER_PATIENT))
    for photos in given.photos:
        done.append(run(folder / "run", folder / "drawn", photos))
        (folder / "costs.json").write_text(json.dumps(done, indent=2))
        show(done[-1], done[-2] if len(done) > 1 else None)


if __name__ == "__main__":
    main()
