"""Views by code, and DICOM headers that contradict the sheet: withheld, told by line, never quoted."""

import numpy as np
import pytest
from picture_files import dicom, portrait
from pydicom.dataset import Dataset

from deidlib.intake import cohort
from deidlib.intake import photos as intake
from deidlib.intake.views import VIEWS, view_of

KEY = bytes(range(32))
OPTIONS = {"max_pixels": 10_000_000, "min_side": 16}
PHOTO = portrait(64)


def run(folder, rows, headers):
    """Verdicts on a sheet whose photographs are DICOM files with these elements; and what the log says."""
    for i, elements in enumerate(headers):
        (folder / f"{i}.dcm").write_bytes(dicom(PHOTO, **elements))
    lines = ["patient_id\tphoto_id\tpath\tconsent\tview\tage\tsex"]
    lines += [
        f"{patient}\tF{i}\t{i}.dcm\tyes\t{view}\t{age}\t{sex}" for i, (patient, view, age, sex) in enumerate(rows)
    ]
    (folder / "samples.tsv").write_text("\n".join(lines) + "\n")
    found = intake.intake_photos(cohort.read_sheet(folder / "samples.tsv"), folder, KEY, OPTIONS)
    return [reason or "ok" for reason in found["reason"].to_pylist()], found


def code(value):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "x"
    return item


@pytest.mark.parametrize(
    ("cell", "view"),
    [
        *((view, view) for view in VIEWS),
        ("EV01", "profile"),
        ("ev1", "profile"),
        ("EV12", "three_quarter"),
        ("EV15", "frontal_rest"),
        ("EV19", "frontal_smile"),
        ("EV28", "profile"),
        ("IV07", "intraoral"),
        ("IV24", "intraoral"),
        ("SCT:123851003", "intraoral"),
        ("774007+399173006", "profile"),
        ("SCT:774007+SCT:399033003+SCT:225583004", "frontal_smile"),
    ],
)
def test_a_code_means_a_view(tmp_path, cell, view):
    (tmp_path / "samples.tsv").write_text(f"patient_id\tphoto_id\tpath\tconsent\tview\nP\tF\ta.png\tyes\t{cell}\n")
    assert cohort.read_sheet(tmp_path / "samples.tsv")["view"].to_pylist() == [view]


@pytest.mark.parametrize("cell", ["EV36", "EV44", "IV31", "IV0", "399033003", "774007", "12345678", "frontal"])
def test_a_code_that_means_no_one_view_is_refused(tmp_path, cell):
    (tmp_path / "samples.tsv").write_text(f"patient_id\tphoto_id\tpath\tconsent\tview\nP\tF\ta.png\tyes\t{cell}\n")
    with pytest.raises(cohort.CohortError, match="line 2, column view"):
        cohort.read_sheet(tmp_path / "samples.tsv")


def test_every_ada_view_that_has_a_word_has_one_alone():
    outside = [view_of(f"EV{n:02d}") for n in range(1, 44)]
    assert [f"EV{n:02d}" for n, view in enumerate(outside, 1) if view not in VIEWS] == ["EV36", "EV37", "EV40", "EV41"]


def test_a_header_that_agrees_or_says_nothing_changes_nothing(tmp_path):
    born = {"PatientBirthDate": "19900105", "StudyDate": "20200801", "PatientSex": "F", "PatientID": "MRN-77"}
    frontal = {"ViewCodeSequence": [code("399033003")], "AnatomicRegionSequence": [code("774007")]}
    rows = [("P1", "frontal_rest", 30, "F"), ("P1", "", "", ""), ("P2", "profile", 40, "M")]
    verdicts, found = run(tmp_path, rows, [born | frontal, born, {}])
    assert verdicts == ["ok"] * 3
    assert "MRN" not in str(found.drop_columns("image").to_pylist())


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ({"PatientSex": "M"}, "sex"),
        ({"PatientBirthDate": "19500105", "StudyDate": "20200801"}, "age"),
        ({"PatientAge": "061Y"}, "age"),
        ({"ViewCodeSequence": [code("399173006")], "AnatomicRegionSequence": [code("774007")]}, "view"),
        ({"AnatomicRegionSequence": [code("123851003")]}, "view"),
    ],
)
def test_a_header_that_contradicts_its_row_withholds_the_photograph(tmp_path, capsys, elements, told):
    verdicts, _ = run(tmp_path, [("P1", "frontal_rest", 30, "F")], [elements])
    assert verdicts == ["header_mismatch"]
    said = capsys.readouterr().err
    assert said.startswith("line 2 of the sheet: ")
    assert said.strip().endswith(told)
    assert not [word for word in ("P1", "F0", "Quixote", "1950", "061", "dcm", str(tmp_path)) if word in said]


def test_photographs_of_two_people_under_one_patient_are_withheld(tmp_path, capsys):
    rows = [("P1", "", "", ""), ("P1", "", "", ""), ("P2", "", "", "")]
    verdicts, _ = run(tmp_path, rows, [{"PatientID": "A1"}, {"PatientID": "B2"}, {"PatientID": "C3"}])
    assert verdicts == ["header_mismatch", "header_mismatch", "ok"]
    assert capsys.readouterr().err.count("patient id") == 2


def test_one_person_under_two_patients_is_withheld(tmp_path):
    rows = [("P1", "", "", ""), ("P2", "", "", "")]
    assert run(tmp_path, rows, [{"PatientID": "A1"}, {"PatientID": "a-1"}])[0] == ["header_mismatch"] * 2


def test_where_the_sheet_has_the_headers_ids_another_id_is_a_contradiction(tmp_path):
    rows = [("007", "", "", ""), ("008", "", "", "")]
    same_name = {"PatientName": "", "PatientBirthDate": ""}
    assert run(tmp_path, rows, [{"PatientID": "7"} | same_name, {"PatientID": "9"} | same_name])[0] == [
        "ok",
        "header_mismatch",
    ]


def test_without_consent_no_header_is_read(tmp_path, capsys):
    (tmp_path / "a.dcm").write_bytes(dicom(PHOTO, PatientSex="M"))
    text = "patient_id\tphoto_id\tpath\tconsent\tsex\nP\tF\ta.dcm\tno\tF\n"
    (tmp_path / "samples.tsv").write_text(text)
    found = intake.intake_photos(cohort.read_sheet(tmp_path / "samples.tsv"), tmp_path, KEY, OPTIONS)
    assert found["reason"].to_pylist() == ["consent_missing"]
    assert capsys.readouterr().err == ""


def test_nothing_of_a_header_gets_through(tmp_path):
    verdicts, found = run(tmp_path, [("P1", "", "", "")], [{"PatientID": "MRN-77", "PatientBirthDate": "19700101"}])
    assert verdicts == ["ok"]
    (row,) = found.to_pylist()
    assert b"Quixote" not in row["image"]
    assert np.array_equal([row["view"], row["age"], row["sex"], row["timepoint"]], [None, None, None, None])
