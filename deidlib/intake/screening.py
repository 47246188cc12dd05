"""Finds cells that would be released although they identify a person. All rules for this are here.

A cell is checked by itself (:func:`cell_problem`: dates, numbers like those of telephones and records, addresses of the
internet, files, places, titles) and in its column (:func:`screen`: ids of any row of the sheet, names, a column that
repeats the sheet's ids). A finding names kind and row, never the cell. Names of months come from Unicode's CLDR.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from babel import Locale

from deidlib.intake.spelling import Ids, plain, runs
from deidlib.schema import load_schema

#: A cell that this many patients share is a category, neither an id nor a name.
CATEGORY_PATIENTS = 5
#: Languages whose months are known, by their codes in CLDR.
LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "sk", "sl", "hr", "sr", "sr_Latn", "bs", "bg", "mk", "ro"),
    *("hu", "el", "tr", "ru", "uk", "be", "lt", "lv", "et", "fi", "sv", "nb", "da", "is", "ga", "ca", "eu", "gl", "sq"),
)
_SHORTEST_MONTH = 3

_DAY, _MONTH, _YEAR = "(?:0?[1-9]|[12][0-9]|3[01])", "(?:0?[1-9]|1[0-2])", "(?:19|20)[0-9]{2}"
_START, _END = r"(?<![0-9])", r"(?![0-9])"
_MARK = r"\s?[-/.\u2010-\u2015\u2212]\s?"
_DATES = re.compile(
    "|".join(
        [
            rf"{_START}[0-9]{{4}}{_MARK}[0-9]{{1,2}}{_MARK}[0-9]{{1,2}}{_END}",  # 2024-03-31
            rf"{_START}[0-9]{{1,2}}{_MARK}[0-9]{{1,2}}{_MARK}[0-9]{{2,4}}{_END}",  # 31.03.24, 3/31/2024
            rf"{_START}{_DAY}\.\s?{_MONTH}\.{_END}",  # 31.03.
            rf"(?<![0-9.,])0[1-9][-.][0-9]{{2}}{_END}",  # 03-24, 03.24
            rf"{_START}{_YEAR}{_MARK}{_MONTH}{_END}|{_START}{_MONTH}{_MARK}{_YEAR}{_END}",  # 2024-03, 3/2024
            rf"{_START}{_YEAR}[01][0-9][0-3][0-9]{_END}",  # 20240331
            rf"{_START}[0-3][0-9][0-3][0-9]{_YEAR}{_END}",  # 31032024
            rf"{_YEAR}-?W[0-5][0-9]|\b(?:KW|CW|week|woche)\s?[0-5]?[0-9]\s?/\s?(?:{_YEAR}|[0-9]{{2}}){_END}",
            rf"\b[QH][1-4]\s?[/' -]?\s?(?:{_YEAR}|[0-9]{{2}}){_END}|{_YEAR}\s?[/-]?\s?[QH][1-4]\b",  # Q1 2024
            rf"{_START}(?:[01][0-9]|2[0-3]):[0-5][0-9]{_END}",  # 09:30
            r"[0-9]{1,4}\s?[年月日]|[0-9]{1,4}\s?[년월일](?![가-힣])",
        ]
    ),
    re.IGNORECASE,
)
#: Two numbers with a slash: month and year, or day and month. With a word after it (1/2 cusp) it is a fraction.
_STROKE = re.compile(rf"{_START}(?<!/)([0-9]{{1,2}})\s?/\s?([0-9]{{1,2}})(?!\s?[/0-9])(\s*[a-z])?", re.IGNORECASE)
_LATEST_MONTH, _LATEST_DAY, _ONE_DIGIT = 12, 31, 10

_ELECTRONIC = {
    "an e-mail address": re.compile(r"\S+\s?(?:@|\(at\)|\[at\])\s?\S+", re.IGNORECASE),
    "an internet address": re.compile(
        r"://|\bwww\.|\b[a-z0-9-]+\.(?:com|org|net|edu|gov|info|io|eu|de|at|ch|fr|es|it|nl|be|pl|cz|uk|ru|tr)\b"
        r"|(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.])|\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b",
        re.IGNORECASE,
    ),
    "the name of a file": re.compile(
        r"\.(?:jpe?g|png|tiff?|webp|hei[cf]|avif|dcm|bmp|gif|nef|cr[23]|arw|dng|pdf|docx?|xlsx?)\b"
        r"|(?:^|\s)(?:~|[a-z]:)?[/\\]\S|\\\S+\\",
        re.IGNORECASE,
    ),
    "coordinates": re.compile(
        r"-?[0-9]{1,3}\.[0-9]{3,}\s?[,;/ ]\s?-?[0-9]{1,3}\.[0-9]{3,}|[0-9]\s?°\s?[0-9]{1,2}\s?['′]"
    ),
}
#: Words before a personal number: of a record, a case, an insurance, a telephone.
_RECORD = re.compile(
    r"\b(?:mrn|pid|pat|patient(?:en)?|id|nhs|ssn|nir|insee|dni|nif|bsn|pesel|record|chart|case|fall|akte|dossier|historia"
    r"|cartella|insurance|versicherung|policy|account|konto|tel|telefon|phone|mobile?|handy|fax|passport|accession)"
    r"[\s.:#№°_-]*(?:number|nummer|nr|no|num|id)?[\s.:#№°_-]*[0-9]{2,}",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"\b(?:mrs?|ms|miss|herr|frau|mme|mlle|monsieur|madame|señora?|sra?|signora?|dr|prof|dott|pan[ií]?)\.?\s+[^\W\d_]{2,}",
    re.IGNORECASE,
)
#: Titles that are also common words ("sr 3", "pan") count only if a capital letter follows.
_CAPITAL = re.compile(r"\s[A-ZÀ-ÖØ-ÞА-ЯΑ-Ω]")
#: Digits of a postal code, a record number or a serial date; numbers that stand together are counted together.
_LONG_NUMBER = re.compile(r"(?<![0-9.,])[0-9]{5,}(?![0-9]*[.,][0-9])|(?<![0-9.,])[0-9]{7,}")
_NUMBERS = re.compile(r"\+?[0-9(][0-9()\s/.\-\u2010-\u2015\u2212]*[0-9]")
_TELEPHONE_DIGITS = 7
#: Tooth numbers (ISO 3950) and measurements, which are written as lists.
_TOOTH = re.compile(r"[1-4][1-8]|[5-8][1-5]")
_MEASURE = re.compile(r"[1-9]?[0-9](?:\.[0-9]+)?|1[0-9]{2}\.[0-9]{1,3}")

_NAME_PART = r"[^\W\d_a-zß-öø-ÿ][^\W\d_]*(?:['’-][^\W\d_]+)*"
#: "Smith, John", "J. Smith", "Smith J.": probably a name, unless the column holds categories.
_NAME = re.compile(
    rf"{_NAME_PART}(?: {_NAME_PART})?, ?{_NAME_PART}\.?(?: {_NAME_PART}\.?)*"
    rf"|(?:[^\W\d_]\. ?){{1,2}}{_NAME_PART}|{_NAME_PART} [^\W\d_]\."
)
_FULL_NAME = re.compile(rf"{_NAME_PART}(?: (?:de|da|di|von|van|der|den|la|le|del))*(?: {_NAME_PART}){{1,2}}")
#: A column holds names if at least this share of the patients has a name-like cell that nobody else has.
_NAMES_SHARE, _FEWEST_NAMES = 0.5, 3


@dataclass(frozen=True, order=True)
class Finding:
    """A cell that may not be released: line of the sheet, column, and the reason in words."""

    row: int
    column: str
    what: str


@functools.lru_cache(maxsize=65536)  # asked again for every row that is released
def cell_problem(text: str) -> str | None:
    """Why a cell identifies a person by itself, without its column and the other cells; None: it does not.

    Parameters
    ----------
    text : str
        The cell. It is checked in Unicode's compatibility form, so that full-width digits are digits.
    """
    text = _visible(text)
    if _is_date(text):
        return "looks like a calendar date or a part of one; use time points or intervals"
    for what, pattern in _ELECTRONIC.items():
        if pattern.search(text):
            return f"looks like {what}"
    if _RECORD.search(text):
        return "looks like a person's number (record, case, insurance, telephone)"
    if _is_number_of_a_person(text):
        return "holds a number as long as that of a record, a telephone, a postal area or a date"
    if any(_CAPITAL.search(found[0]) for found in _TITLE.finditer(text)):
        return "looks like a person's title and name"
    return None


@functools.lru_cache(maxsize=65536)
def timepoint_problem(text: str) -> str | None:
    """What is wrong with a time point; None: it has one of the forms that samples.schema.yaml describes."""
    return None if _timepoint().search(unicodedata.normalize("NFKC", text)) else "is no name of a time point"


def screen(
    columns: Mapping[str, Sequence[str | None]], patients: Sequence[str], own: Sequence[Iterable[str]], ids: Ids, rows
) -> list[Finding]:
    """Find cells that may not be released.

    Parameters
    ----------
    columns : mapping
        Columns that are released unchanged → their cells.
    patients : sequence of str
        Patient of each row.
    own : sequence of iterables of str
        Each row's own ids. A column that repeats them is an id itself, even if they are short.
    ids : Ids
        Ids of all rows of the sheet, including those that are not released.
    rows : sequence of int
        Line of each row.

    Returns
    -------
    list of Finding
        Sorted by line.
    """
    found = []
    for name, cells in columns.items():
        carriers: dict[str, set[str]] = defaultdict(set)
        for cell, patient in zip(cells, patients, strict=True):
            if cell is not None and len(carriers[cell]) < CATEGORY_PATIENTS:
                carriers[cell].add(patient)
        problems = {cell: _problem(name, cell, who, ids) for cell, who in carriers.items()}
        for cell in _names(carriers):
            problems[cell] = problems[cell] or "looks like a person's name (write a list of findings in small letters)"
        if _repeats_ids(cells, own):
            problems = dict.fromkeys(problems, "is the row's own id, as in the whole column")
        found += [
            Finding(row, name, problems[cell]) for row, cell in zip(rows, cells, strict=True) if cell and problems[cell]
        ]
    return sorted(found)


def _problem(column: str, cell: str, who: set[str], ids: Ids) -> str | None:
    problem = timepoint_problem(cell) if column == "timepoint" else None
    problem = problem or (None if column == "timepoint" else cell_problem(cell))
    if problem is None and len(who) < CATEGORY_PATIENTS and ids.within(cell):
        problem = "holds an id of the sheet, of this row or another"
    return problem


def _names(carriers: Mapping[str, set[str]]) -> list[str]:
    """Cells that look like names: they are no category, and other patients' cells do not hold the same words."""
    single = {cell: next(iter(who)) for cell, who in carriers.items() if len(who) == 1}
    users: dict[str, set[str]] = defaultdict(set)
    for cell, who in carriers.items():
        for word in runs(cell):
            users[word] |= who
    full = [cell for cell in single if _FULL_NAME.fullmatch(cell) and all(len(users[word]) == 1 for word in runs(cell))]
    everybody = set().union(*carriers.values()) if carriers else set()
    many = len(full) >= max(_FEWEST_NAMES, _NAMES_SHARE * len(everybody))
    with_mark = [c for c in single if _NAME.fullmatch(c) and any(len(users[word]) == 1 for word in runs(c))]
    return [*with_mark, *(full if many else [])]


