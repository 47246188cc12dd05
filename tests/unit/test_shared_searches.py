"""Searches that jobs share give the numbers of one process, bit for bit; what is incomplete is refused."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from deidlib.errors import DeidlibError, InputError
from deidlib.reid import ranking
from deidlib.reid.attacker import SHOWN
from deidlib.reid.embeddings import LOOKS, PHASH, CohortFaces, Faces
from deidlib.reid.looks import KINDS, LOOK_VALUES
from deidlib.reid.parrot import parrot_attacks
from deidlib.reid.ranking import Pairing, compare, merged
from deidlib.reid.shared import digest_of_inputs, planned_searches, read_parts, write_part
from deidlib.reid.side_channels import Photo
from deidlib.reid.soft_biometrics import LOOKS_SHOWN
from deidlib.reid.stage import side_by_side
from deidlib.reid.suite import Evidence, run_suite
from deidlib.storage import tables
from deidlib.storage.shares import search_jobs

PEOPLE, EACH, SIZE = 60, 3, 12
OPTIONS = {"fmr": 0.01, "fpir": 0.05, "seed": 3, "interval_patients": 1000, "interval_upper": 0.5}
OPTIONS |= {"small_cohort": "withhold"}
ABOUT = {
    name: {"title": name, "same_above": above, "role": "judge", "published_threshold": 0.5, "sha256": "0"}
    for name, above in (("cosine", True), ("distance", False))
}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that a few hundred photographs fill many of them."""
    monkeypatch.setattr(ranking, "PROBE_BLOCK", 16)
    monkeypatch.setattr(ranking, "GALLERY_AT_ONCE", 32)
    monkeypatch.setattr(ranking, "SCORES_AT_ONCE", 512)


def photo(i: int) -> tuple[str, str]:
    return f"photo{i:04d}", f"patient{i // EACH:03d}"


