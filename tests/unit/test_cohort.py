"""The sheet as it is read and refused, and patients as they are dealt to shards."""

import errno
import hashlib
import json
import os
import re
import stat
import string
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidlib import config
from deidlib.intake import cohort, faults
from deidlib.intake.contents import ContentError
from deidlib.storage import tables

KEY = bytes(range(32))
HEADER = ["patient_id", "photo_id", "path", "consent"]


def sheet(folder, rows, header=HEADER, name="samples.tsv", mark="\t", encoding="utf-8"):
    path = folder / name
    text = "".join(mark.join(row) + "\n" for row in [header, *rows])
    path.write_bytes(text.encode(encoding))
    return path


def row(i, patient=None, **cells):
    return {
        "patient_id": patient or f"P{i}",
        "photo_id": f"F{i}",
        "path": f"{i}.jpg",
        "consent": "yes",
    } | cells


def cohort_of(rows):
    blank = {"row": 0, "duplicate": False, "columns": "{}", "fingerprint": "missing"}
    return tables.from_rows([blank | r | {"row": i + 2} for i, r in enumerate(rows)], tables.COHORT)


def test_cells_keep_their_text_and_empty_ones_are_null(tmp_path):
    header = [*HEADER, "view", "age", "sex", "diagnosis", "shade"]
    path = sheet(
        tmp_path,
        [
            ["007", "7", "a.jpg", "yes", "frontal_rest", "14.5", "F", "NA", "1e3"],
            ["8", " 8 ", "b.jpg", "", "", "", "", "", ""],
        ],
        header,
    )
    table = cohort.read_sheet(path)
    assert table.schema.equals(tables.COHORT)
    first, second = table.to_pylist()
    assert (first["patient_id"], first["photo_id"], first["age"], first["diagnosis"]) == (
        "007",
        "7",
        14.5,
        "NA",
    )
    assert json.loads(first["columns"]) == {"shade": "1e3"}
    assert (second["patient_id"], second["photo_id"], second["row"]) == ("8", "8", 3)
    assert [second[name] for name in ("view", "age", "sex", "diagnosis", "mask")] == [None] * 5
    assert [first["consent"], second["consent"]] == ["yes", "no"]
    assert json.loads(second["columns"]) == {"shade": None}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    ("name", "mark"),
    [("s.tsv", "\t"), ("s.TAB", "\t"), ("s.csv", ","), ("s.csv", ";"), ("s.csv", "\t"), ("s.txt", ";")],
)
def test_every_common_delimiter_and_a_byte_order_mark(tmp_path, encoding, name, mark):
    path = sheet(tmp_path, [["Pä", "F1", "ä.jpg", "yes"]], name=name, mark=mark, encoding=encoding)
    (found,) = cohort.read_sheet(path).to_pylist()
    assert (found["patient_id"], found["path"], found["consent"]) == ("Pä", "ä.jpg", "yes")


