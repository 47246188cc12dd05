"""The late stages alone, over cohorts of growing size: seconds and peak memory of `release` and `embeddings`.

python tests/bench/late.py 1000 4000 16000 --side 48             # what rows cost
python tests/bench/late.py 200 400 --side 1024 --threads 1 2     # what pixels cost
python tests/bench/late.py 8 32 96 --side 1024 --embed           # one shard's embeddings
python tests/bench/late.py 1000000 --documents                      # index, anonymity and documents of so many rows

The tables are written as the stages leave them (one attempt, all of which pass), with drawings for images, and the
gate's verdict is set to passed. Then the decision is taken, and the release runs three times: a new version, the same
version again (which compares it with what is there), and `deidlib verify`; or, with `--embed`, the first shard is
embedded. `--documents` invents an index of so many rows and writes what lies in a release beside its images.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from scale import measured

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "unit")]
from shard_tables import CONFIG, MODELS, Spec, write_private  # noqa: E402

from deidlib.columns import rules as columns  # noqa: E402
from deidlib.columns.protect import protect  # noqa: E402
from deidlib.outcomes.outcomes import chosen_attempts, chosen_digest  # noqa: E402
from deidlib.release import documents  # noqa: E402
from deidlib.release.layout import image_paths  # noqa: E402
from deidlib.storage import tables  # noqa: E402
from deidlib.storage.results import Results, stage_table  # noqa: E402

SETTINGS = {
    "attempts": 1,
    "preset": {"checks": {"latent_distance_max": 10.0, "realism_min": -100.0}},
    "release": {"k": 1, "columns": {"sex": {"rule": "keep"}}, "date": "2026-03-01"},
}


def write_results(folder: Path, photos: int, side: int, of_shard: int) -> None:
    """Write the tables of all stages before the release, the plan and the verdict."""
    results = Results.of_folder(folder / "results")
    specs = [
        Spec(f"P{i // 3}", f"F{i}", sex="FM"[i // 3 % 2], shard=f"s{i // of_shard:04d}", side=side)
        for i in range(photos)
    ]
    shards = write_private(results.private, specs, attempts=1)
    for name in shards:
        donors = stage_table(results.shard(name), "donors", 0)
        rows = tables.read(donors, tables.DONORS).to_pylist()
        rows = [row | {"donor_id": row["release_photo_id"], "w": [0.0] * 512} for row in rows]
        tables.write(tables.from_rows(rows, tables.DONORS), donors, tables.DONORS)
    results.plan.write_text(json.dumps({"shards": shards}))
    verdict = {"passed": True, "criteria": [{"passed": True, "statement": "set by the bench", "note": ""}]}
    results.reid.mkdir()
    attacks = {"gate": verdict, "inputs": {"chosen": chosen_digest(chosen_attempts(results.private, shards))}}
    results.attacks.write_text(json.dumps(attacks))


def write_documents_of(rows: int, folder: Path) -> None:
    """Protect an index of invented rows and write every document of it."""
    rng = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz234567"))
    names, patients = (["".join(row) for row in letters[rng.integers(0, 32, (rows, 16))]] for _ in range(2))
    paths = image_paths(names)
    given = {
        "release_photo_id": names,
        "release_patient_id": [patients[i // 3] for i in range(rows)],
        "path": [paths[name] for name in names],
        "sha256": [f"{i:064x}" for i in range(rows)],
        "age": [f"{20 + 10 * (i // 3 % 6)}-{29 + 10 * (i // 3 % 6)}" for i in range(rows)],
        "sex": ["FM"[i // 3 % 2] for i in range(rows)],
    }
    same = {
        "route": "generate",
        "region_method": "mouth",
        "attempt": 0,
        "width": 1024,
        "height": 1024,
    }
    schema = pa.schema([*tables.INDEX, *columns.extra_schema(CONFIG["release"]["columns"])])
    cells = {field.name: given.get(field.name) or [same.get(field.name)] * rows for field in schema}
    index = protect(pa.Table.from_pydict(cells, schema=schema), CONFIG).index
    folder.mkdir(parents=True)
    documents.write_documents(folder, index, [], [], CONFIG, MODELS, "1.0.0", "2026-03-01")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=int, nargs="*", default=[1000, 4000])
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--threads", type=int, nargs="*", default=[1])
    parser.add_argument("--shard", type=int, default=1000, help="photographs of a shard")
    parser.add_argument("--embed", action="store_true", help="embeddings of the first shard instead of the release")
    parser.add_argument("--documents", action="store_true", help="index and documents of so many rows, without images")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-release"))
    given = parser.parse_args()
    deidlib = [sys.executable, "-c", "from deidlib.cli import app; app()"]
    for photos in given.photos:
        shutil.rmtree(given.folder, ignore_errors=True)
        if given.documents:
            write = f"import late, pathlib; late.write_documents_of({photos}, pathlib.Path('out'))"
            given.folder.mkdir(parents=True)
            environment = f"import sys; sys.path[:0] = {[str(REPOSITORY / 'tests' / 'bench')]}; "
            measured(f"index and documents of {photos} rows", [sys.executable, "-c", environment + write], given.folder)
            continue
        # in a process of its own: what is started after would else count this one's memory as its own
        maker = multiprocessing.get_context("spawn").Process(
            target=write_results, args=(given.folder, photos, given.side, given.shard)
        )
        maker.start()
        maker.join()
        if given.embed:
            out = "results/private/shards/s0000/embeddings.parquet"
            embed = ["embeddings", "--plan", "results/private/plan.json", "--shard", "s0000", "--out", out]
            what = f"embeddings, {photos} photographs of {given.side}²"
            measured(what, [*deidlib, *embed, "--config", json.dumps(SETTINGS)], given.folder)
            continue
        decide = [*deidlib, "decide", "--plan", "results/private/plan.json", "--config", json.dumps(SETTINGS)]
        measured(f"decide, {photos} photographs", decide, given.folder)
        for threads in given.threads:
            shutil.rmtree(given.folder / "results" / "release", ignore_errors=True)
            release = [*deidlib, "release", "--plan", "results/private/plan.json", "--out", "results/release/1.0.0"]
            release += [
                "--sheet",
                "results/private/samples.tsv",
                "--threads",
                threads,
                "--config",
                json.dumps(SETTINGS),
            ]
            what = f"{photos} photographs of {given.side}², {threads} threads"
            measured(f"release, {what}", release, given.folder)
            measured("  again, the version being there", release, given.folder)
            measured("  verify", [*deidlib, "verify", "results/release/1.0.0"], given.folder)


if __name__ == "__main__":
    main()
