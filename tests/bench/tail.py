"""The stages over the whole cohort at 10⁵ or 10⁶ invented photographs: seconds and peak memory of each.

make bench-scale
python tests/bench/tail.py --photos 1000000 --folder /tmp/deidlib-tail

One shard is drawn (images of 48², one attempt, all of which pass). The others are copies of it with ids and
embeddings of their own: of the recognisers' real sizes, or of --values. Then the stages run as a run starts them,
each in a process of its own. Of what several jobs share, one part is measured, of the searches the middle one. The
other parts of the searches are invented, so that the attacks can join them (ranks and scores are drawn), unless
--searches counts them all; the other parts of the images are made and not measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from recorded import record
from scale import measured

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "unit")]
# Heavy modules are imported in the processes that need them: what is started after would count their memory as its own.
from deidlib.storage.results import Results, stage_table  # noqa: E402
from deidlib.storage.shares import image_jobs, search_jobs  # noqa: E402

OF_SHARD, SIDE, EACH = 1000, 48, 3  # photographs of a shard, their side in pixels, photographs of a patient
SIZES = {"sface": 128, "dlib": 128, "facexzoo": 512}
SHOWN = ("original", "square", "square_region", "square_context", "released", "released_region", "released_context")
SETTINGS = {
    "attempts": 1,
    "version": "1.0.0",
    "preset": {"checks": {"latent_distance_max": 10.0, "realism_min": -100.0}},
    "release": {"k": 1, "columns": {"sex": {"rule": "keep"}}, "date": "2026-03-01"},
    "reid": {"reversal_steps": 0, "sweep_photos": 0},
}
#: Columns that name a photograph, a patient or a donor: each shard has its own.
_NAMES = ("release_photo_id", "release_patient_id", "patient_id", "photo_id", "donor_id")


def renamed(column, name: str, salt: str, row: int):
    """A column of another shard: ids are replaced, rows of the sheet moved; in lists and structures as well."""
    return _renamed(column.combine_chunks(), name, salt, row)


def _renamed(values, name: str, salt: str, row: int):
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type
    if pa.types.is_struct(kind):
        parts = [_renamed(values.field(i), kind.field(i).name, salt, row) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=pc.is_null(values))
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        inner = _renamed(values.values, name, salt, row)
        return pa.ListArray.from_arrays(values.offsets, inner, type=kind)
    if name == "row":
        return pc.add(values, row)
    if name not in _NAMES:
        return values
    encoded = values.dictionary_encode()
    others = [_other(one, salt) for one in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(others, kind)).dictionary_decode()


def _other(name: str, salt: str) -> str:
    digest = hashlib.sha256(f"{salt}/{name}".encode()).digest()
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[byte % 32] for byte in digest[:16])


def write_embeddings(photos, sizes: dict[str, int], rng: np.random.Generator, out: Path) -> None:
    """Invent what the recognisers make of a shard: patients alike to themselves, new faces a little alike to them."""
    import pyarrow as pa

    from deidlib.reid.cohort import write_embeddings as write
    from deidlib.reid.embeddings import LOOKS, PHASH
    from deidlib.reid.looks import KINDS, LOOK_VALUES
    from deidlib.reid.soft_biometrics import LOOKS_SHOWN
    from deidlib.storage import tables

    names = np.array(photos["release_photo_id"].to_pylist())
    patients = np.array(photos["release_patient_id"].to_pylist())
    people, first, whose = np.unique(patients, return_index=True, return_inverse=True)
    parts = []

    def add(shown: str, recogniser: str, vectors: np.ndarray, rows: np.ndarray = slice(None)) -> None:
        flat = pa.array(vectors.astype(np.float32).reshape(-1))
        offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
        columns = {
            "release_photo_id": pa.array(names[rows]),
            "release_patient_id": pa.array(patients[rows]),
            "attempt": pa.array([0] * len(vectors), pa.int32()),
            "shown": pa.array([shown] * len(vectors)),
            "recogniser": pa.array([recogniser] * len(vectors)),
            "embedding": pa.ListArray.from_arrays(pa.array(offsets), flat),
        }
        parts.append(pa.table(columns).cast(tables.EMBEDDINGS))

    for recogniser, size in sizes.items():
        own = rng.standard_normal((len(people), size), dtype=np.float32)[whose]
        for shown in SHOWN:
            found = (0.3 if "released" in shown else 1.5) * own
            found += rng.standard_normal(found.shape, dtype=np.float32)
            add(shown, recogniser, found / np.linalg.norm(found, axis=1, keepdims=True))
        found = rng.standard_normal((len(people), size), dtype=np.float32)
        add("donor", recogniser, found / np.linalg.norm(found, axis=1, keepdims=True), first)
    look = rng.standard_normal((len(people), LOOK_VALUES), dtype=np.float32)[whose]
    for shown in LOOKS_SHOWN:
        found = look + rng.standard_normal(look.shape, dtype=np.float32)
        found[:, KINDS["sex"]] = (whose % 2)[:, None]
        found[:, KINDS["age"]] = 20 + (whose % 50)[:, None]
        found[:, KINDS["tone"]] = np.array([60.0, 12, 18]) + found[:, KINDS["tone"]]
        add(shown, LOOKS, found)
    for shown in ("square", "released"):
        add(shown, PHASH, rng.integers(0, 2, (len(names), 64)))
    order = [(name, "ascending") for name in ("release_photo_id", "shown", "recogniser")]
    write(pa.concat_tables(parts).sort_by(order), out)


def write_results(folder: Path, photos: int, values: int | None) -> None:
    """Write the tables of all stages up to the embeddings, the sheet and the plan."""
    from shard_tables import Spec, write_private

    from deidlib.storage import tables

    results = Results.of_folder(folder / "results")
    of_shard = min(photos, OF_SHARD)
    specs = [Spec(f"P{i // EACH}", f"F{i}", sex="FM"[i // EACH % 2], side=SIDE) for i in range(of_shard)]
    (first,) = write_private(folder / "one", specs, attempts=1)
    donors = stage_table(Results(folder / "one").shard(first), "donors", 0)
    rows = tables.read(donors, tables.DONORS).to_pylist()
    rows = [row | {"donor_id": row["release_photo_id"], "w": [0.0] * 512} for row in rows]
    tables.write(tables.from_rows(rows, tables.DONORS), donors, tables.DONORS)
    there = Results(folder / "one").shard(first)
    made = {path.relative_to(there): path for path in there.rglob("*.parquet")}
    names = [f"s{number:04d}" for number in range(math.ceil(photos / of_shard))]
    schemas = {path: getattr(tables, path.stem.upper()) for path in made}
    whole = {path: tables.read(file, schemas[path]) for path, file in made.items()}
    sizes = {name: values or size for name, size in SIZES.items()}
    write = partial(_write_shard, results, whole, schemas, sizes, of_shard)
    with (
        open(folder / "samples.tsv", "w", encoding="utf-8") as sheet,
        multiprocessing.get_context("spawn").Pool() as pool,
    ):
        print("patient_id", "photo_id", "path", "consent", sep="\t", file=sheet)
        for lines in pool.imap(write, names):
            print(*lines, sep="\n", file=sheet)
    results.plan.write_text(json.dumps({"shards": names, "n_photos": photos}))
    results.reid.mkdir()


def _write_shard(results, whole: dict, schemas: dict, sizes: dict[str, int], of_shard: int, name: str) -> list[str]:
    """Write the tables of one shard, copies of `whole` under other names, and return its lines of the sheet."""
    import pyarrow as pa

    from deidlib.storage import tables

    number, shard = int(name[1:]), results.shard(name)
    made = {}
    for path, table in whole.items():
        columns = [renamed(table[field.name], field.name, name, number * of_shard) for field in table.schema]
        made[path.name] = pa.Table.from_arrays(columns, schema=table.schema)
        tables.write(made[path.name], shard / path, schemas[path])
    made_in_order(shard, made["outcomes.parquet"])
    photos = made["photos.parquet"]
    write_embeddings(photos, sizes, np.random.default_rng([7, number]), stage_table(shard, "embeddings"))
    ids = zip(photos["patient_id"].to_pylist(), photos["photo_id"].to_pylist(), strict=True)
    return [f"{patient}\t{photo}\tphoto.jpg\tyes" for patient, photo in ids]


def made_in_order(shard: Path, outcomes) -> None:
    """Write the outcomes as their stage does, and give the tables times in the order of the stages."""
    from deidlib.running.shard import Step, counts_of_steps, steps
    from deidlib.storage import tables

    path = Step("outcomes").file(shard)
    with tables.writing(path, tables.OUTCOMES, lambda: counts_of_steps(shard, SETTINGS["attempts"])) as append:
        append(outcomes)
    for place, step in enumerate(steps(SETTINGS["attempts"])):
        if step.file(shard).exists():
            os.utime(step.file(shard), (place, place))


def refuse_empty(part: Path) -> None:
    """End the bench if the measured part of the searches holds none: there are more parts than blocks of probes."""
    from deidlib.storage import sealed

    with sealed.opened(part) as file:
        if not file.num_rows:
            sys.exit("the measured part of the searches holds no search: name fewer parts (--of)")


def invent_searches(private: Path, photos: int) -> None:
    """Write, as part 1, the searches that the measured part, in place of part 0, left: numbers that are drawn."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from deidlib.reid.attacker import IMPOSTORS, RANKED
    from deidlib.reid.soft_biometrics import FUSED, FUSED_SEARCHES, LOOK_SEARCHES
    from deidlib.storage import sealed, tables

    results, rng = Results(private), np.random.default_rng(9)
    of_faces = [*("/".join(shown) for shown in (*RANKED, *IMPOSTORS)), *(f"{seen}/{FUSED}" for seen in FUSED_SEARCHES)]
    names = [f"{recogniser}/{one}" for recogniser in SIZES for one in of_faces]
    names += [f"looks/{seen}/{kind}" for seen, kind in LOOK_SEARCHES]
    with sealed.opened(results.searches(0)) as file:
        notes, counted = file.notes, file.read(["search", "row"])
    of_shard = min(photos, OF_SHARD)
    people = math.ceil(photos / of_shard) * math.ceil(of_shard / EACH)
    groups: dict[str, int] = {}
    with tables.writing(
        results.searches(1), tables.SEARCHES, lambda: notes | {"searches": json.dumps(groups)}
    ) as append:
        for name in names:
            probes = people if name.endswith("donor/donor") else photos
            rows = np.setdiff1d(np.arange(probes), counted.filter(pc.equal(counted["search"], name))["row"].to_numpy())
            if len(rows):
                groups[name] = len(groups)
                ranks = [rng.integers(1, photos + 1, len(rows)).astype(float) for _ in range(3)]
                scores = [rng.standard_normal(len(rows), dtype=np.float32) for _ in range(4)]
                append(pa.table([[name] * len(rows), rows, *ranks, *scores], schema=tables.SEARCHES))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--values", type=int, help="values of an embedding, instead of each recogniser's own")
    parser.add_argument("--of", type=int, help="parts into which the searches are cut, instead of the workflow's")
    parser.add_argument("--searches", action="store_true", help="count all parts of the searches, not one alone")
    parser.add_argument("--keep", action="store_true", help="use tables that are in the folder, and leave them there")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-tail"))
    given = parser.parse_args()
    folder, n = given.folder, given.photos
    searches_of = given.of or max(2, search_jobs(n))
    private = folder / "results" / "private"
    if not (given.keep and Results(private).plan.is_file()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        in_process(write_results, folder, n, given.values)
    deidlib = [sys.executable, "-c", "from deidlib.cli import app; app()"]
    plan = ["--plan", "results/private/plan.json"]
    config = ["--config", json.dumps(SETTINGS)]

    def timed(name: str, what: str, command: list) -> None:
        record(name, n, what, *measured(f"{name}, {n:,} photographs{what and f', {what}'}", command, folder))

    timed("status", "", [*deidlib, "status", "results"])
    digests = ["--digests", "results/private/reid/embeddings.json"]
    timed("gather", "", [*deidlib, "gather", *plan, "--out", digests[1]])
    for place, part in enumerate(range(searches_of) if given.searches else [searches_of // 2]):
        out = ["--part", part, "--of", searches_of, "--out", Results(Path("results/private")).searches(place)]
        timed("search", f"part {part} of {searches_of}", [*deidlib, "search", *plan, *digests, *out, *config])
    in_process(refuse_empty, Results(private).searches(0))
    if not given.searches:
        in_process(invent_searches, private, n)
    parts = ["--parts", searches_of if given.searches else 2]
    timed("reid", "", [*deidlib, "reid", *plan, *parts, "--out", "results/private/reid/attacks.json", *config])
    pass_the_gate(Results(private))
    timed("decide", "", [*deidlib, "decide", *plan, *config])
    of, results, release = image_jobs(n), Results(Path("results/private")), "results/release/1.0.0"
    parts = ["--parts", of]

    def shared_work(name: str, command: list, place: Callable[[str, int], Path]) -> None:
        lines = [
            [*deidlib, name, *command, "--part", part, "--of", of, "--out", place("1.0.0", part)] for part in range(of)
        ]
        if of > 1:
            timed(name, f"part 0 of {of}", lines[0])
            with ThreadPool() as pool:
                pool.map(
                    lambda line: subprocess.run([*map(str, line)], cwd=folder, check=True, capture_output=True),
                    lines[1:],
                )

    shared_work("images", [*plan, *config], results.release_part)
    timed("release", "", [*deidlib, "release", *plan, "--sheet", "samples.tsv", "--out", release, *parts, *config])
    shared_work("examine", [release], results.examined_part)
    report = ["report", *plan, "--out", "results/report/1.0.0", "--release", release]
    timed("report", "", [*deidlib, *report, *parts, *config])
    timed("verify", "", [*deidlib, "verify", release])
    if n < 1_000_000:
        print("not run: the stages over the whole cohort on a million photographs (--photos 1000000)")
    if not given.keep:
        shutil.rmtree(folder)


def in_process(what: Callable, *arguments) -> None:
    """Call in a process of its own: what is started after would else count this one's memory as its own."""
    process = multiprocessing.get_context("spawn").Process(target=what, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{what.__name__} failed")


def pass_the_gate(results: Results) -> None:
    """Set the verdict to passed: random embeddings are no evidence, and the later stages need a release."""
    attacks = json.loads(results.attacks.read_text())
    attacks["gate"] |= {"passed": True, "verdict": "passed"}
    for criterion in attacks["gate"]["criteria"]:
        criterion |= {"passed": True, "verdict": "passed", "small": False}
    results.attacks.write_text(json.dumps(attacks))


if __name__ == "__main__":
    main()