def test_quotes_blank_rows_empty_end_columns_and_dos_line_ends(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(
        b'patient_id,photo_id,path,consent,note,\r\nP1,F1,"a,b.jpg",yes,"says ""no""",\r\n,,,,,\r\n\r\n'
        b"P2,F2,c.jpg,no,,\r\n"
    )
    first, second = cohort.read_sheet(path).to_pylist()
    assert (first["path"], json.loads(first["columns"])) == ("a,b.jpg", {"note": 'says "no"'})
    assert (second["patient_id"], second["row"]) == ("P2", 5)


def test_one_patient_written_in_two_unicode_forms_is_one_patient(tmp_path):
    path = sheet(tmp_path, [["Ren\u00e9", "F1", "a", "yes"], ["Rene\u0301", "F2", "b", "yes"]])
    assert len(set(cohort.read_sheet(path)["patient_id"].to_pylist())) == 1


def test_a_further_columns_order_does_not_matter(tmp_path):
    one = sheet(tmp_path, [["P", "F", "a", "y", "1", "2"]], [*HEADER, "x", "z"], "one.tsv")
    two = sheet(tmp_path, [["P", "F", "a", "y", "2", "1"]], [*HEADER, "z", "x"], "two.tsv")
    assert cohort.read_sheet(one).equals(cohort.read_sheet(two))


@pytest.mark.parametrize(
    ("column", "cell", "mend"),
    [
        ("patient_id", "", "give every row a patient id"),
        ("patient_id", "   ", "give every row a patient id"),
        ("photo_id", "", "give every row a photo id"),
        ("photo_id", "a\x07b", "without control characters"),
        ("path", "", "relative to the sheet's folder"),
        ("view", "Frontal-Smile", r"\(did you mean frontal_smile\?\)"),
        ("view", "lateral", "use frontal_rest, frontal_smile"),
        ("sex", "f", r"did you mean F\?"),
        ("sex", "female", "use F, M or X"),
        ("age", "twelve", "write years from 0 to 125"),
        ("age", "12,5", "decimal point"),
        ("age", "-1", "from 0 to 125"),
        ("age", "125.1", "from 0 to 125"),
        ("age", "nan", "plain number"),
        ("age", "1_0", "plain number"),
        ("timepoint", "2019-03-04", "never a date"),
        ("timepoint", "04.03.19", "never a date"),
        ("timepoint", "T" * 33, "use a name such as T0"),
    ],
)
def test_a_wrong_cell_is_refused_by_file_line_and_column(tmp_path, column, cell, mend):
    secret = "Quixote"
    cells = row(1, patient=secret) | {column: cell}
    header = list(dict.fromkeys([*HEADER, column]))
    path = sheet(tmp_path, [[row(0).get(name, "") for name in header], [cells[name] for name in header]], header)
    with pytest.raises(cohort.CohortError) as caught:
        cohort.read_sheet(path)
    text = str(caught.value)
    assert f"samples.tsv, line 3, column {column}: " in text
    assert re.search(mend, text)
    assert secret not in text
    assert len(cell.strip()) < 2 or cell not in text


@pytest.mark.parametrize("name", HEADER)
def test_a_missing_column_is_named_and_a_near_one_shown_by_its_place(tmp_path, name):
    header = ["PatientID" if column == "patient_id" else column for column in HEADER if column != name]
    with pytest.raises(cohort.CohortError) as caught:
        cohort.read_sheet(sheet(tmp_path, [["a", "b", "c"]], header))
    assert f"line 1, column {name}: missing; add it to the header" in str(caught.value)
    if name != "patient_id":
        assert "column patient_id: missing; if column 1 is meant, rename it" in str(caught.value)


def test_a_sheet_without_header_does_not_show_its_first_row(tmp_path):
    with pytest.raises(cohort.CohortError) as caught:
        cohort.read_sheet(sheet(tmp_path, [["P2", "F2", "b.jpg", "yes"]], ["Quixote", "F1", "a.jpg", "yes"]))
    assert "missing" in str(caught.value)
    assert "Quixote" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"patient_id,photo_id,path,consent,age,age\n1,2,3,y,4,5\n",
            r"line 1: columns 5, 6 have the same name",
        ),
        (b"patient_id,photo_id,path,consent\nP1,F1,a.jpg\n", r"line 2: does not have 4 cells"),
        (b"patient_id,photo_id,path,consent\nP1,F1,a.jpg,y\nP2,F2,b.jpg,y,z\n", r"line 3: does not have 4 cells"),
        (b"patient_id,photo_id,path,consent\n", r"no row below the header"),
        (b"patient_id,photo_id,path,consent\n,,,\n", r"no row below the header"),
        (b"", r"column patient_id: missing"),
        (b"\n", r"column patient_id: missing"),
        (
            b"patient_id,photo_id,path,consent,\nP1,F1,a.jpg,y,z\n",
            r"line 1, column 5: the column has no name",
        ),
        (b"patient_id,photo_id,path,consent\nP1,F1,a.jpg,y\nP\xe4,F2,b.jpg,y\n", r"line 3: not UTF-8"),
        ("patient_id,photo_id\n".encode("utf-16"), r"not UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00", r"is not text"),
        (
            b'patient_id,photo_id,path,consent\nP1,F1,a.jpg,"y\nP2,F2,b.jpg,y\n',
            r"line 2, column 4: a line break",
        ),
    ],
)
def test_a_malformed_sheet_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "samples.csv").write_bytes(content)
    with pytest.raises(cohort.CohortError, match=message):
        cohort.read_sheet(tmp_path / "samples.csv")


def test_a_missing_sheet_is_refused(tmp_path):
    with pytest.raises(cohort.CohortError, match=r"none\.tsv: cannot be read"):
        cohort.read_sheet(tmp_path / "none.tsv")


def test_at_most_twenty_faults_are_shown_and_the_others_counted(tmp_path):
    path = sheet(tmp_path, [[f"P{i}", f"F{i}", "", "yes"] for i in range(50)])
    with pytest.raises(cohort.CohortError) as caught:
        cohort.read_sheet(path)
    assert str(caught.value).count("column path:") == 20
    assert "and 30 more" in str(caught.value)


