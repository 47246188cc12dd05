"""Faults of a sheet that stop a run: cells that break the schema, and mistakes that endanger a patient.

A patient spelt in two ways counts as two patients, and one of them may have withdrawn. A file listed under two patients
may be released by the consent of the wrong one. A mask or a consent in a misspelt column is ignored. No message quotes
a cell.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.intake.column_names import misnamed
from deidlib.intake.consent import agrees, without_consent
from deidlib.intake.screening import screen
from deidlib.intake.spelling import Ids, folded_id, invisible, plain
from deidlib.schema import load_schema

_IDS = ("patient_id", "photo_id")
_LINES_SHOWN = 6
#: What programs and people write in place of a missing id.
_NO_ID = {
    *("", "-", "--", ".", "?", "??", "'", '"', "na", "n/a", "#n/a", "nan", "none", "null", "nil", "nul"),
    *("unknown", "unbekannt", "inconnu", "desconocido", "tbd", "todo", "same", "ditto"),
    *(
        "#ref!",
        "#name?",
        "#value!",
        "#div/0!",
        "#num!",
        "#null!",
        "true",
        "false",
        "yes",
        "no",
        "ja",
        "nein",
        "oui",
        "non",
    ),
    *("patient", "patient_id", "photo_id", "id"),
}
#: A number that a spreadsheet rounded: several ids may have become the same.
_ROUNDED = re.compile(r"[0-9](?:[.,][0-9]+)?e\+[0-9]+")
#: Schema keywords that pyarrow evaluates on a whole column, with the same result as JSON schema on each cell.
_COLUMN_KEYWORDS = {"type", "minLength", "maxLength", "not", "description", "mend"}
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?", re.ASCII)


@dataclass(frozen=True, order=True)
class Fault:
    """Line of the sheet (the first of several), column, and the fault with its remedy."""

    row: int
    column: str
    text: str

    def __str__(self):
        return self.text


def of_cells(cells: Mapping[str, pa.Array], row: np.ndarray) -> list[Fault]:
    """Cells that break samples.schema.yaml."""
    rules = load_schema("samples")["properties"]
    return sorted(
        Fault(int(row[at]), name, f"line {row[at]}, column {name}: {_mend(rules[name], cells[name][int(at)].as_py())}")
        for name in rules
        for at in np.flatnonzero(faulty_cells(cells[name], rules[name]))
    )


def of_columns(names: Sequence[str], settled: Collection[str] = ()) -> list[Fault]:
    """Further columns that are probably misspelt names of columns that must not be overlooked.

    Parameters
    ----------
    names : sequence of str
        Columns of the sheet in its order.
    settled : collection of str
        Columns that ``release.columns`` names.
    """
    return [
        Fault(
            1,
            meant,
            f"line 1, column {name}: probably meant as {meant}, but this name is not recognised; rename it (if it is "
            f"something else, say so in the configuration: release.columns, {name}: {{rule: drop}})",
        )
        for name, meant in misnamed(names, settled)
    ]


def of_ids(cells: Mapping[str, pa.Array], row: np.ndarray) -> list[Fault]:
    """Missing ids, ids with invisible characters, and patients spelt in several ways."""
    faults = []
    for name in _IDS:
        given = cells[name].to_pylist()
        for at in _places(given, lambda one: plain(one).strip() in _NO_ID or bool(_ROUNDED.fullmatch(plain(one)))):
            faults.append(
                Fault(
                    int(row[at]),
                    name,
                    f"line {row[at]}, column {name}: no usable id (empty, an error of a spreadsheet, or a number "
                    "that it rounded); give every row its own",
                )
            )
        unseen = _places(given, invisible)
        if unseen:
            faults.append(
                Fault(
                    int(row[unseen[0]]),
                    name,
                    f"{lines(row[unseen])}, column {name}: invisible characters; type the id again",
                )
            )
    patients = cells["patient_id"].to_pylist()
    spellings: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for patient in set(patients):
        spellings[folded_id(patient)].add(patient)
    several = {one: key for key, found in spellings.items() if len(found) > 1 for one in found}
    at_of: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, patient in enumerate(patients):
        if patient in several:
            at_of[several[patient]].append(at)
    for places in at_of.values():
        faults.append(
            Fault(
                int(row[places[0]]),
                "patient_id",
                f"{lines(row[places])}, column patient_id: one id in several spellings (case, punctuation, leading "
                "zeros, an added .0, invisible characters); spell it the same way, or, if these are several "
                "patients, give them ids that differ by more",
            )
        )
    return sorted(faults)


def of_files(
    files: Sequence[str | None], patients: Sequence[str], row: np.ndarray, what: str = "one file"
) -> list[Fault]:
    """Files that are listed under several patients.

    Parameters
    ----------
    files : sequence of str or None
        Real path, or digest, of each row's photograph; None is not compared.
    patients : sequence of str
        Patient of each row.
    row : np.ndarray of int
        Line of each row.
    what : str
        What they share, in words.
    """
    first: dict[str, str] = {}
    shared: set[str] = set()
    for file, patient in zip(files, patients, strict=True):
        if file is not None and first.setdefault(file, patient) != patient:
            shared.add(file)
    at_of: dict[str, list[int]] = defaultdict(list)
    for at, file in enumerate(files):
        if file in shared:
            at_of[file].append(at)
    return [
        Fault(
            int(row[places[0]]),
            "path",
            f"{lines(row[places])}, column path: {what} is listed under several patients; correct "
            "the paths or the patients",
        )
        for places in at_of.values()
    ]


def of_released(
    cells: Mapping[str, pa.Array], row: np.ndarray, rules: Mapping[str, Mapping] | None = None
) -> list[Fault]:
    """Cells that would be released although they identify somebody (:mod:`deidlib.intake.screening`).

    Parameters
    ----------
    cells, row
        As :func:`deidlib.intake.sheet.read_cells` gives them.
    rules : mapping, optional
        ``release.columns`` of the config. Only rows of patients who gave consent are screened.
    """
    names = kept_as_they_are(rules or {})
    columns = {name: cells[name].to_pylist() for name in names if name in cells}
    patients, photos = cells["patient_id"].to_pylist(), cells["photo_id"].to_pylist()
    refused = without_consent(zip(patients, cells["consent"].to_pylist(), strict=True))
    kept = [at for at, patient in enumerate(patients) if patient not in refused]
    found = screen(
        {name: [column[at] for at in kept] for name, column in columns.items()},
        [patients[at] for at in kept],
        [(patients[at], photos[at]) for at in kept],
        Ids([*patients, *photos]),
        [int(row[at]) for at in kept],
    )
    return [
        Fault(
            one.row,
            one.column,
            f"line {one.row}, column {one.column}: the cell {one.what}; correct it, or set release.columns."
            f"{one.column} to {{rule: drop}}",
        )
        for one in found
    ]


def kept_as_they_are(rules: Mapping[str, Mapping]) -> list[str]:
    """Columns whose cells are released as text: the time point, and those of rule keep except age, sex and view."""
    named = {name: rule.get("rule") for name, rule in rules.items()}
    kept = [name for name, rule in named.items() if rule == "keep" and name not in ("age", "sex", "view", "timepoint")]
    return [*([] if named.get("timepoint") == "drop" else ["timepoint"]), *kept]


def faulty_cells(cells: pa.Array, rule: dict) -> np.ndarray:
    """Which cells break a property of workflow/schemas/samples.schema.yaml, as boolean array.

    Parameters
    ----------
    cells : pa.Array of string
        Null stands for the empty cell of a column that may be empty.
    rule : dict
        The property. Simple rules on text are evaluated on the column, all others by jsonschema on distinct
        cells.
    """
    kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    forbidden = rule.get("not", {"type": "string", "pattern": None})
    whole_column = set(rule) <= _COLUMN_KEYWORDS and set(forbidden) == {"type", "pattern"}
    if whole_column and "number" not in kinds and forbidden["type"] == "string":
        good = pa.array(np.ones(len(cells), bool))
        if "minLength" in rule:
            good = pc.and_(good, pc.greater_equal(pc.utf8_length(cells), rule["minLength"]))
        if "maxLength" in rule:
            good = pc.and_(good, pc.less_equal(pc.utf8_length(cells), rule["maxLength"]))
        if forbidden["pattern"]:
            good = pc.and_(good, pc.invert(pc.match_substring_regex(cells, forbidden["pattern"])))
        return ~np.asarray(pc.fill_null(good, "null" in kinds))
    distinct = cells.dictionary_encode(null_encoding="encode")
    validator = jsonschema.Draft202012Validator(rule)
    values = [_number_or_text(cell) if "number" in kinds else cell for cell in distinct.dictionary.to_pylist()]
    bad = np.array([not validator.is_valid(value) for value in values], bool)
    return bad[np.asarray(distinct.indices)]


def uneven_consent(cells: Mapping[str, pa.Array]) -> list[int]:
    """Places of the rows without a yes, for patients who have a yes in another row."""
    patients, consent = cells["patient_id"].to_pylist(), cells["consent"].to_pylist()
    some = {patient for patient, cell in zip(patients, consent, strict=True) if agrees(cell)}
    return [
        at
        for at, (patient, cell) in enumerate(zip(patients, consent, strict=True))
        if patient in some and not agrees(cell)
    ]


def lines(rows: Sequence[int] | np.ndarray) -> str:
    """Lines of the sheet in words: "lines 2, 5 and 17 more"."""
    shown, left = [str(one) for one in rows[:_LINES_SHOWN]], len(rows) - _LINES_SHOWN
    more = f" and {left} more" if left > 0 else ""
    return f"line{'s' * (len(rows) != 1)} {', '.join(shown)}{more}"


def _places(given: Sequence[str], holds) -> list[int]:
    """Places of the cells for which a test of their text holds; every distinct text is tested once."""
    bad = {one for one in set(given) if holds(one)}
    return [at for at, one in enumerate(given) if one in bad] if bad else []


def _mend(rule: dict, cell: str | None) -> str:
    known = [value for value in rule.get("enum", []) if value]
    folded = {re.sub(r"[^a-z]", "", value.lower()): value for value in known}
    close = difflib.get_close_matches(re.sub(r"[^a-z]", "", (cell or "").lower()), list(folded), n=1, cutoff=0.7)
    return rule["mend"] + (f" (did you mean {folded[close[0]]}?)" if close else "")


def _number_or_text(cell: str | None) -> float | str | None:
    return float(cell) if cell is not None and _NUMBER.fullmatch(cell) else cell
