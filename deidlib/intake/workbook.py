"""Reads an Excel workbook, with cells as Excel displays them: 1234, not 1234.0; 007 where the format shows zeros."""

from __future__ import annotations

import datetime
import re
import zipfile
from pathlib import Path

import openpyxl
from openpyxl.cell.cell import Cell
from openpyxl.utils.exceptions import InvalidFileException

from deidlib.errors import InputError

SUFFIXES = (".xlsx", ".xlsm")
#: Largest unpacked content of a workbook; a larger one is no sample sheet.
_MOST_BYTES = 1 << 30
_ZEROS = re.compile(r"(0+)(?:\.(0+))?(?:_.*)?")
#: Parts of a date format, and their strftime codes. Next to hours, "m" means minutes; times are left out.
_YEARS = {"yyyy": "%Y", "yy": "%y"}
_MONTHS = {"mmmm": "%B", "mmm": "%b", "mm": "%m", "m": "{m}"}
_DAYS = {"dddd": "%A", "ddd": "%a", "dd": "%d", "d": "{d}"}
_PARTS = _YEARS | _MONTHS | _DAYS
#: Excel's short date, which it displays in the form of the reader's system.
_LOCAL_DATE = "mm-dd-yy"
_DATE_FORMAT = re.compile(r"y+|m+|d+|[-/., ]+|\\(.)|\"([^\"]*)\"", re.IGNORECASE)


class WorkbookError(InputError):
    """The workbook cannot be read as a table; the message names the cell's place and the remedy."""


def read_workbook(path: Path) -> tuple[list[str], list[list[str]], list[int], list[str]]:
    """Cells of the worksheet that holds the sample sheet.

    Parameters
    ----------
    path : Path
        An .xlsx or .xlsm file. The header is the first row that is not empty. If there are several worksheets, the one
        with ``patient_id`` in its header is read.

    Returns
    -------
    header : list of str
        Column names, without blanks around them.
    columns : list of list of str
        Cells below the header as Excel displays them; dates in the cell's format, or as 2024-03-31.
    rows : list of int
        Row of each cell.
    remarks : list of str
        Notes on hidden rows and columns, which are read, and on further worksheets, which are not.

    Raises
    ------
    WorkbookError
        The file is no workbook, has no such worksheet or several of them, or holds a formula without a stored result.
    """
    shown, stored = _opened(path, data_only=True), _opened(path, data_only=False)
    filled = [sheet for sheet in shown.worksheets if sheet.max_row > 1 or sheet.max_column > 1]
    named = [sheet for sheet in filled if "patient_id" in (_text(cell) for cell in _header_of(sheet))]
    chosen = named or filled[:1]
    if len(chosen) != 1:
        raise WorkbookError(
            f"{path.name}: {len(chosen) or 'no'} worksheets hold a sample sheet; keep one, whose header has patient_id"
        )
    sheet = chosen[0]
    formulas, top = stored[sheet.title], _header_of(sheet)[0].row
    wide = max((cell.column for cell in _header_of(sheet) if _text(cell)), default=1)
    header, columns, rows = [_text(cell) for cell in _header_of(sheet)[:wide]], [[] for _ in range(wide)], []
    for cells in sheet.iter_rows(min_row=top + 1, max_col=max(wide, sheet.max_column)):
        if all(cell.value is None for cell in cells) and not any(_formula(formulas, cell) for cell in cells):
            continue
        for at, cell in enumerate(cells):
            if cell.value is None and _formula(formulas, cell):
                raise WorkbookError(
                    f"{path.name}, line {cell.row}, column {cell.column}: a formula without a result; open the file "
                    "in Excel, save it again, or replace formulas by their values"
                )
            if at >= wide and _text(cell):
                raise WorkbookError(
                    f"{path.name}, line {top}, column {at + 1}: the column has no name; name or empty it"
                )
            if at < wide:
                columns[at].append(_text(cell))
        rows.append(cells[0].row)
    return header, columns, rows, _remarks(sheet, len(filled))


def _opened(path: Path, data_only: bool) -> openpyxl.Workbook:
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > _MOST_BYTES:
                raise WorkbookError(f"{path.name}: is too large for a sample sheet; save it as TSV or as CSV UTF-8")
        return openpyxl.load_workbook(path, data_only=data_only)
    except OSError as error:
        raise WorkbookError(
            f"{path.name}: cannot be read ({error.strerror}); name your sample sheet in cohort"
        ) from None
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, TypeError, SyntaxError, EOFError):
        raise WorkbookError(
            f"{path.name}: cannot be read as a workbook (it may be damaged, or protected by a password); save it again "
            "as Excel workbook (.xlsx) or as CSV UTF-8"
        ) from None


def _header_of(sheet) -> tuple[Cell, ...]:
    filled = (cells for cells in sheet.iter_rows() if any(cell.value is not None for cell in cells))
    return next(filled, sheet[1])


def _formula(sheet, cell: Cell) -> bool:
    return sheet.cell(cell.row, cell.column).data_type == "f"


def _text(cell: Cell) -> str:
    """A cell as Excel displays it."""
    value, shape = cell.value, (cell.number_format or "General").split(";")[0]
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime | datetime.date):
        return _date_text(value, shape)
    if isinstance(value, int | float):
        return _number_text(value, shape)
    return str(value).strip()


def _number_text(value: float, shape: str) -> str:
    zeros = _ZEROS.fullmatch(shape)
    if zeros and value >= 0:
        digits = len(zeros[2] or "")
        whole = len(zeros[1]) + (digits + 1 if digits else 0)
        return f"{value:0{whole}.{digits}f}"
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.15g}"


def _date_text(value: datetime.date, shape: str) -> str:
    """A date in the cell's format if that is a plain date format, else as year, month and day."""
    parts = _DATE_FORMAT.sub(_strftime, re.sub(r"\[[^\]]*\]", "", shape))
    if (
        shape == _LOCAL_DATE
        or re.search("[hs]|general", shape, re.IGNORECASE)
        or not re.search("%[Yy]|%[mbBd]|{[md]}", parts)
    ):
        return value.strftime("%Y-%m-%d")
    return value.strftime(parts).replace("{m}", str(value.month)).replace("{d}", str(value.day)).strip()


def _strftime(found: re.Match) -> str:
    if found[1] or found[2]:
        return found[1] or found[2]
    return _PARTS.get(found[0].lower(), found[0])


def _remarks(sheet, filled: int) -> list[str]:
    hidden = [row for row, shape in sheet.row_dimensions.items() if shape.hidden]
    columns = [column for column, shape in sheet.column_dimensions.items() if shape.hidden]
    remarks = [f"{len(hidden)} hidden rows of the workbook (a filter?) are read like the others"] if hidden else []
    remarks += [f"{len(columns)} hidden columns of the workbook are read like the others"] if columns else []
    return remarks + ([f"{filled - 1} further worksheets are not read"] if filled > 1 else [])