cell = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "F", "M", "profile", "frontal_rest", "0", "125", "125.5", "-3", "T0", "2019", "1.1.20", "nan"]
    ),
    st.text(string.printable + "é\x00\x7f", max_size=40),
)


@pytest.mark.parametrize("name", list(config.load_schema("samples")["properties"]))
@given(cells=st.lists(cell, min_size=1, max_size=8))
def test_the_check_of_a_column_agrees_with_json_schema_cell_by_cell(name, cells):
    rule = config.load_schema("samples")["properties"][name]
    expected = []
    for value in cells:
        number = re.fullmatch("[-+]?[0-9]+([.][0-9]+)?", value or "", re.ASCII)
        parsed = float(value) if name == "age" and number else value
        expected.append(not jsonschema.Draft202012Validator(rule).is_valid(parsed))
    assert faults.faulty_cells(pa.array(cells, pa.string()), rule).tolist() == expected


def test_every_row_of_a_repeated_photo_id_is_a_duplicate(tmp_path):
    path = sheet(
        tmp_path,
        [["P1", "a", "1", "y"], ["P2", "b", "2", "y"], ["P3", "a", "3", "y"], ["P1", "a ", "4", "y"]],
    )
    assert cohort.read_sheet(path)["duplicate"].to_pylist() == [True, False, True, True]


def test_a_patient_consents_with_every_row_or_with_none(tmp_path):
    rows = [["P1", "a", "1", "yes"], ["P2", "b", "2", "Y"], ["P1", "c", "3", "no"], ["P3", "d", "4", "ja"]]
    found = cohort.read_sheet(
        sheet(tmp_path, [*rows, ["P2", "e", "5", "TRUE"], ["P4", "f", "6", "1"], ["P4", "g", "7", ""]])
    )
    assert found["consent"].to_pylist() == ["no", "yes", "no", "no", "yes", "no", "no"]


def test_the_fingerprint_is_what_the_files_hold(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"12345")
    (tmp_path / "in" / "m.png").write_bytes(b"123")
    (tmp_path / "out.jpg").write_bytes(b"1")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "out.jpg")
    (tmp_path / "in" / "kept.jpg").symlink_to(tmp_path / "in" / "a.jpg")
    names = [
        "a.jpg",
        "a.jpg",
        "b.jpg",
        "../out.jpg",
        "link.jpg",
        str(tmp_path / "in" / "a.jpg"),
        ".",
        "kept.jpg",
    ]
    masks = ["", "m.png", "", "", "", "", "", ""]
    rows = [["P", f"F{i}", name, "y", mask] for i, (name, mask) in enumerate(zip(names, masks, strict=True))]
    path = sheet(tmp_path / "in", rows, [*HEADER, "mask"])
    photo, mask = hashlib.sha256(b"12345").hexdigest(), hashlib.sha256(b"123").hexdigest()
    found = cohort.read_sheet(path)["fingerprint"].to_pylist()
    assert found == [photo, f"{photo}|{mask}", "missing", "outside", "outside", "outside", "missing", photo]


def test_a_share_that_is_gone_is_no_missing_photograph(tmp_path, monkeypatch):
    (tmp_path / "0.jpg").write_bytes(b"0")
    path = sheet(tmp_path, [[str(value) for value in row(0).values()]])

    def gone(file, *arguments, real=os.stat, **options):
        if str(file).endswith("0.jpg"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(os, "stat", gone)
    with pytest.raises(ContentError, match="share") as caught:
        cohort.read_sheet(path)
    assert "0.jpg" not in str(caught.value)


@pytest.mark.parametrize(
    ("n", "shards"),
    [(0, 1), (25, 1), (26, 2), (200, 8), (1600, 8), (1601, 9), (200_000, 1000), (1_000_000, 1000), (2_000_000, 2000)],
)
def test_default_shards_grow_with_the_cohort(n, shards):
    assert cohort.default_shards(n) == shards


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), unique=True, max_size=40), st.integers(1, 7))
def test_a_patients_photographs_share_one_shard_and_none_is_lost(pairs, n):
    rows = [row(0, patient=f"P{p}", photo_id=f"F{f}") for p, f in pairs]
    shards = cohort.plan_shards(cohort_of(rows), KEY, n)
    assert list(shards) == [f"s{i:04d}" for i in range(n)]
    homes, photos = {}, []
    for name, table in shards.items():
        for patient, photo in zip(table["patient_id"].to_pylist(), table["photo_id"].to_pylist(), strict=True):
            assert homes.setdefault(patient, name) == name
            photos.append((patient, photo))
    assert sorted(photos) == sorted((f"P{p}", f"F{f}") for p, f in pairs)