def _repeats_ids(cells: Sequence[str | None], own: Sequence[Iterable[str]]) -> bool:
    """Whether a column's cells are the rows' own ids, at least three of them."""
    pairs = [(runs(cell), given) for cell, given in zip(cells, own, strict=True) if cell]
    same = [key for key, given in pairs if key and any(key == runs(one) for one in given)]
    return len(set(same)) >= 3 and len(same) >= 0.9 * len(pairs)


def _visible(text: str) -> str:
    return unicodedata.normalize("NFKC", "".join(c for c in text if unicodedata.category(c) != "Cf")).strip()


def _is_date(text: str) -> bool:
    if _DATES.search(text) or _month_beside_a_number().search(plain(text)):
        return True
    for found in _STROKE.finditer(text):
        first, second = int(found[1]), int(found[2])
        if first < second < _ONE_DIGIT and "0" not in (found[1][0], found[2][0]) and found[3]:
            continue  # a fraction: 1/2 cusp
        if 1 <= first <= _LATEST_MONTH or (1 <= second <= _LATEST_MONTH and first <= _LATEST_DAY):
            return True
    return False


def _is_number_of_a_person(text: str) -> bool:
    if _LONG_NUMBER.search(text):
        return True
    return any(
        sum(c.isdecimal() for c in found[0]) >= _TELEPHONE_DIGITS and not _is_list(found[0])
        for found in _NUMBERS.finditer(text)
    )


