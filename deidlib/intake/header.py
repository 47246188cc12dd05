"""Compares what a DICOM header says of patient and view with the sheet. Nothing of the header is kept or quoted.

If the header contradicts the sheet, the path in the sheet probably leads to the wrong photograph. The consent in that
row would then be another person's.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import BinaryIO

import pydicom

from deidlib.intake.formats.opened import OF_DAMAGE
from deidlib.intake.views import views_by_codes

_HEAD = 132  # preamble and "DICM"
_LARGE = 1 << 16  # bytes; larger elements are skipped
_DAYS_A_YEAR = 365.25
_MOST_YEARS = 2.0  # difference of age that rounding, or a sheet made later, can explain
_UNITS = {"D": 1 / _DAYS_A_YEAR, "W": 7 / _DAYS_A_YEAR, "M": 1 / 12, "Y": 1.0}
_DATES = ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate")
_CODED = ("AnatomicRegionSequence", "ViewCodeSequence", "PrimaryAnatomicStructureSequence")
#: Elements that name the person, by the words of a message.
_PERSON = {"patient id": "PatientID", "patient name": "PatientName", "birth date": "PatientBirthDate"}


@dataclass
class Header:
    """The parts of a DICOM header that are compared with the sheet.

    Attributes
    ----------
    person : dict
        Patient id, patient name and birth date, without case and punctuation; only those that the header gives.
    sex : str or None
        F, M or X.
    age : float or None
        Years.
    codes : list of str
        Code values of region, projection and acquisition context.
    """

    person: dict[str, str] = field(default_factory=dict)
    sex: str | None = None
    age: float | None = None
    codes: list[str] = field(default_factory=list)


def read_header(file: BinaryIO) -> Header | None:
    """Header of a DICOM file that is open for reading; None for any other file, and for one that cannot be read."""
    if file.read(_HEAD)[-4:] != b"DICM":
        return None
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, stop_before_pixels=True, defer_size=_LARGE)
            return Header(
                {word: folded for word, name in _PERSON.items() if (folded := _folded(dataset.get(name)))},
                {"F": "F", "M": "M", "O": "X"}.get(str(dataset.get("PatientSex") or "").strip().upper()),
                _age(dataset),
                _codes(dataset),
            )
    except OF_DAMAGE:
        return None


def contradictions(rows: Sequence[Mapping], headers: Sequence[Header | None]) -> dict[int, tuple[str, ...]]:
    """Contradictions between the rows of a shard and the headers of their photographs.

    Parameters
    ----------
    rows : sequence of mappings
        Rows of tables.COHORT, including all rows of each patient.
    headers : sequence of Header or None
        The header of each row's photograph.

    Returns
    -------
    dict
        Line of the sheet → what differs: sex, age, view; patient id, patient name or birth date, where photographs of
        one patient name different people, or the sheet uses the header's ids elsewhere and not here; or one person
        under several patients.
    """
    found: dict[int, set[str]] = {}
    named = [(row, header) for row, header in zip(rows, headers, strict=True) if header is not None]
    hospital_ids = any(header.person.get("patient id") == _folded(row["patient_id"]) for row, header in named)
    for row, header in named:
        found[row["row"]] = set(_of_one(row, header, hospital_ids))
    for word in _PERSON:
        said = {(row["patient_id"], header.person[word]) for row, header in named if word in header.person}
        patients, people = [patient for patient, _ in said], [person for _, person in said]
        for row, header in named:
            several = patients.count(row["patient_id"]) > 1
            shared = word == "patient id" and people.count(header.person.get(word)) > 1
            if several or shared:
                found[row["row"]].add(word)
    return {line: tuple(sorted(words)) for line, words in found.items() if words}


def _of_one(row: Mapping, header: Header, hospital_ids: bool) -> list[str]:
    words = []
    if hospital_ids and header.person.get("patient id", _folded(row["patient_id"])) != _folded(row["patient_id"]):
        words.append("patient id")
    if row["sex"] and header.sex and row["sex"] != header.sex:
        words.append("sex")
    if row["age"] is not None and header.age is not None and abs(row["age"] - header.age) > _MOST_YEARS:
        words.append("age")
    if row["view"] and row["view"] not in views_by_codes(header.codes):
        words.append("view")
    return words


def _folded(value: object) -> str:
    """Letters and digits of a name or number, without case, accents, marks and leading zeros."""
    plain = unicodedata.normalize("NFKD", str(value or "")).casefold()
    return re.sub(r"[^0-9a-z]", "", plain).lstrip("0") or re.sub(r"[\W_]", "", plain)


def _age(dataset: pydicom.Dataset) -> float | None:
    born, taken = _day(dataset.get("PatientBirthDate")), next(filter(None, map(_day, map(dataset.get, _DATES))), None)
    if born and taken:
        return (taken - born).days / _DAYS_A_YEAR
    stated = re.fullmatch(r"([0-9]{3})([DWMY])", str(dataset.get("PatientAge") or "").strip())
    return int(stated[1]) * _UNITS[stated[2]] if stated else None


def _day(value: object) -> date | None:
    text = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})", str(value or "").strip())
    try:
        return date(*map(int, text.groups())) if text else None
    except ValueError:
        return None


def _codes(dataset: pydicom.Dataset) -> list[str]:
    """Code values, independent of the version of SNOMED."""
    items = [item for name in _CODED for item in dataset.get(name) or ()]
    for item in dataset.get("AcquisitionContextSequence") or ():
        items.extend(item.get("ConceptCodeSequence") or ())
    return [str(item.get("CodeValue", item.get("LongCodeValue", ""))) for item in items]
