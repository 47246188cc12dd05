"""The sheet is not misunderstood in silence: what is meant is named, and what endangers a patient stops the run."""

import datetime
import unicodedata

import openpyxl
import pytest
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.intake import cohort
from deidlib.intake.preview import in_words, preview
from deidlib.intake.sheet import CohortError, read_cells

HEADER = ["patient_id", "photo_id", "path", "consent"]


def write(folder, rows, header=HEADER, name="samples.tsv", files=True):
    """A sheet, and a file of its own for each row whose path can be one."""
    if files:
        for number, row in enumerate(rows):
            place = folder / str(row[2]).replace("\\", "/")
            if folder in place.resolve().parents:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"photograph %d" % number)
    path = folder / name
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [header, *rows]))
    return path


def rows(*patients, consent="yes"):
    return [[patient, f"F{i}", f"{i}.jpg", consent] for i, patient in enumerate(patients)]


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        *(("Mask", "mask"), ("mask_path", "mask"), ("MASKS", "mask"), ("Maske", "mask"), ("mask file", "mask")),
        *(("Consent", "consent"), ("consent_2", "consent"), ("Einwilligung", "consent"), ("withdrawn", "consent")),
        *(("Patient", "patient_id"), ("patientid", "patient_id"), ("Patient-ID", "patient_id"), ("MASK\u200b", "mask")),
    ],
)
def test_a_near_miss_that_endangers_a_patient_stops_the_run(tmp_path, column, meant):
    sheet = write(tmp_path, [[*row, "x"] for row in rows("P1", "P2")], [*HEADER, column])
    with pytest.raises(CohortError, match=f"probably meant as {meant}"):
        cohort.read_sheet(sheet)
    assert len(preview(sheet).stops) == 1
    settled = {column: {"rule": "drop"}}
    assert cohort.read_sheet(sheet, rules=settled).num_rows == 2
    assert preview(sheet, settled).stops == ()


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        *(("View", "view"), ("Age", "age"), ("time_point", "timepoint"), ("Gender", "sex"), ("Diagnose", "diagnosis")),
        *(("filename", "path"), ("consent_date", None), ("overjet", None), ("stage", None)),
    ],
)
def test_other_columns_are_named_with_what_was_probably_meant(tmp_path, column, meant):
    found = preview(write(tmp_path, [[*row, "x"] for row in rows("P1", "P2")], [*HEADER, column]))
    assert found.stops == ()
    assert found.ignored == ((column, meant),)
    assert ("was " in in_words(found)) == (meant is not None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("P-01", "p-01"), ("P-01", "P01"), ("P01", "P1"), ("007", "7"), ("1234", "1234.0"), ("P1", "Ｐ１")),
        *(("A.B-3", "ab 3"), ("P1\u200b", "P1"), ("P\u00ad1", "P1")),
    ],
)
def test_one_patient_in_two_spellings_stops_the_run_by_lines(tmp_path, one, other):
    sheet = write(tmp_path, rows(one, "Q", other, one))
    with pytest.raises(CohortError) as caught:
        cohort.read_sheet(sheet)
    assert "lines 2, 4, 5, column patient_id" in str(caught.value)
    assert one not in str(caught.value)


def test_ids_that_differ_by_more_are_several_patients(tmp_path):
    sheet = write(tmp_path, rows("1-12", "11-2", "112", "P1", "P10", "Müller", "Muller"))
    assert cohort.read_sheet(sheet).num_rows == 7


@pytest.mark.parametrize("patient", ["#REF!", "nan", "N/A", "?", "1.23E+15", "unknown", "patient_id", "P1\u200b"])
def test_what_is_plainly_no_id_stops_the_run(tmp_path, patient):
    with pytest.raises(CohortError, match="line 3, column patient_id"):
        cohort.read_sheet(write(tmp_path, rows("P7", patient)))


def test_a_photograph_under_two_patients_stops_the_run_by_path_and_by_content(tmp_path):
    given = rows("P1", "P2", "P1")
    given[1][2] = "0.jpg"
    with pytest.raises(CohortError, match="lines 2, 3, column path: one file"):
        cohort.read_sheet(write(tmp_path, given))
    sheet = write(tmp_path, rows("P1", "P2", "P1"))
    (tmp_path / "1.jpg").write_bytes((tmp_path / "2.jpg").read_bytes())
    with pytest.raises(CohortError, match="lines 3, 4, column path: one photograph"):
        cohort.read_sheet(sheet)
    (tmp_path / "1.jpg").write_bytes(b"another")
    (tmp_path / "0.jpg").write_bytes((tmp_path / "2.jpg").read_bytes())  # twice the same patient's
    assert cohort.read_sheet(sheet).num_rows == 3


def test_backslashes_and_both_forms_of_unicode_find_their_file(tmp_path):
    composed = unicodedata.normalize("NFC", "é.jpg")
    given = rows("P1", "P2", "P3")
    given[0][2], given[1][2] = "sub\\a.jpg", composed
    sheet = write(tmp_path, given)
    (tmp_path / composed).rename(tmp_path / unicodedata.normalize("NFD", composed))
    found = preview(sheet)
    assert (found.missing, found.outside, found.ready) == ((), (), 3)
    assert any("line 2" in one for one in found.remarks)
    assert any("line 3" in one for one in found.remarks)
    assert "missing" not in cohort.read_sheet(sheet)["fingerprint"].to_pylist()
    for path in ("..\\out.jpg", "sub\\..\\..\\out.jpg"):
        given[0][2] = path
        assert preview(write(tmp_path, given)).outside == (2,)