def test_the_order_of_the_rows_does_not_matter():
    rows = [row(i, patient=f"P{i % 7}") for i in range(40)]
    table = cohort_of(rows)
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    one, two = cohort.plan_shards(table, KEY, 4), cohort.plan_shards(mixed, KEY, 4)
    assert all(one[name].equals(two[name]) for name in one)


def test_a_new_patient_touches_one_shard(tmp_path):
    rows = [row(i, patient=f"P{i % 30}") for i in range(90)]
    private = tmp_path / "private"
    everything = cohort.write_plan(cohort.plan_shards(cohort_of(rows), KEY, 8), private)
    assert len(everything) == 8
    assert cohort.write_plan(cohort.plan_shards(cohort_of(rows), KEY, 8), private) == []
    before = {file: file.stat().st_mtime_ns for file in private.glob("shards/*/cohort.parquet")}
    changed = cohort.write_plan(cohort.plan_shards(cohort_of([*rows, row(90, patient="new")]), KEY, 8), private)
    assert len(changed) == 1
    touched = [file.parent.name for file, at in before.items() if file.stat().st_mtime_ns != at]
    assert touched == changed


def test_a_changed_file_touches_its_shard(tmp_path):
    table = cohort_of([row(i) for i in range(20)])
    cohort.write_plan(cohort.plan_shards(table, KEY, 4), tmp_path)
    prints = ["1:1", *table["fingerprint"].to_pylist()[1:]]
    at = table.schema.get_field_index("fingerprint")
    changed = table.set_column(at, table.schema.field(at), pa.array(prints))
    assert len(cohort.write_plan(cohort.plan_shards(changed, KEY, 4), tmp_path)) == 1


def test_a_damaged_table_is_written_again(tmp_path):
    shards = cohort.plan_shards(cohort_of([row(0)]), KEY, 1)
    cohort.write_plan(shards, tmp_path)
    (tmp_path / "shards" / "s0000" / "cohort.parquet").write_bytes(b"damaged")
    assert cohort.write_plan(shards, tmp_path) == ["s0000"]
    assert tables.read(tmp_path / "shards" / "s0000" / "cohort.parquet", tables.COHORT).equals(shards["s0000"])


def test_a_shard_that_lost_its_photographs_loses_its_table(tmp_path):
    rows = [row(i) for i in range(20)]
    shards = cohort.plan_shards(cohort_of(rows), KEY, 4)
    cohort.write_plan(shards, tmp_path)
    gone = set(shards["s0002"]["photo_id"].to_pylist())
    assert gone
    kept = cohort.plan_shards(cohort_of(rows), KEY, 4) | {"s0002": shards["s0002"].slice(0, 0)}
    assert cohort.write_plan(kept, tmp_path) == ["s0002"]
    assert not (tmp_path / "shards" / "s0002" / "cohort.parquet").exists()
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert set(plan.pop("cohorts")) == set(plan["shards"])
    assert plan == {"shards": ["s0000", "s0001", "s0003"], "n_photos": 20 - len(gone), "n_shards": 4}


def test_the_number_of_shards_is_pinned_even_when_the_plan_is_removed(tmp_path):
    assert cohort.choose_shards(900, tmp_path) == 8
    assert cohort.choose_shards(900, tmp_path, 7) == 7
    cohort.write_plan(cohort.plan_shards(cohort_of([row(0)]), KEY, 7), tmp_path)
    (tmp_path / "plan.json").unlink()  # Snakemake removes a rule's output before it runs again
    assert cohort.pinned_shards(tmp_path) == 7
    assert cohort.choose_shards(90_000, tmp_path) == 7
    assert cohort.choose_shards(90_000, tmp_path, 7) == 7
    with pytest.raises(cohort.CohortError, match="Set shards to 7 or null"):
        cohort.choose_shards(90_000, tmp_path, 8)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_private_folder_is_the_owners_alone_under_any_umask(tmp_path, umask):
    private = tmp_path / "private"
    shards = cohort.plan_shards(cohort_of([row(0)]), KEY, 1)
    before = os.umask(umask)
    try:
        cohort.write_plan(shards, private)
    finally:
        os.umask(before)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_the_example_sheet_is_right():
    example = cohort.read_sheet(Path(__file__).resolve().parents[2] / "config" / "samples.tsv")
    assert len(example) == 4
