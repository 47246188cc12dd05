"""Three versions of a small cohort through Snakemake: a patient is added, another one revokes consent.

Two virtual patients and the portrait that scikit-image ships (NASA, public domain), in two shards.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from skimage import data
from snakemake_runs import SETTINGS, jobs, snakemake

from deidlib import keys
from deidlib.demo import virtual_patients
from deidlib.donors import model
from deidlib.release import compare_releases, content_digest, verify_release

KEY = "one fixed key, so that every run of this test draws the same donors"
OF_A_SHARD = ("intake", "landmarks", "regions", "embeddings")
OF_AN_ATTEMPT = ("donors", "inversion", "blending", "checks")


def patients_of_shards() -> tuple[str, str, str]:
    """A patient of one shard and two of the other."""
    names = [f"Sentinel{i}" for i in range(20)]
    first = [name for name in names if keys.shard_of(KEY.encode(), name, 2) == 0]
    second = [name for name in names if keys.shard_of(KEY.encode(), name, 2) == 1]
    return first[0], second[0], second[1]


def write_sheet(folder: Path, rows: dict[str, str]) -> None:
    """Patient → consent; a patient keeps their line, as config/README.md asks."""
    lines = [f"{name}\t{name}-photo\t{name}.png\t{consent}\tfrontal_smile" for name, consent in rows.items()]
    (folder / "samples.tsv").write_text("\n".join(["patient_id\tphoto_id\tpath\tconsent\tview", *lines]) + "\n")


def images_in(folder: Path) -> set[bytes]:
    """Every image that a table below a folder holds."""
    found = set()
    for path in folder.rglob("*.parquet"):
        names = [name for name in pq.read_schema(path).names if name in ("image", "mask", "core", "band")]
        for column in pq.read_table(path, columns=names).columns:
            found |= {cell for cell in column.to_pylist() if cell}
    return found


def traces(folder: Path, names: set[str]) -> tuple[set[str], set[tuple]]:
    """Files below a folder that name one of these pseudonyms, and every embedding that one of them holds."""
    holders, held = set(), set()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            if "embedding" in table.column_names:
                held |= {tuple(cell) for cell in table["embedding"].to_pylist() if cell}
            text = repr([table[name].to_pylist() for name in table.column_names if name not in ("image", "mask")])
        else:
            text = path.read_bytes().decode("latin-1")
        if any(name in text for name in names):
            holders.add(str(path.relative_to(folder)))
    return holders, held


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.exhaustive
def test_added_and_withdrawn_patients_touch_their_shard_alone(tmp_path, model_files):
    model_files("mobilestylegan")
    generator, editor, _ = model.donor_model("mobilestylegan")
    cohort, results = tmp_path / "cohort", tmp_path / "results"
    cohort.mkdir()
    a, b, c = patients_of_shards()
    Image.fromarray(data.astronaut()[:400, 20:420]).save(cohort / f"{a}.png")
    for name, (_, smile) in zip((b, c), virtual_patients(generator, editor, count=2), strict=True):
        Image.fromarray(smile).resize((420, 420), Image.Resampling.LANCZOS).save(cohort / f"{name}.png")
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)

    def settings(version: str) -> Path:
        given = SETTINGS | {"cohort": str(cohort / "samples.tsv"), "key_file": str(tmp_path / "key"), "shards": 2}
        given |= {"version": version, "release": {"columns": {}, "date": "2026-03-01"}}
        (tmp_path / "my.yaml").write_text(yaml.safe_dump(given))
        return tmp_path / "my.yaml"

    def make(version: str) -> tuple[Path, dict[str, int]]:
        """Plan, note which jobs a dry run announces, run; the release and the jobs."""
        given = ("--configfile", settings(version))
        done = snakemake(tmp_path, "results/private/plan.json", *given)
        assert done.returncode == 0, done.stdout[-4000:]
        announced = jobs(snakemake(tmp_path, "--dry-run", *given).stdout)
        done = snakemake(tmp_path, *given)
        assert done.returncode == 0, done.stdout[-6000:]
        release = results / "release" / version
        assert verify_release(release) == []
        return release, announced

    def assert_one_shard(announced: dict[str, int]) -> None:
        assert {name: announced[name] for name in OF_A_SHARD} == dict.fromkeys(OF_A_SHARD, 1)
        attempts = dict.fromkeys(OF_AN_ATTEMPT, SETTINGS["attempts"])
        assert {name: announced[name] for name in OF_AN_ATTEMPT} == attempts

    write_sheet(cohort, {a: "yes", b: "yes"})
    first, announced = make("1.0.0")
    assert announced["intake"] == 2
    untouched = files(results / "private/shards/s0000")

    write_sheet(cohort, {a: "yes", b: "yes", c: "yes"})
    second, announced = make("1.1.0")
    assert_one_shard(announced)
    assert files(results / "private/shards/s0000") == untouched
    change = compare_releases(first, second)
    assert list(change.added.values()) == ["new patient"]
    assert (change.removed, change.changed, change.settings, change.unchanged) == ({}, {}, [], 2)
    before = images_in(results / "private")
    embeddings = results / "private/shards/s0001/embeddings.parquet"
    cache = results / "private/reid/0123456789abcdef/s0001.parquet"  # as `deidlib reid RELEASE` leaves one
    cache.parent.mkdir()
    shutil.copy(embeddings, cache)
    gone_photo = keys.pseudonym(KEY.encode(), "photo", b, f"{b}-photo")
    templates = {
        tuple(row["embedding"])
        for row in pq.read_table(embeddings).to_pylist()
        if row["release_photo_id"] == gone_photo and row["embedding"] and row["recogniser"] != "phash"
    }
    assert templates

    write_sheet(cohort, {a: "yes", b: "no", c: "yes"})
    os.utime(cohort / "samples.tsv", (1_000_000_000, 1_000_000_000))  # as of a restored copy: content decides
    third, announced = make("2.0.0")
    assert_one_shard(announced)
    assert files(results / "private/shards/s0000") == untouched
    key = KEY.encode()
    gone = {keys.pseudonym(key, "patient", b), keys.pseudonym(key, "photo", b, f"{b}-photo")}
    assert set((third / "tombstones.txt").read_text().split()) == gone
    change = compare_releases(second, third)
    assert (len(change.removed), change.added, change.changed, change.unchanged) == (1, {}, {}, 2)
    for path in (third / "images").rglob("*.png"):
        assert path.read_bytes() == (second / path.relative_to(third)).read_bytes()
    released = [path for path in third.rglob("*") if path.is_file() and path.name != "tombstones.txt"]
    assert [path for path in released if any(name.encode() in path.read_bytes() for name in gone)] == []

    kept = images_in(results / "private")
    photo = Image.open(cohort / f"{b}.png")
    sources = {table_image for table_image in before - kept if _same_size(table_image, photo.size)}
    assert sources, "the original of the withdrawn patient was in private/ before"
    rows = pq.read_table(results / "private/shards/s0001/photos.parquet").to_pylist()
    assert [(row["status"], row["image"] is None) for row in sorted(rows, key=lambda row: row["row"])] == [
        ("quarantined", True),
        ("ok", False),
    ]
    assert not cache.exists()
    holders, held = traces(results / "private", gone)
    assert not held & templates
    # Why each stays: docs/withdrawal.md.
    assert holders <= {
        "crosswalk.parquet",
        "quarantine.tsv",
        "released.parquet",
        "shards/s0001/outcomes.parquet",
        "shards/s0001/photos.parquet",
    }
    shutil.rmtree(first)  # as the institution should: the newest list still says what to delete
    shutil.rmtree(second)
    assert content_digest(third)


def _same_size(png: bytes, size: tuple[int, int]) -> bool:
    return png[16:24] == size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