def cohort(rng) -> pa.Table:
    """Embeddings of a cohort whose new faces resemble the patients a little; some faces are not found."""
    people, rows = rng.normal(size=(PEOPLE, SIZE)), []
    for i in range(PEOPLE * EACH):
        name, patient = photo(i)
        for recogniser, kinds in [*((one, SHOWN) for one in ABOUT), (LOOKS, LOOKS_SHOWN)]:
            for shown in kinds:
                if shown == "donor" and i % EACH:
                    continue
                size = LOOK_VALUES if recogniser == LOOKS else SIZE
                own = np.resize(people[i // EACH], size) * (0.6 if "released" in shown else 2.0)
                found = own + rng.normal(size=size)
                if recogniser == LOOKS:
                    found[KINDS["sex"]] = (i // EACH) % 2
                else:
                    found /= np.linalg.norm(found)
                rows.append(
                    {
                        "release_photo_id": name,
                        "release_patient_id": patient,
                        "shown": shown,
                        "recogniser": recogniser,
                        "embedding": None if shown == "released" and i % 11 == 5 else found,
                    }
                )
        for shown in ("square", "released"):
            bits = (rng.random(64) < 0.5).astype(float)
            rows.append({"release_photo_id": name, "release_patient_id": patient, "shown": shown})
            rows[-1] |= {"recogniser": PHASH, "embedding": bits}
    return tables.from_rows(rows, tables.EMBEDDINGS)


def evidence(table: pa.Table, rng, **more) -> Evidence:
    photos = [Photo(*photo(i), row=i + 2, released=True, side=48, donor=photo(i)[1]) for i in range(PEOPLE * EACH)]
    bank = {name: rng.normal(size=(50, SIZE)).astype(np.float32) for name in ABOUT}
    return Evidence(photos, partial(of_any, table), ABOUT, bank, **more)


def of_any(table: pa.Table, recogniser: str, shown: str) -> list[pa.Table]:
    return [table]


def shared(folder, one: Evidence, parts: int):
    above = {name: about["same_above"] for name, about in ABOUT.items()}
    others = {name: one.distractors(name) for name in ABOUT}
    files = [folder / f"{part}.parquet" for part in range(parts)]
    for part, file in enumerate(files):
        planned = planned_searches(one.embeddings, above, others, OPTIONS["seed"])
        write_part(file, planned, (part, parts), digest_of_inputs({"a": "b"}))
    return files


def test_few_renderings_are_in_memory_at_a_time():
    table, read = cohort(np.random.default_rng(1)), []

    def reading(recogniser, shown):
        read.append(shown)
        return [table]

    faces = CohortFaces(reading, next(iter(ABOUT)), SHOWN)
    for shown in ("original", "released_region", "square_region", "released", "square_region", "original"):
        assert len(faces[shown]) > 0
    assert read == ["original", "released_region", "square_region", "released"]
    faces["released_region"], faces["original"]
    assert read[4:] == ["released_region"]
    with pytest.raises(KeyError):
        faces["square"]


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_attacks_by_shared_searches_are_those_of_one_process(tmp_path, small_blocks, parts):
    table = cohort(np.random.default_rng(1))
    one = evidence(table, np.random.default_rng(2))
    files = shared(tmp_path, one, parts)
    other = evidence(table, np.random.default_rng(2), compare=read_parts(files, digest_of_inputs({"a": "b"})))
    results = [run_suite(which, OPTIONS, "per_patient") for which in (one, other)]
    assert results[0] == results[1]
    assert any(0 < attack["hits"] < attack["trials"] for attack in results[0]["attacks"])


def test_recognisers_that_attack_side_by_side_give_the_results_of_one_process(tmp_path):
    table = cohort(np.random.default_rng(1))
    files = shared(tmp_path, evidence(table, np.random.default_rng(2)), 3)
    more = [partial(parrot_attacks, fmr=0.01, seed=3)]
    results = []
    for processes in (1, 2):
        one = evidence(table, np.random.default_rng(2), compare=read_parts(files, digest_of_inputs({"a": "b"})))
        with side_by_side(processes) as each:
            results.append(run_suite(one, OPTIONS, "per_patient", more, each=each))
    assert results[0] == results[1]
    assert [about["name"] for about in results[0]["recognisers"]] == list(ABOUT)


def test_what_stops_a_process_of_its_own_is_told_by_its_words(tmp_path):
    table = cohort(np.random.default_rng(1))
    files = shared(tmp_path, evidence(table, np.random.default_rng(2)), 3)
    one = evidence(table, np.random.default_rng(2), compare=read_parts(files, digest_of_inputs({"a": "b"})))
    files[1].write_bytes(files[1].read_bytes()[:-400] + bytes(400))
    with side_by_side(2) as each, pytest.raises(InputError, match=f"^{files[1].name} is damaged; delete it"):
        run_suite(one, OPTIONS, "per_patient", each=each)


_STARTS = """
import os, sys, time

def work(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    from deidlib.reid.stage import side_by_side
    with side_by_side(2) as each:
        list(each(work, sys.argv[1:]))
"""


def test_processes_of_their_own_end_with_the_one_that_started_them(tmp_path):
    program, files = tmp_path / "starts.py", [tmp_path / "a", tmp_path / "b"]
    program.write_text(_STARTS)
    started = subprocess.Popen([sys.executable, program, *files])
    wait_until(lambda: all(file.is_file() and file.read_text() for file in files))
    started.kill()
    started.wait()
    wait_until(lambda: not any(alive(int(file.read_text())) for file in files))


def wait_until(done, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def killed(name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_the_system_ends_is_told_in_words():
    with pytest.raises(DeidlibError, match="more memory"), side_by_side(2) as each:
        list(each(killed, ABOUT))


@pytest.mark.parametrize("same_above", [True, False])
def test_numbers_follow_their_definition_in_blocks(small_blocks, same_above):
    rng = np.random.default_rng(5)
    vectors = [rng.normal(size=(n, 8)).astype(np.float32) for n in (90, 75, 40)]
    probes = Faces(np.array([f"p{i}" for i in range(90)]), np.array([f"q{i // 2}" for i in range(90)]), vectors[0])
    order = rng.permutation(75)
    gallery = Faces(probes.photos[order], probes.patients[order], vectors[1])
    found = compare(Pairing("x", probes, gallery, same_above, vectors[2]))

    def likeness(others):
        return probes.vectors @ others.T if same_above else -np.linalg.norm(probes.vectors[:, None] - others, axis=2)

    alike, crowd = likeness(gallery.vectors), likeness(vectors[2])
    assert list(found.row) == [i for i in range(90) if probes.patients[i] in gallery.patients]
    for k, i in enumerate(found.row):
        mine = gallery.patients == probes.patients[i]
        others = mine & (gallery.photos != probes.photos[i])
        impostors = alike[i, ~mine]
        assert found.alone[k] == 1 + (impostors > alike[i, mine].max()).sum()
        assert found.crowd[k] == found.alone[k] + (crowd[i] > alike[i, mine].max()).sum()
        assert found.other[k] == (1 + (impostors > alike[i, others].max()).sum() if others.any() else np.inf)
        assert found.mate[k] == pytest.approx(alike[i, mine].max(), abs=1e-5)
        assert found.impostor[k] == pytest.approx(impostors.max(), abs=1e-5)
        assert found.crowd_impostor[k] == pytest.approx(max(impostors.max(), crowd[i].max()), abs=1e-5)


def test_parts_join_to_the_whole_bit_for_bit(small_blocks):
    rng = np.random.default_rng(6)
    names = np.array([f"p{i}" for i in range(333)])
    faces = Faces(names, np.array([f"q{i // 2}" for i in range(333)]), rng.normal(size=(333, 8)).astype(np.float32))
    pairing = Pairing("x", faces, faces, True)
    whole = compare(pairing)
    for length in (1, 5, 11):
        edges = range(0, len(pairing.blocks()), length)
        parts = merged([compare(pairing, slice(edge, edge + length)) for edge in reversed(edges)])
        for one in fields(whole):
            assert np.array_equal(getattr(parts, one.name), getattr(whole, one.name))


def test_a_job_of_many_reads_the_renderings_of_its_own_searches_alone(tmp_path, small_blocks):
    table, read = cohort(np.random.default_rng(1)), []
    above = {name: about["same_above"] for name, about in ABOUT.items()}

    def reading(recogniser, shown):
        read.append((recogniser, shown))
        return [table]

    planned = planned_searches(reading, above, dict.fromkeys(ABOUT), OPTIONS["seed"])
    files = [tmp_path / f"{part}.parquet" for part in range(50)]
    rows, renderings = [], []
    for part, file in enumerate(files):
        read.clear()
        rows.append(write_part(file, planned, (part, len(files)), "x"))
        renderings.append(len(set(read)))
    pairings = [search.pairing() for search in planned]
    assert sum(rows) == sum(len(pairing.rows) for pairing in pairings)
    assert min(rows) > 0
    assert max(renderings) <= 6
    assert np.median(renderings) <= 3


def test_incomplete_or_other_searches_are_refused(tmp_path, small_blocks):
    table = cohort(np.random.default_rng(1))
    one = evidence(table, np.random.default_rng(2))
    files = shared(tmp_path, one, 3)
    with pytest.raises(InputError, match="among other embeddings"):
        read_parts(files, digest_of_inputs({"a": "c"}))
    for wrong in (files[:2], [*files, files[0]]):
        other = evidence(table, np.random.default_rng(2), compare=read_parts(wrong, digest_of_inputs({"a": "b"})))
        with pytest.raises(InputError, match="not complete"):
            run_suite(other, OPTIONS, "per_patient")


def test_a_small_cohort_has_one_search_job():
    assert [search_jobs(n) for n in (0, 1, 1000, 70_000)] == [1, 1, 1, 1]
    assert [search_jobs(n) for n in (100_000, 1_000_000)] == [4, 400]