def _is_list(text: str) -> bool:
    """Whether numbers that stand together are tooth numbers, or measurements separated by blanks."""
    teeth = re.split(r"[\s/.\-\u2010-\u2015\u2212]+", text)
    return all(map(_TOOTH.fullmatch, teeth)) or all(map(_MEASURE.fullmatch, text.split()))


@functools.cache
def _timepoint() -> re.Pattern:
    return re.compile(load_schema("samples")["properties"]["timepoint"]["pattern"])


@functools.cache
def _month_beside_a_number() -> re.Pattern:
    """A month alone, or next to a number: 2-Sep, Dez 23, 12 Mar 24, 3 de marzo."""
    known = {
        plain(name).rstrip(".")
        for language in LANGUAGES
        for use in Locale.parse(language).months.values()
        for width in ("wide", "abbreviated")
        for name in use.get(width, {}).values()
    }
    known = {month for month in known if len(month) >= _SHORTEST_MONTH and not month[0].isdecimal()}
    months = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    between, of = r"[\s.,'’/_\-\u2010-\u2015\u2212]*", r"(?:of|de|del|di|den|d)\b"
    return re.compile(
        rf"^(?:{months})\.?$"
        rf"|(?<![0-9])[0-9]{{1,4}}(?:st|nd|rd|th|er|º|ª)?{between}(?:{of}{between})?"
        rf"(?!out of\b)(?:{months})(?![^\W\d_])"
        rf"|(?<![^\W\d_])(?!out of\b)(?:{months})\.?{between}(?:{of}{between})?[0-9]{{1,4}}(?![0-9])"
    )
