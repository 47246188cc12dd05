"""Tables on disk: damage is seen and mended, memory does not grow with a shard, what made them is written in them."""

from __future__ import annotations

import json
import random

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from deidlib import keys
from deidlib.cli import app
from deidlib.errors import InputError
from deidlib.storage import sealed, tables
from deidlib.storage.parts import in_parts


def blended(n: int, size: int = 900):
    rng = np.random.default_rng(5)
    rows = [
        {"release_photo_id": f"photo{i}", "attempt": 0, "image": rng.bytes(size), "seam": i / 7, "status": "ok"}
        for i in range(n)
    ]
    return tables.from_rows(rows, tables.BLENDED)


def photos(patients: list[str], size: int = 100):
    rows = [
        {"release_photo_id": f"photo{i}", "release_patient_id": patient, "image": bytes(size), "status": "ok"}
        for i, patient in enumerate(patients)
    ]
    return tables.from_rows(rows, tables.PHOTOS)


def test_every_flipped_bit_is_seen(tmp_path):
    path, table = tmp_path / "t.parquet", blended(6, 200)
    tables.write(table, path, tables.BLENDED)
    assert tables.read(path, tables.BLENDED).equals(table)
    good, rng = path.read_bytes(), random.Random(8)
    for at in rng.sample(range(4, len(good)), 400):  # the first four bytes are Parquet's mark, and hold nothing
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        with pytest.raises(sealed.Damaged):
            tables.read(path, tables.BLENDED)