def test_the_preview_counts_what_would_be_held_back(tmp_path):
    given = rows("P1", "P1", "P2", "P3", "P4", "P5", "P6")
    given[1][3], given[2][3], given[3][3] = "no", "ja", ""
    given[4][2], given[5][2], given[6][1] = "none.jpg", "../x.jpg", "F0"
    sheet = write(tmp_path, [[*row, "m.png" if row[0] == "P4" else ""] for row in given], [*HEADER, "mask"])
    (tmp_path / "none.jpg").unlink()
    found = preview(sheet)
    assert (found.photographs, found.patients, found.ready) == (7, 6, 0)
    assert (found.no_consent, found.uneven_consent, found.held_by_consent) == ((3, 4, 5), (3,), 4)
    assert (found.missing, found.outside, found.masks_missing, found.duplicates) == ((6,), (7,), (6,), (2, 8))
    text = in_words(found)
    assert "may mean yes" in text
    assert "line 4" in text
    assert not any(secret in text for secret in ("P1", "F0", "none.jpg", "ja,"))


@pytest.mark.parametrize("cell", ["Smith, John", "P2", "f-1", "12 Mar 24", "+49 171 1234567"])
def test_a_released_cell_that_identifies_stops_the_run_before_it_begins(tmp_path, cell):
    given = [[*row, note] for row, note in zip(rows("P1", "P2"), [cell, "x"], strict=True)]
    sheet = write(tmp_path, given, [*HEADER, "note"])
    assert preview(sheet).stops == ()
    kept = {"note": {"rule": "keep"}}
    with pytest.raises(CohortError) as caught:
        cohort.read_sheet(sheet, rules=kept)
    assert "line 2, column note" in str(caught.value)
    assert cell not in str(caught.value)
    write(tmp_path, [[*row[:3], "no", row[4]] if row[0] == "P1" else row for row in given], [*HEADER, "note"])
    assert preview(sheet, kept).stops == ()  # never released, so it harms nobody


def test_a_workbook_is_read_as_it_is_shown(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([*HEADER, "age", "taken", "local", "Mask note"])
    when = datetime.datetime(2024, 3, 31)
    sheet.append([1234.0, 7, "a.jpg", True, 14.5, when, when, None])
    sheet.append([None] * 8)
    sheet.append(["P2", "F2", "b.jpg", "yes", 14, None, None, "x"])
    sheet["B2"].number_format, sheet["F2"].number_format, sheet["G2"].number_format = "000", "dd.mm.yyyy", "mm-dd-yy"
    sheet.row_dimensions[4].hidden = True
    book.create_sheet("notes").append(["a", "b"])
    book.save(tmp_path / "samples.xlsx")
    cells, row = read_cells(tmp_path / "samples.xlsx")
    assert [cells[name][0].as_py() for name in (*HEADER, "age")] == ["1234", "007", "a.jpg", "TRUE", "14.5"]
    assert (cells["taken"][0].as_py(), cells["local"][0].as_py()) == ("31.03.2024", "2024-03-31")
    assert row.tolist() == [2, 4]
    (tmp_path / "a.jpg").write_bytes(b"a")
    found = preview(tmp_path / "samples.xlsx", {"Mask note": {"rule": "drop"}})
    assert (found.photographs, found.ready, found.missing) == (2, 1, (4,))
    assert {
        "1 hidden rows of the workbook (a filter?) are read like the others",
        "1 further worksheets are not read",
    } <= {*found.remarks}


def test_a_formula_without_a_result_and_a_broken_workbook_are_told(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(HEADER)
    book.active.append(["P1", "F1", "a.jpg", "=1+1"])
    book.save(tmp_path / "samples.xlsx")
    with pytest.raises(CohortError, match="line 2, column 4: a formula without a result"):
        read_cells(tmp_path / "samples.xlsx")
    (tmp_path / "samples.xlsx").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(CohortError, match="cannot be read as a workbook"):
        read_cells(tmp_path / "samples.xlsx")


def test_an_encoding_error_names_the_form_that_excel_offers(tmp_path):
    (tmp_path / "samples.csv").write_bytes("patient_id,photo_id,path,consent\nMüller,F,a,yes\n".encode("latin-1"))
    with pytest.raises(CohortError, match="CSV UTF-8") as caught:
        read_cells(tmp_path / "samples.csv")
    assert "line 2" in str(caught.value)


def test_the_command_shows_the_preview_and_writes_nothing(tmp_path):
    sheet = write(tmp_path, rows("P1", "P2"))
    before = sorted(tmp_path.rglob("*"))
    shown = CliRunner().invoke(app, ["preview", str(sheet)])
    assert shown.exit_code == 0
    assert "2 photographs of 2 patients, 2 ready" in shown.output
    write(tmp_path, rows("P1", "p1"))
    shown = CliRunner().invoke(app, ["preview", str(sheet)])
    assert shown.exit_code == 1
    assert "samples.tsv, lines 2, 3, column patient_id" in shown.output
    assert sorted(tmp_path.rglob("*")) == before
