"""Consent is given by a patient: every row of the patient must state it, by one of four words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deidlib.intake.sheet import read_cells

#: The words that mean yes, in any case. Every other cell, and an empty one, means no.
WORDS = frozenset({"yes", "true", "1", "y"})


def agrees(cell: str | None) -> bool:
    """Whether a cell of the column ``consent`` says yes."""
    return (cell or "").strip().lower() in WORDS


def without_consent(rows: Iterable[tuple[str, str | None]]) -> set[str]:
    """Patients who have at least one row that does not say yes.

    Parameters
    ----------
    rows : iterable of (patient_id, consent)
        All rows of the sheet.
    """
    return {patient for patient, cell in rows if not agrees(cell)}


def consented(sheet: Path) -> set[tuple[str, str]]:
    """Read for which photographs the sheet gives consent at this moment.

    Parameters
    ----------
    sheet : Path
        The sample sheet; its photographs are not opened.

    Returns
    -------
    set of (patient_id, photo_id)
        All rows of the patients who have a yes in every row.

    Raises
    ------
    deidlib.intake.sheet.CohortError
        The sheet cannot be read.
    """
    cells, _ = read_cells(Path(sheet))
    patients, photos = cells["patient_id"].to_pylist(), cells["photo_id"].to_pylist()
    refused = without_consent(zip(patients, cells["consent"].to_pylist(), strict=True))
    return {pair for pair in zip(patients, photos, strict=True) if pair[0] not in refused}
