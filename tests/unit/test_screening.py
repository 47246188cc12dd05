"""What identifies a person in a released cell is seen in every usual form, and what clinicians write is not."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidlib.intake.screening import CATEGORY_PATIENTS, cell_problem, screen, timepoint_problem
from deidlib.intake.spelling import Ids, runs
from deidlib.pages.templates import markdown_code, markdown_text

DATES = [
    *("2024-03-31", "31.03.24", "3/31/2024", "31.03.", "1.3.", "3/24", "3/2024", "2024-03", "03-24", "20240331"),
    *("31032024", "45382", "12 Mar 24", "2-Sep", "mar-24", "Sept 3rd", "1st of May", "Dez 23", "März", "6 août"),
    *("12 avr. 2020", "3 de marzo", "kesä 12", "14 мая", "5 Μαΐου 2020", "2024年3月", "2024-W12", "KW 12/24"),
    *("Q1 2024", "09:30", "１２.０３.２４", "31\u200b.03.24", "31‐03‐24", "12 out 24"),
]
NUMBERS = [
    *("MRN 123", "patient 17", "tel 12345", "+49 171 1234567", "0171/1234567", "555-0199-22", "06 12 34 56 78"),
    *("943 476 5919", "123-45-6789", "10115"),
]
OTHERS = [
    *("john@x.de", "john (at) x.de", "https://x.de/1", "www.clinic.org", "clinic.de", "10.1.2.3", "IMG_1.JPG"),
    *("C:\\photos\\x", "/home/x", "52.5200, 13.4050", "Dr. Smith", "Frau Müller", "Mme Dupont"),
]
CLINICAL = [
    *("Class II", "Class II division 1", "Angle Class III, maxillary deficiency", "Class II 1/2 cusp", "overjet 4 mm"),
    *("33.5", "33.52341", "-3.5", "0.35", "33.5 35.2 28.1 24.0", "11 12 21 22", "13/23", "impacted 13, 23", "30-39"),
    *("5-10 mm", "SNA 82", "III", "1:1", "K07.2", "ICD-10 K07.3", "A2", "CS3", "100 %", "no. 46", "+2.5", "12 months"),
    *("2 out of 3", "2 years ago", "may need extraction", "crowding (mild)", "75th percentile", "retained 75"),
]
TIMEPOINTS = [
    *("T0", "t 1", "T2a", "V2", "M12", "T-1", "TP3", "baseline", "Baseline", "month-12", "month 12", "6 months", "6m"),
    *(
        "12 weeks",
        "visit 3",
        "pre-treatment",
        "post-op",
        "mid-treatment",
        "follow-up 2",
        "final",
        "debond",
        "1.5 years",
    ),
    *(
        "1.5 years",
        "6 Monate",
        "nach der Behandlung",
        "12 mois",
        "3 anni",
        "6 months post",
        "24 months after",
        "Ｔ０",
        "1",
        "12",
    ),
]
NO_TIMEPOINTS = [
    *("12 Mar 24", "2-Sep", "Dez 23", "31.03.", "3/24", "Smith, John", "MRN 123", "5551234", "T0 P07", "2024", "may"),
    *("may 3", "12-03", "１２.０３.２４", "<b>T0</b>", "T 2024", "JS1", "123456", "T0\n2024"),
]


@pytest.mark.parametrize("cell", [*DATES, *NUMBERS, *OTHERS])
def test_what_identifies_is_refused(cell):
    assert cell_problem(cell)


@pytest.mark.parametrize("cell", CLINICAL)
def test_what_clinicians_write_is_let_through(cell):
    assert cell_problem(cell) is None


@pytest.mark.parametrize("cell", TIMEPOINTS)
def test_names_of_time_points_are_taken(cell):
    assert timepoint_problem(cell) is None


@pytest.mark.parametrize("cell", NO_TIMEPOINTS)
def test_nothing_else_is_a_time_point(cell):
    assert timepoint_problem(cell)


@pytest.mark.parametrize("cell", ["T0 P07", "t0p7", "p 7", "P-007", "Ｐ０７", "p7\u200b", "of case 0012-x", "1234.0"])
def test_an_id_of_any_row_is_found_in_any_spelling(cell):
    found = screen({"note": [cell, "x"]}, ["a", "b"], [("a",), ("b",)], Ids(["P07", "CASE-12-X", "1234"]), [2, 3])
    assert [(one.row, one.column) for one in found] == [(2, "note")]


@pytest.mark.parametrize("cell", ["P70", "xp07", "P 071", "12345", "7", "ok"])
def test_other_words_are_no_ids(cell):
    assert not Ids(["P07", "1234", "7"]).within(cell)


def test_what_several_patients_share_is_a_category_and_no_id():
    patients = [f"p{i}" for i in range(CATEGORY_PATIENTS)]
    own = [(patient,) for patient in patients]
    assert screen({"stage": ["C3"] * len(patients)}, patients, own, Ids(["C3"]), range(2, 7)) == []
    assert screen({"stage": ["C3"] * (len(patients) - 1)}, patients[1:], own[1:], Ids(["C3"]), range(2, 6))


def test_a_column_that_repeats_the_rows_own_ids_is_refused_however_short_they_are():
    ids = [str(i) for i in range(1, 9)]
    own = [(one,) for one in ids]
    assert len(screen({"case": ids}, ids, own, Ids(ids), range(2, 10))) == 8
    assert screen({"overjet": ["4"] * 8}, ids, own, Ids(ids), range(2, 10)) == []


def test_names_are_refused_where_a_column_is_no_category():
    patients = list("abcdef")
    own = [(patient,) for patient in patients]
    columns = {
        "by": ["Smith, John", "J. Miller", "Crowding", "Crowding", "none", "none"],
        "full": ["John Smith", "Ann Lee", "Maria de la Cruz", "Deep Bite", "Deep Bite", "Deep Bite"],
        "diagnosis": ["Deep Bite", "Open Bite", "Deep Bite", "Class II", "Class III", "Class II"],
    }
    found = {(one.column, one.row) for one in screen(columns, patients, own, Ids([]), range(2, 8))}
    assert found == {("by", 2), ("by", 3), ("full", 2), ("full", 3), ("full", 4)}


@given(st.text(string.ascii_letters + string.digits + "-_. ", min_size=1, max_size=12))
def test_runs_do_not_depend_on_case_punctuation_and_width(text):
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in text)
    assert runs(text) == runs(text.upper()) == runs(wide) or runs(text) == ()
    assert runs(f" {text}\u200b") == runs(text)


@pytest.mark.parametrize("text", ["<img src=x>|", "**b**", "[a](javascript:x)", "`x`", "# h", "- x", "_a_", "a\n\n| b"])
def test_markdown_and_html_are_shown_as_they_are(text):
    shown = markdown_text(text)
    assert "<" not in shown
    assert "\n" not in shown
    for mark in "|*[]`#":
        assert all(shown[at - 1] == "\\" for at, c in enumerate(shown) if c == mark)
    code = markdown_code(text)
    assert code.count("`") == 2
    assert "\n" not in code
    assert "|" not in code.replace("\\|", "")
