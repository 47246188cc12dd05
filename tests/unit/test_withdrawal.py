"""What was made to recognise a patient does not outlive the patient's consent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deidlib import keys
from deidlib.review.decisions import Decision, append_decisions, now, read_decisions
from deidlib.review.withdrawal import forget_withdrawn
from deidlib.storage import tables

KEY = b"one fixed key for this test"
STAYS, LEAVES = ("Miller", "m1"), ("Smith", "s1")


def name_of(pair: tuple[str, str]) -> str:
    return keys.pseudonym(KEY, "photo", *pair)


def template(pair: tuple[str, str]) -> list[float]:
    return np.random.default_rng(len(pair[0])).normal(size=128).astype(np.float32).tolist()


def write_embeddings(path: Path, *pairs: tuple[str, str]) -> None:
    rows = [
        {
            "release_photo_id": name_of(pair),
            "release_patient_id": keys.pseudonym(KEY, "patient", pair[0]),
            "shown": "original",
            "recogniser": "sface",
            "embedding": template(pair),
        }
        for pair in pairs
    ]
    tables.write(tables.from_rows(rows, tables.EMBEDDINGS), path, tables.EMBEDDINGS)


def sheet(consent_of: dict[tuple[str, str], str]) -> pa.Table:
    rows = [{"patient_id": p, "photo_id": i, "consent": consent} for (p, i), consent in consent_of.items()]
    return pa.Table.from_pylist(rows)


def cells(folder: Path) -> list:
    """Every cell of every table, and every other file as text."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            found += [cell for column in pq.read_table(path).columns for cell in column.to_pylist()]
        else:
            found.append(path.read_text(errors="replace"))
    return found


@pytest.fixture
def private(tmp_path) -> Path:
    """Templates where the workflow, ``deidlib reid RELEASE`` and a gallery leave them; reviewers' decisions."""
    folder = tmp_path / "private"
    write_embeddings(folder / "shards/s0000/embeddings.parquet", STAYS, LEAVES)
    write_embeddings(folder / "shards/s0001/embeddings.parquet", STAYS)
    write_embeddings(folder / "reid/0123456789abcdef/s0000.parquet", LEAVES)
    write_embeddings(folder / "reid/gallery.parquet", ("somebody else", "from the user's folder"))
    rows = [
        {"patient_id": p, "photo_id": i, "release_photo_id": name_of((p, i)), "row": n, "status": "ok"}
        for n, (p, i) in enumerate((STAYS, LEAVES), 2)
    ]
    tables.write(tables.from_rows(rows, tables.PHOTOS), folder / "shards/s0000/photos.parquet", tables.PHOTOS)
    made = [
        Decision(name_of(pair), "0" * 64, 0, "withhold", "other", f"seen: {pair[0]}", "clinician", 1, now())
        for pair in (STAYS, LEAVES)
    ]
    append_decisions(folder, "s0000", made)
    return folder


@pytest.mark.parametrize("consent", ["no", "", None])
def test_templates_and_remarks_go_with_a_patient_who_leaves(private, consent):
    known = cells(private)
    assert template(LEAVES) in known
    now_on = {STAYS: "yes"} if consent is None else {STAYS: "yes", LEAVES: consent}
    removed = forget_withdrawn(private, sheet(now_on), KEY)
    assert removed == ["reid/0123456789abcdef/s0000.parquet", "shards/s0000/embeddings.parquet"]
    left = cells(private)
    assert template(LEAVES) not in left
    assert [cell for cell in left if isinstance(cell, str) and f"seen: {LEAVES[0]}" in cell] == []
    assert [decision.photo for decision in read_decisions(private, "s0000")] == [name_of(STAYS)]
    # The photographs' own table is for the stages to write anew; what another shard and the gallery hold stays.
    assert (private / "shards/s0001/embeddings.parquet").is_file()
    assert (private / "reid/gallery.parquet").is_file()
    assert forget_withdrawn(private, sheet(now_on), KEY) == []


def test_nothing_goes_while_everybody_agrees(private):
    before = {path: path.read_bytes() for path in private.rglob("*") if path.is_file()}
    assert forget_withdrawn(private, sheet({STAYS: "yes", LEAVES: "Y"}), KEY) == []
    assert {path: path.read_bytes() for path in private.rglob("*") if path.is_file()} == before


def test_a_table_of_templates_that_cannot_be_read_is_not_kept(private):
    path = private / "reid/0123456789abcdef/s0000.parquet"
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    assert "reid/0123456789abcdef/s0000.parquet" in forget_withdrawn(private, sheet({STAYS: "yes", LEAVES: "yes"}), KEY)
