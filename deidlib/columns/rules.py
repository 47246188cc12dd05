"""Rules of the released columns: which are released, and in what form (keep, bin, days, year, drop).

A column is released only if the config names it. A column that identifies people is refused even then.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date

import pyarrow as pa

from deidlib.errors import ReleaseError
from deidlib.intake.capture import CAPTURE, capture_cell
from deidlib.intake.faults import kept_as_they_are
from deidlib.intake.screening import cell_problem, screen, timepoint_problem
from deidlib.intake.spelling import Ids
from deidlib.schema import load_schema
from deidlib.storage import tables

RULES = ("keep", "bin", "days", "year", "drop")
#: The rule that :func:`rules_of` gives to ``release.metadata``: the value comes from the photograph, not the sheet.
CAPTURED = "captured"
#: Rules for columns of calendar dates, which are never released themselves.
DATE_RULES = ("days", "year")
#: Ages from here on form one class, whatever the rule (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C)).
OLDEST_AGE = 90

_PATIENT = "release_patient_id"
#: Columns that every sample sheet may have.
STANDARD = ("view", "timepoint", "age", "sex", "diagnosis")
_INTERNAL = frozenset(
    name
    for schema in (tables.COHORT, tables.PHOTOS, tables.INDEX, tables.MEASURED_ON_ORIGINALS)
    for name in schema.names
) - frozenset(STANDARD)
_IDENTIFYING_WORDS = frozenset(
    [
        "name",
        "names",
        "surname",
        "forename",
        "firstname",
        "lastname",
        "fullname",
        "nachname",
        "vorname",
        "birth",
        "birthday",
        "birthdate",
        "dob",
        "born",
        "geburtsdatum",
        "geburtstag",
        "ssn",
        "mrn",
        "nhs",
        "passport",
        "insurance",
        "email",
        "mail",
        "phone",
        "telephone",
        "mobile",
        "fax",
        "address",
        "street",
        "zip",
        "zipcode",
        "postcode",
        "postal",
        "url",
        "ip",
        "gps",
        "latitude",
        "longitude",
        "date",
        "datum",
        "patientid",
        "photoid",
        "fileid",
        "filename",
        "initials",
    ]
)


def identifying(name: str) -> bool:
    """Whether a column of this name must not be released: an id, a path, a name, a birth date, a contact."""
    if name in _INTERNAL:
        return True
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return bool(set(re.split(r"[^a-z0-9]+", words.lower())) & _IDENTIFYING_WORDS) or (
        re.sub(r"[^a-z0-9]", "", name.lower()) in _IDENTIFYING_WORDS
    )


def rules_of(config: Mapping) -> dict[str, Mapping]:
    """Rules of all columns that a configuration releases: ``release.columns``, then ``release.metadata``.

    Raises
    ------
    ReleaseError
        A column of the sheet has the name of a value of ``release.metadata``.
    """
    release = config.get("release") or {}
    columns, metadata = release.get("columns") or {}, release.get("metadata") or []
    if both := sorted(set(columns) & set(metadata)):
        raise ReleaseError(
            f"release.metadata: {both[0]} is a column of release.columns as well; remove one, or rename the column"
        )
    return {**columns, **{name: {"rule": CAPTURED} for name in metadata}}


def check_rules(rules: Mapping[str, Mapping], known: Iterable[str]) -> None:
    """Refuse unknown rules, rules that release an identifying column, and rules for a column that does not exist.

    Parameters
    ----------
    rules : mapping
        ``config["release"]["columns"]``: column → ``{"rule": keep|bin|drop, "width": whole number > 0}``.
    known : iterable of str
        Further columns of the sheet.

    Raises
    ------
    ReleaseError
        Names the column and the mend.
    """
    known = {*STANDARD, *known}
    for name, options in rules.items():
        where = f"release.columns.{name}"
        rule = options.get("rule") if isinstance(options, Mapping) else options
        if rule == CAPTURED and name in CAPTURE:
            continue
        if name in CAPTURE and rule != "drop":
            raise ReleaseError(
                f"{where}: this is the name of a value of release.metadata; rename the column in the sheet"
            )
        if rule not in RULES:
            raise ReleaseError(f"{where}: rule {rule!r} is unknown; use one of {', '.join(RULES)}")
        if rule == "drop":
            continue
        if identifying(name):
            raise ReleaseError(
                f"{where}: a column of this name identifies people, or is one of the pipeline's own, and "
                "cannot be released; use rule drop (if it is not what its name says, rename it in the sheet)"
            )
        if name not in known:
            raise ReleaseError(f"{where}: the sheet has no column of this name; correct or remove the rule")
        width = options.get("width") if isinstance(options, Mapping) else None
        whole = isinstance(width, int) and not isinstance(width, bool) and width > 0
        if rule == "bin" and (name in ("view", "timepoint") or not whole):
            raise ReleaseError(f"{where}: rule bin needs numbers and a width, a positive whole number, e.g. 10")
        if rule in DATE_RULES and name in STANDARD:
            raise ReleaseError(f"{where}: rule {rule} is for further columns of the sheet that hold dates")


def first_dates(photos: Iterable[Mapping], rules: Mapping[str, Mapping]) -> dict[tuple[str, str], date]:
    """Earliest date of every patient in every column of rule days.

    Parameters
    ----------
    photos : iterable of mapping
        Rows of tables.PHOTOS, whole patients.
    rules : mapping
        Checked with :func:`check_rules`.

    Returns
    -------
    dict
        (release_patient_id, column) → date.
    """
    photos, first = list(photos), {}
    for name in (name for name in rules if _rule(rules, name) == "days"):
        for photo in photos:
            value = str(json.loads(photo["columns"] or "{}").get(name) or "").strip()
            if value:
                day, key = _date(value, name, photo["row"]), (photo[_PATIENT], name)
                first[key] = min(day, first.get(key, day))
    return first


def released_columns(rules: Mapping[str, Mapping]) -> list[str]:
    """Columns that are appended to the index, in the order of the configuration."""
    return [name for name in rules if _rule(rules, name) != "drop" and name not in ("view", "timepoint")]


def extra_schema(rules: Mapping[str, Mapping]) -> list[pa.Field]:
    """Arrow fields (all strings) of the appended columns, each with its description."""
    fields = []
    for name in released_columns(rules):
        text = f"{name}, as the institution recorded it"
        if _rule(rules, name) == "bin":
            text = f"{name} in classes of {rules[name]['width']}"
        if _rule(rules, name) == "days":
            text = f"{name}: days since the patient's first photograph in this release"
        if _rule(rules, name) == "year":
            text = f"{name}: calendar year"
        if _rule(rules, name) == CAPTURED:
            kept = CAPTURE[name]
            unit = {"unit": kept.unit} if kept.unit else {}
            fields.append(pa.field(name, pa.string(), metadata={"description": kept.description, **unit}))
            continue
        if name == "age":
            text += f"; years; {OLDEST_AGE} and above are one class"
        fields.append(pa.field(name, pa.string(), metadata={"description": text}))
    return fields


def sheet_values(
    photo: Mapping, rules: Mapping[str, Mapping], first: Mapping[tuple[str, str], date] | None = None
) -> dict[str, str | None]:
    """Cells of the index that come from the sheet: view, timepoint and the released columns.

    Parameters
    ----------
    photo : mapping
        A row of tables.PHOTOS.
    rules : mapping
        Checked with :func:`check_rules`.
    first : mapping, optional
        :func:`first_dates` of the released photographs; without it a cell of rule days is checked and left empty.

    Raises
    ------
    ReleaseError
        A cell cannot be binned or read as a date, or identifies somebody by itself or as the photograph's own id
        (:func:`refuse_identifying` sees the other rows too). The error names column and row, never the value.
    """
    further = json.loads(photo["columns"] or "{}")
    cells: dict[str, str | None] = {}
    own: Ids | None = None
    for name in ("view", "timepoint", *released_columns(rules)):
        rule = _rule(rules, name) if name in rules else "keep"
        if rule == CAPTURED:
            cells[name] = capture_cell(photo.get("capture"), name)
            continue
        value = photo[name] if name in STANDARD else further.get(name)
        if rule == "drop" or value is None or str(value).strip() == "":
            cells[name] = None
        elif rule == "bin" or name == "age":
            width = rules[name]["width"] if rule == "bin" else None
            cells[name] = _number_class(value, width, name, photo["row"])
        elif rule in DATE_RULES:
            day, since = _date(str(value).strip(), name, photo["row"]), (first or {}).get((photo[_PATIENT], name))
            cells[name] = str(day.year) if rule == "year" else None if since is None else str((day - since).days)
        else:
            own = own or Ids([photo["patient_id"], photo["photo_id"]])
            cells[name] = _kept(str(value).strip(), name, photo["row"], own)
    return cells


def refuse_identifying(photos: Iterable[Mapping], ids: Iterable[str], rules: Mapping[str, Mapping]) -> None:
    """Compare the cells to be released with each other and with all ids of the sheet.

    Parameters
    ----------
    photos : iterable of mapping
        Rows of tables.PHOTOS that would be released.
    ids : iterable of str
        Original ids of all patients and photographs of the sheet.
    rules : mapping
        Checked with :func:`check_rules`.

    Raises
    ------
    ReleaseError
        A cell identifies somebody (:mod:`deidlib.intake.screening`). The error names column and row, never the cell.
    """
    names, photos = kept_as_they_are(rules), list(photos)
    further = [json.loads(photo["columns"] or "{}") for photo in photos]
    cells = {
        name: [
            _text(photo[name] if name in STANDARD else more.get(name))
            for photo, more in zip(photos, further, strict=True)
        ]
        for name in names
    }
    patients = [photo["patient_id"] for photo in photos]
    own = [(photo["patient_id"], photo["photo_id"]) for photo in photos]
    found = screen(cells, patients, own, Ids(ids), [photo["row"] for photo in photos])
    if found:
        raise _refused(found[0].column, found[0].row, found[0].what, len(found) - 1)


def _text(value) -> str | None:
    return str(value).strip() or None if value is not None else None


def _rule(rules: Mapping, name: str) -> str:
    options = rules[name]
    return options["rule"] if isinstance(options, Mapping) else options


def _date(value: str, name: str, row: int) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ReleaseError(
            f"column {name}, sheet row {row}: not a date of the form 2024-03-31; correct the cell"
        ) from None


def _number_class(value, width: int | None, name: str, row: int) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ReleaseError(f"column {name}, sheet row {row}: not a number, so it has no class; correct the cell")
    if name == "age" and number >= OLDEST_AGE:
        return f"{OLDEST_AGE}+"
    if width is None:
        return f"{number:g}"
    low = math.floor(number / width) * width
    high = low + width - 1
    if name == "age":
        high = min(high, OLDEST_AGE - 1)
    return str(low) if low == high else f"{low}-{high}" if low >= 0 else f"{low} to {high}"


def _kept(value: str, name: str, row: int, own: Ids) -> str:
    if name == "view" and value in _views():  # a word of the schema
        return value
    problem = timepoint_problem(value) if name == "timepoint" else cell_problem(value)
    if problem is None and own.within(value):
        problem = "holds the patient's or the photograph's original id"
    if problem:
        raise _refused(name, row, problem)
    return value


def _refused(name: str, row: int, problem: str, more: int = 0) -> ReleaseError:
    others = f" ({more} more cells of the released columns are refused)" if more else ""
    return ReleaseError(
        f"column {name}, sheet row {row}: the cell {problem}; correct it, or set release.columns.{name} to rule drop"
        f"{others}"
    )


@functools.cache
def _views() -> frozenset[str]:
    return frozenset(load_schema("samples")["properties"]["view"]["enum"])
