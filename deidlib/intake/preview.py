"""Preview of a sheet, before a run: :func:`preview` counts what the run would do, :func:`in_words` puts it in words.

Nothing is written and no photograph is opened; files are looked up. Lines and column names are quoted, cells never.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deidlib.intake import contents, faults, workbook
from deidlib.intake.cohort import Sheet, open_sheet
from deidlib.intake.column_names import meant
from deidlib.intake.consent import agrees, without_consent
from deidlib.intake.faults import lines
from deidlib.intake.paths import spellings
from deidlib.intake.sheet import MAX_FAULTS_SHOWN
from deidlib.intake.spelling import plain
from deidlib.schema import load_schema

#: Words that mean yes or no in other languages or in forms: a cell with one of them was probably filled in on purpose.
_YES = {
    *("ja", "oui", "si", "sì", "sí", "sim", "tak", "igen", "ano", "da", "evet", "kyllä", "x", "v", "✓", "✔", "☑", "+"),
    *("ok", "okay", "agreed", "granted", "given", "signed", "yes.", "true."),
}
_NO = {
    *("no", "n", "false", "0", "nein", "non", "nao", "não", "nie", "nem", "ne", "hayır", "ei"),
    *("withdrawn", "revoked"),
}
_MANY_PHOTOS = 50  # photographs of one patient; with more, the id is probably not a patient's
_FOLDERS_LISTED = 1000


@dataclass(frozen=True)
class Preview:
    """A sheet as a run would take it.

    Attributes
    ----------
    sheet : str
        Name of its file.
    photographs, patients : int
        Rows and distinct patients.
    ready : int
        Photographs that a run would open: with consent, a unique photo id, and a file inside the folder.
    views : dict
        View, or ``not stated`` → photographs.
    no_consent, uneven_consent : tuple of int
        Lines without a word that means yes; and those of them whose patient has a yes in another row. All photographs
        of these patients are held back.
    held_by_consent : int
        Photographs that are held back for want of consent.
    missing, outside, masks_missing, duplicates : tuple of int
        Lines whose file is missing; whose path leads out of the folder; whose mask is missing; with a repeated id.
    ignored : tuple of (str, str or None)
        Further columns, each with the column that it probably means.
    remarks : tuple of str
        Possible mistakes that do not stop a run.
    stops : tuple of str
        Faults that stop a run.
    """

    sheet: str
    photographs: int
    patients: int
    ready: int
    views: Mapping[str, int]
    no_consent: tuple[int, ...]
    uneven_consent: tuple[int, ...]
    held_by_consent: int
    missing: tuple[int, ...]
    outside: tuple[int, ...]
    masks_missing: tuple[int, ...]
    duplicates: tuple[int, ...]
    ignored: tuple[tuple[str, str | None], ...]
    remarks: tuple[str, ...]
    stops: tuple[str, ...]


def preview(sheet: Path | str | Sheet, rules: Mapping[str, Mapping] | None = None) -> Preview:
    """Count what a run would do with a sheet.

    Parameters
    ----------
    sheet : path or Sheet
        See :func:`deidlib.intake.cohort.read_sheet`.
    rules : mapping, optional
        ``release.columns`` of the config. Cells that it releases are screened; columns that it names are not suspected.

    Raises
    ------
    deidlib.intake.sheet.CohortError
        The sheet cannot be read as a table.
    deidlib.intake.contents.ContentError
        The network share with the photographs is gone.
    """
    opened = sheet if isinstance(sheet, Sheet) else open_sheet(sheet, rules)
    path, cells, row, photos, masks = opened.path, opened.cells, opened.row, opened.photos, opened.masks
    states = contents.states(photos)
    mask_states = dict(zip(masks, contents.states(list(masks.values())), strict=True))
    patients, photo_ids = cells["patient_id"].to_pylist(), cells["photo_id"].to_pylist()
    consent = cells["consent"].to_pylist()
    refused = without_consent(zip(patients, consent, strict=True))
    repeated = {one for one, n in Counter(photo_ids).items() if n > 1}
    held = np.array([patient in refused for patient in patients], bool)
    missing = np.array([state == contents.MISSING for state in states], bool)
    outside = np.array([state == contents.OUTSIDE for state in states], bool)
    double = np.array([photo in repeated for photo in photo_ids], bool)
    known = load_schema("samples")["properties"]
    no_mask = [at for at, state in mask_states.items() if state in (contents.MISSING, contents.OUTSIDE)]
    return Preview(
        sheet=path.name,
        photographs=len(row),
        patients=len(set(patients)),
        ready=int((~(held | missing | outside | double)).sum()),
        views=dict(sorted(Counter(view or "not stated" for view in cells["view"].to_pylist()).items())),
        no_consent=_lines(row, [at for at, cell in enumerate(consent) if not agrees(cell)]),
        uneven_consent=_lines(row, faults.uneven_consent(cells)),
        held_by_consent=int(held.sum()),
        missing=_lines(row, np.flatnonzero(missing)),
        outside=_lines(row, np.flatnonzero(outside)),
        masks_missing=_lines(row, sorted(no_mask)),
        duplicates=_lines(row, np.flatnonzero(double)),
        ignored=tuple((name, meant(name)) for name in cells if name not in known and name not in opened.rules),
        remarks=tuple(_remarks(path, cells, row, np.flatnonzero(missing | outside))),
        stops=tuple(map(str, opened.faults)),
    )


def in_words(found: Preview) -> str:
    """Preview as lines for a terminal or a log.

    Parameters
    ----------
    found : Preview
        From :func:`preview`.
    """
    text = [
        f"{found.sheet}: {_count(found.photographs, 'photograph')} of {_count(found.patients, 'patient')}, "
        f"{found.ready} ready to be de-identified",
        "view: " + ", ".join(f"{view} {n}" for view, n in found.views.items()),
    ]
    if found.no_consent:
        text.append(
            f"no consent: {_count(found.held_by_consent, 'photograph')} held back; a word that means yes "
            f"(yes, true, 1, y) is missing in {lines(found.no_consent)}"
        )
    if found.uneven_consent:
        text.append(
            f"consent differs between a patient's rows, and one no counts for all: see {lines(found.uneven_consent)}"
        )
    for words, at in (
        ("no file at this path", found.missing),
        ("the path leaves the sheet's folder", found.outside),
        ("no mask at this path", found.masks_missing),
        ("another row has the same photo_id", found.duplicates),
    ):
        if at:
            text.append(f"{words}: {lines(at)} (held back)")
    for name, column in found.ignored:
        guess = f"; was {column} meant?" if column else ""
        text.append(f"column {name}: not used and not released{guess}")
    text += found.remarks
    if found.stops:
        text += ["THIS STOPS THE RUN:", *(f"{found.sheet}, {stop}" for stop in found.stops[:MAX_FAULTS_SHOWN])]
        more = len(found.stops) - MAX_FAULTS_SHOWN
        text += [f"… and {more} more"] if more > 0 else []
    return "\n  ".join(["preview of the sample sheet", *text])


def _remarks(path: Path, cells: Mapping[str, pa.Array], row: np.ndarray, unfound: np.ndarray) -> list[str]:
    remarks = _of_consent(cells["consent"].to_pylist(), row) + _of_paths(
        path.parent, cells["path"].to_pylist(), row, unfound
    )
    photos_of = Counter(cells["patient_id"].to_pylist())
    for patient, n in photos_of.most_common(3):
        if n > _MANY_PHOTOS and len(photos_of) > 1:
            first = cells["patient_id"].to_pylist().index(patient)
            remarks.append(f"line {row[first]}: {n} photographs have this patient id; is it one patient's?")
    distinct: dict[str, str] = {}
    alike = [
        at
        for at, photo in enumerate(cells["photo_id"].to_pylist())
        if distinct.setdefault(re.sub(r"[\W_]", "", plain(photo)), photo) != photo
    ]
    if alike:
        remarks.append(
            f"photo ids that differ from another one only in case or punctuation: {lines(_lines(row, alike))}"
        )
    if path.suffix.lower() in workbook.SUFFIXES:
        remarks += workbook.read_workbook(path)[3]
    return remarks


def _of_consent(consent: Sequence[str | None], row: np.ndarray) -> list[str]:
    words = [plain(cell or "").strip() for cell in consent]
    yes = [at for at, (word, cell) in enumerate(zip(words, consent, strict=True)) if word in _YES and not agrees(cell)]
    strange = [
        at
        for at, (word, cell) in enumerate(zip(words, consent, strict=True))
        if word and not agrees(cell) and word not in _YES and word not in _NO
    ]
    remarks = []
    if yes:
        remarks.append(f"consent may mean yes, but counts as no without the word yes: {lines(_lines(row, yes))}")
    if strange:
        remarks.append(f"consent is neither yes nor no, and counts as no: {lines(_lines(row, strange))}")
    return remarks


def _of_paths(folder: Path, paths: Sequence[str], row: np.ndarray, unfound: np.ndarray) -> list[str]:
    """Why files may be missing, and how paths were read."""
    kinds: dict[str, list[int]] = {}
    here: dict[str, dict[str, str]] = {}
    gone = set(unfound.tolist())
    for at, path in enumerate(paths):
        if at not in gone:
            if not path.isascii() or "\\" in path:
                used = next((one for one in spellings(path) if os.path.lexists(folder / one)), path)
                if used != path:
                    kinds.setdefault(
                        "paths are read with / for \\" if "\\" in path else "names are found in Unicode's other form",
                        [],
                    ).append(at)
        elif re.match(r"[a-z]:|[/\\]", path, re.IGNORECASE):
            kinds.setdefault("paths must be relative to the sheet's folder, without drive or leading /", []).append(at)
        elif ".." in re.split(r"[/\\]", path):
            kinds.setdefault("paths must not lead upwards (..)", []).append(at)
        elif len(here) < _FOLDERS_LISTED and _differs_in_case(folder, path, here):
            kinds.setdefault("a file exists whose name differs in case, form or ending", []).append(at)
    return [f"{words}: {lines(_lines(row, places))}" for words, places in kinds.items()]


def _differs_in_case(folder: Path, path: str, here: dict[str, dict[str, str]]) -> bool:
    parent, _, name = path.replace("\\", "/").rpartition("/")
    if parent not in here:
        try:
            here[parent] = {_stem(one): one for one in os.listdir(folder / parent)}
        except OSError:
            here[parent] = {}
    return _stem(name) in here[parent]


def _stem(name: str) -> str:
    return os.path.splitext(unicodedata.normalize("NFKC", name).casefold())[0]


def _lines(row: np.ndarray, places: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    return tuple(int(row[at]) for at in places)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
