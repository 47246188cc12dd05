"""Reads the sample sheet into cells: encoding, delimiter, header, shape. The module `cohort` interprets the cells."""

from __future__ import annotations

import codecs
import csv
import difflib
import re
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from deidlib.errors import InputError
from deidlib.intake import workbook
from deidlib.schema import load_schema

MAX_FAULTS_SHOWN = 20
_HOW = 'TSV in UTF-8, as Excel workbook (.xlsx), or as CSV UTF-8 (in Excel: Save as, "CSV UTF-8 (comma delimited)")'
_PACKED = b"PK\x03\x04"


class CohortError(InputError):
    """The sheet or the plan cannot be used; the message names file, line, column and mend, never a cell."""


def refuse(path: Path, faults: list[str], total: int | None = None) -> NoReturn:
    """Raise CohortError with at most 20 of the faults ("line 3, column age: mend") and the others' count.

    Parameters
    ----------
    path : Path
        The sheet; only its name is shown.
    faults : list of str
        The faults, or the first of them.
    total : int or None
        How many there are, if more than are listed.
    """
    shown = faults[:MAX_FAULTS_SHOWN]
    left = (total or len(faults)) - len(shown)
    listed = "\n  ".join([*(f"{path.name}, {fault}" for fault in shown), *([f"… and {left} more"] if left else [])])
    raise CohortError(f"the sample sheet is wrong (config/README.md explains every column):\n  {listed}")


def read_cells(path: Path) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Cells of a sheet, column by column, and the line of each row.

    Parameters
    ----------
    path : Path
        See :func:`deidlib.intake.cohort.read_sheet`.

    Returns
    -------
    cells : dict of str to pa.Array of string
        Every column of the schema (empty where the sheet lacks an optional one) and every further column;
        null stands for an empty cell in a column that may be empty.
    row : np.ndarray of int
        Line of the sheet, the header being line 1.

    Raises
    ------
    CohortError
        The text, header or shape of the table is wrong.
    """
    read = _from_workbook if path.suffix.lower() in workbook.SUFFIXES else _from_text
    names, columns, row = read(path)
    breaks = [
        f"line {row[at]}, column {i + 1}: a line break, or a quotation mark that is never closed; remove it"
        for i, column in enumerate(columns)
        for at in np.flatnonzero(np.asarray(pc.match_substring_regex(column, "[\r\n]")))
    ]
    if breaks:
        refuse(path, breaks)
    columns = [pc.utf8_trim_whitespace(column) for column in columns]
    filled = np.zeros(len(row), bool)
    for column in columns:
        filled |= np.asarray(pc.not_equal(column, ""))
    if not filled.any():
        raise CohortError(f"{path.name}: no row below the header; write one row for each photograph")
    for i, name in enumerate(names):
        if not name and pc.any(pc.not_equal(columns[i], "")).as_py():
            raise CohortError(f"{path.name}, line 1, column {i + 1}: the column has no name; name it or empty it")
    cells = {name: column.filter(pa.array(filled)) for name, column in zip(names, columns, strict=True) if name}
    rules = load_schema("samples")["properties"]
    for name in rules:
        cells.setdefault(name, pa.array([""] * int(filled.sum()), pa.string()))
    for name in ("patient_id", "photo_id"):
        cells[name] = pc.utf8_normalize(cells[name], form="NFC")
    cells["timepoint"] = pc.utf8_normalize(cells["timepoint"], form="NFKC")  # full-width digits are digits
    nullable = [name for name in cells if name not in rules or "null" in rules[name]["type"]]
    for name in nullable:
        cells[name] = pc.if_else(pc.equal(cells[name], ""), pa.scalar(None, pa.string()), cells[name])
    return cells, row[filled]


def _from_workbook(path: Path) -> tuple[list[str], list[pa.Array], np.ndarray]:
    try:
        header, columns, rows, _ = workbook.read_workbook(path)
    except workbook.WorkbookError as error:
        raise CohortError(str(error)) from None
    return _column_names(path, header), [pa.array(column, pa.string()) for column in columns], np.array(rows, int)


def _from_text(path: Path) -> tuple[list[str], list[pa.Array], np.ndarray]:
    header, delimiter = _read_header(path)
    names = _column_names(path, header)
    ragged: list[int] = []
    try:
        table = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=[str(i) for i in range(len(header))], use_threads=False),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=lambda found: ragged.append(found.number) or "skip",
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types={str(i): pa.string() for i in range(len(header))}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        raise CohortError(f"{path.name}: cannot be read as a table; save it again as {_HOW}") from None
    if ragged:
        refuse(
            path,
            [f"line {line}: does not have {len(header)} cells like the header; complete it" for line in ragged],
        )
    columns = [column.combine_chunks().slice(1) for column in table.columns]
    return names, columns, np.arange(2, table.num_rows + 1)


def _read_header(path: Path) -> tuple[list[str], str]:
    decoder, line = codecs.getincrementaldecoder("utf-8-sig")(), 1
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                if block.startswith(_PACKED):
                    raise CohortError(f"{path.name}: is not text; if it is an Excel workbook, name it .xlsx")
                if "\0" in decoder.decode(block):
                    raise CohortError(f"{path.name}: is not text; save the sheet as {_HOW}")
                line += block.count(b"\n")
            decoder.decode(b"", final=True)
        with open(path, encoding="utf-8-sig", newline=None) as file:
            first = file.readline()
    except UnicodeDecodeError as error:
        bad = line + error.object[: error.start].count(b"\n")
        raise CohortError(f"{path.name}, line {bad}: not UTF-8; save the sheet as {_HOW}") from None
    except OSError as error:
        raise CohortError(f"{path.name}: cannot be read ({error.strerror}); name your sample sheet in cohort") from None
    candidates = "\t" if path.suffix.lower() in (".tsv", ".tab") else ",;\t"
    split = {mark: next(csv.reader([first], delimiter=mark), []) for mark in candidates}
    delimiter = max(split, key=lambda mark: len(split[mark]))
    return [name.strip() for name in split[delimiter]], delimiter


def _column_names(path: Path, header: list[str]) -> list[str]:
    schema = load_schema("samples")
    faults = []
    for name in sorted(set(header) - {""}):
        places = [str(i + 1) for i, other in enumerate(header) if other == name]
        if len(places) > 1:
            faults.append(f"line 1: columns {', '.join(places)} have the same name; rename or remove one")
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    for name in schema["required"]:
        if name not in header:
            close = difflib.get_close_matches(name.replace("_", ""), plain, n=1, cutoff=0.7)
            mend = f"if column {plain.index(close[0]) + 1} is meant, rename it" if close else "add it to the header"
            faults.append(f"line 1, column {name}: missing; {mend}")
    if faults:
        refuse(path, faults)
    return header