def test_a_truncated_file_is_seen(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write(blended(3), path, tables.BLENDED)
    good = path.read_bytes()
    for size in (0, 3, 12, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(sealed.Damaged):
            tables.read(path, tables.BLENDED)


def test_who_reads_a_column_checks_that_column_alone(tmp_path):
    path = tmp_path / "t.parquet"
    tables.write(blended(3), path, tables.BLENDED)
    image = tables.read(path, tables.BLENDED)["image"][1].as_py()
    content = bytearray(path.read_bytes())
    content[content.index(image) + 50] ^= 1
    path.write_bytes(content)
    assert tables.read(path, tables.BLENDED, ["seam"]).num_rows == 3
    with pytest.raises(sealed.Damaged):
        tables.read(path, tables.BLENDED, ["image"])


def test_a_digest_is_that_of_the_content_and_what_is_read_agrees_with_it(tmp_path):
    def digest(path):
        with sealed.opened(path) as file:
            return file.digest

    one, same, other = (tmp_path / f"{name}.parquet" for name in ("one", "same", "other"))
    for path, table in ((one, blended(6)), (same, blended(6)), (other, blended(6, 901))):
        tables.write(table, path, tables.BLENDED)
    assert digest(one) == digest(same) != digest(other)
    content = bytearray(one.read_bytes())
    content[len(content) // 3] ^= 1  # in the images: the footer is whole
    same.write_bytes(content)
    assert digest(same) == digest(one)
    with pytest.raises(sealed.Damaged):
        tables.read(same, tables.BLENDED)


def test_a_part_of_a_column_is_read_and_checked_as_the_whole_column(tmp_path):
    path = tmp_path / "t.parquet"
    check = {"attempt": 1, "failed": ["seam"], "seam": 0.5}
    rows = [{"row": n, "check": check if n else None, "tries": [check] * n} for n in range(3)]
    tables.write(tables.from_rows(rows, tables.OUTCOMES), path, tables.OUTCOMES)
    found = tables.read(path, tables.OUTCOMES, ["row", "check.seam", "tries.list.element.failed"])
    part, whole = {"seam": 0.5}, {"failed": ["seam"]}
    assert found.to_pylist() == [{"row": n, "check": part if n else None, "tries": [whole] * n} for n in range(3)]
    with sealed.opened(path) as file:
        column = file._parquet.metadata.row_group(0).column
        places = [column(n) for n in range(file._parquet.metadata.num_columns)]
    at = next(one.data_page_offset for one in places if one.path_in_schema == "check.attempt")
    content = bytearray(path.read_bytes())
    content[at + 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(sealed.Damaged):
        tables.read(path, tables.OUTCOMES, ["check.seam"])
    assert tables.read(path, tables.OUTCOMES, ["tries.list.element.failed"]).num_rows == 3


def test_other_readers_open_a_sealed_file(tmp_path):
    path, table = tmp_path / "t.parquet", blended(70)
    tables.write(table, path, tables.BLENDED)
    assert pq.read_table(path).equals(table)
    assert duckdb.sql(f"select count(*), max(seam) from '{path}'").fetchall() == [(70, pytest.approx(69 / 7))]


def test_images_are_written_and_read_in_parts_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART_BYTES", 10_000)
    path, table = tmp_path / "t.parquet", blended(40, 3_000)
    tables.write(table, path, tables.BLENDED)
    parts = list(tables.read_parts(path, tables.BLENDED))
    assert [part.num_rows for part in parts] == [3] * 13 + [1]
    assert [i for part in parts for i in part["release_photo_id"].to_pylist()] == [f"photo{i}" for i in range(40)]


def test_parts_hold_whole_patients_and_the_rows_of_every_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART_ROWS", 3)
    patients = ["a", "a", "b", "b", "b", "b", "c", "d", "d"]
    tables.write(photos(patients), tmp_path / "photos.parquet", tables.PHOTOS)
    tables.write(blended(8), tmp_path / "blended.parquet", tables.BLENDED)
    given = tmp_path / "photos.parquet", (tmp_path / "blended.parquet", "BLENDED")
    seen = [(p["release_patient_id"].to_pylist(), b["release_photo_id"].to_pylist()) for p, b in in_parts(*given)]
    assert [patient for part, _ in seen for patient in part] == patients
    assert all(len({*one} & {*other}) == 0 for i, (one, _) in enumerate(seen) for other, _ in seen[:i])
    assert [photo for _, part in seen for photo in part] == [f"photo{i}" for i in range(8)]
    wanted = [p["release_photo_id"].to_pylist() for p, _ in in_parts(*given, only={"photo3"})]
    assert wanted == [["photo2", "photo3", "photo4", "photo5"]]


def test_photographs_of_a_patient_that_lie_apart_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART_ROWS", 2)
    tables.write(photos(["a", "a", "b", "b", "a"]), tmp_path / "photos.parquet", tables.PHOTOS)
    with pytest.raises(InputError, match="not ordered by patient"):
        list(in_parts(tmp_path / "photos.parquet"))


def test_a_damaged_table_of_the_results_is_removed_with_a_clear_error(tmp_path):
    shard = tmp_path / "private" / "shards" / "s0003"
    tables.write(photos(["a"]), shard / "photos.parquet", tables.PHOTOS)
    content = bytearray((shard / "photos.parquet").read_bytes())
    content[len(content) // 3] ^= 4
    (shard / "photos.parquet").write_bytes(content)
    arguments = ["landmarks", "--photos", shard / "photos.parquet", "--out", shard / "landmarks.parquet"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    assert "shards/s0003/photos.parquet is damaged and was removed; start the workflow again" in done.output
    assert list(shard.iterdir()) == []


def test_a_damaged_part_of_the_plan_takes_the_plan_with_it(tmp_path):
    keys.write_new_key(tmp_path / "key")
    cohort = tmp_path / "private" / "shards" / "s0000" / "cohort.parquet"
    tables.write(tables.COHORT.empty_table(), cohort, tables.COHORT)
    (tmp_path / "private" / "plan.json").write_text("{}")
    cohort.write_bytes(cohort.read_bytes()[:-20])
    arguments = ["intake", "--cohort", cohort, "--sheet", tmp_path / "s.tsv", "--out", tmp_path / "photos.parquet"]
    done = CliRunner().invoke(app, [str(argument) for argument in [*arguments, "--key", tmp_path / "key"]])
    assert done.exit_code == 1
    assert "damaged and was removed" in done.output
    assert not cohort.exists()
    assert not (tmp_path / "private" / "plan.json").exists()


def test_a_table_outside_the_results_is_left_alone(tmp_path):
    (tmp_path / "photos.parquet").write_bytes(b"no table")
    arguments = ["landmarks", "--photos", tmp_path / "photos.parquet", "--out", tmp_path / "l.parquet"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    assert "photos.parquet is damaged; delete it" in done.output
    assert (tmp_path / "photos.parquet").exists()


def test_a_stage_notes_what_its_table_was_made_with(tmp_path):
    keys.write_new_key(tmp_path / "key")
    tables.write(tables.COHORT.empty_table(), tmp_path / "cohort.parquet", tables.COHORT)
    arguments = ["intake", "--cohort", tmp_path / "cohort.parquet", "--sheet", tmp_path / "s.tsv"]
    for name in ("one.parquet", "two.parquet"):
        given = [*arguments, "--out", tmp_path / name, "--key", tmp_path / "key"]
        assert CliRunner().invoke(app, [str(argument) for argument in given]).exit_code == 0
    with sealed.opened(tmp_path / "one.parquet") as file:
        note = json.loads(file.notes["deidlib"])
    assert len(note["software"]["code_sha256"]) == 64
    assert set(note["host"]) >= {"system", "processor", "instructions"}
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_rows_of_a_value_are_read_without_the_parts_that_cannot_hold_it(tmp_path):
    path, groups = tmp_path / "embeddings.parquet", ("a", "b", "c")
    with tables.writing(path, tables.EMBEDDINGS) as append:
        for name in groups:
            rows = [{"release_photo_id": f"{name}{i}", "recogniser": name, "embedding": [1.0]} for i in range(3)]
            append(tables.from_rows(rows, tables.EMBEDDINGS))
    found = tables.read_where(path, tables.EMBEDDINGS, {"recogniser": "b"})
    assert found["release_photo_id"].to_pylist() == ["b0", "b1", "b2"]
    assert tables.read_where(path, tables.EMBEDDINGS, {"recogniser": "z"}).num_rows == 0
    _damage(path, of_group=0)
    assert tables.read_where(path, tables.EMBEDDINGS, {"recogniser": "b"}).equals(found)
    with pytest.raises(sealed.Damaged):
        tables.read_where(path, tables.EMBEDDINGS, {"recogniser": "a"})


def test_some_photographs_are_read_without_the_parts_of_others(tmp_path):
    path, names = tmp_path / "blended.parquet", [f"p{i:03d}" for i in range(3 * tables.PART_ROWS)]
    rows = [{"release_photo_id": name, "image": name.encode(), "status": "ok"} for name in names]
    tables.write(tables.from_rows(rows, tables.BLENDED), path, tables.BLENDED)
    wanted = [names[70], names[150], "elsewhere"]
    found = tables.read_photos(path, tables.BLENDED, wanted, ["image", "release_photo_id"])
    assert found.to_pylist() == [{"image": name.encode(), "release_photo_id": name} for name in wanted[:2]]
    assert tables.read_photos(path, tables.BLENDED, ["elsewhere"]).schema.names == tables.BLENDED.names


def _damage(path, of_group):
    """Turn a bit of the last column of a row group."""
    metadata = pq.read_metadata(path).row_group(of_group)
    data = bytearray(path.read_bytes())
    data[metadata.column(metadata.num_columns - 1).data_page_offset + 5] ^= 1
    path.write_bytes(bytes(data))
