"""Disclosure risk of the released columns, without the images: k-anonymity, l-diversity, t-closeness.

The measures are pycanon's (Sáinz-Pardo Díaz and López García 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
from pycanon import anonymity

from deidlib.columns import faces
from deidlib.columns import rules as columns
from deidlib.columns.generalise import records
from deidlib.columns.protect import claim, grouping, k_problems, protect, quasi_identifiers, record_sizes, records_of
from deidlib.errors import ReleaseError
from deidlib.outcomes.outcomes import Outcome

_PATIENT = "release_patient_id"


def table_risk(
    index: pa.Table,
    config: Mapping,
    population: pd.DataFrame | None = None,
    before: Mapping | None = None,
    shown: Mapping | None = None,
) -> dict[str, Any]:
    """Measure the disclosure risk of the released columns.

    Parameters
    ----------
    index : Table
        A release's index, or what :func:`protect` gave.
    config : mapping
        ``config["release"]``: ``k`` and ``sensitive``.
    population : DataFrame, optional
        The people whom the attacker takes into account, their quasi-identifiers written as in the index: ``records``
        of all patients of the sheet. Without it the journalist's risk is not known.
    before : mapping, optional
        What :func:`protect` found before its changes.
    shown : mapping, optional
        What the faces show nevertheless (:attr:`Protected.shown`).

    Returns
    -------
    dict
        The entry ``table_risk`` of ``attacks.json``. Without a quasi-identifier nothing is judged: ``k`` and all that
        rests on it is None.
    """
    said = claim(index) or {"quasi_identifiers": quasi_identifiers(index, config), "changes": []}
    names = said["quasi_identifiers"]
    sensitive = [name for name in config["release"]["sensitive"] if name in index.schema.names and name not in names]
    frame = records_of(index, [*names, *sensitive])
    sizes = record_sizes(frame, names)
    judged = bool(len(sizes) and names)
    measured = judged and bool(sensitive)
    return {
        "quasi_identifiers": names,
        "sensitive": sensitive,
        "k": int(sizes.min()) if judged else None,
        "k_required": config["release"]["k"] if names else None,
        "l": int(anonymity.l_diversity(frame, grouping(names), sensitive)) if measured else None,
        "t": _finite(anonymity.t_closeness(frame, grouping(names), sensitive)) if measured else None,
        "unique_patients": int((sizes == 1).sum()) if judged else None,
        "prosecutor_max": _finite(1 / float(sizes.min())) if judged else None,
        "prosecutor_mean": _finite((1 / sizes).mean()) if judged else None,
        "journalist_max": _journalist(frame, population, names) if judged else None,
        "patients": len(frame),
        "changes": said["changes"],
        "before": before,
        "shown_by_faces": shown,
        "kept": not k_problems(index),
        "note": _note(frame, names, sensitive, config["release"]["k"], population, shown),
    }


def would_be_table(outcomes: Iterable[Outcome], config: Mapping) -> tuple[pa.Table, pd.DataFrame]:
    """Index columns of what would be released, not yet protected, and the same cells of every patient of the sheet.

    Returns
    -------
    index : Table
        ``release_photo_id, release_patient_id, route`` and the sheet's columns.
    everybody : DataFrame
        ``release_patient_id`` and the quasi-identifiers, a row a photograph, released or not; rows that hold a cell
        which may not be released are left out.
    """
    rules = columns.rules_of(config)
    photos = [(o.photo, o.attempt is not None, (o.region or {}).get("route")) for o in outcomes]
    first = columns.first_dates((photo for photo, released, _ in photos if released), rules)
    rows, everybody = [], []
    for photo, released, route in photos:
        who = {"release_photo_id": photo["release_photo_id"], _PATIENT: photo[_PATIENT], "route": route}
        try:
            cells = columns.sheet_values(photo, rules, first)
        except ReleaseError:
            if released:
                raise
            continue
        everybody.append(who | cells)
        if released:
            rows.append(who | cells)
    names = ["release_photo_id", _PATIENT, "route", "view", "timepoint"]
    schema = pa.schema([*((name, pa.string()) for name in names), *columns.extra_schema(rules)])
    return pa.Table.from_pylist(rows, schema=schema), pd.DataFrame(everybody, columns=schema.names)


def outcomes_risk(outcomes: Iterable[Outcome], config: Mapping) -> dict[str, Any]:
    """:func:`table_risk` of what would be released, with the sheet's patients as the population."""
    index, everybody = would_be_table(outcomes, config)
    protected = protect(index, config)
    names = quasi_identifiers(index, config)
    if protected.choice is not None:
        for name in names:
            cells = everybody[name].astype(object).where(everybody[name].notna(), None)
            everybody[name] = [protected.choice.cell(name, cell) for cell in cells]
    return table_risk(protected.index, config, records(everybody, names), protected.before, protected.shown)


def _finite(value: float) -> float | None:
    """Six decimals of a measure; None where it could not be computed."""
    return round(float(value), 6) if math.isfinite(value) else None


def _journalist(frame: pd.DataFrame, population: pd.DataFrame | None, names: list[str]) -> float | None:
    """Highest risk if the attacker does not know who of the population was released."""
    if population is None or not len(frame):
        return None
    stated = frame[(frame[names] != "").any(axis=1)]
    if not len(stated):
        return round(1 / len(population), 6)
    sizes = population.groupby(names).size().rename("size").reset_index()
    found = stated.merge(sizes, on=names, how="left")["size"]
    least = min(found.fillna(1).min(), len(population))
    return round(1 / float(least), 6)


def _note(frame: pd.DataFrame, names: list[str], sensitive: list[str], k: int, population, shown) -> str:
    if not names:
        return (
            "No released column is a declared quasi-identifier (release.quasi_identifiers), so k is not judged and "
            "none is claimed. View, time point and other released columns may still single a patient out."
        )
    if not len(frame):
        return "Nothing would be released."
    words = [
        "A patient's record is the set of cells of all the patient's photographs, and an empty cell counts as a value. "
        "k is the number of patients that share the rarest record. Somebody who knows that a person is in the release, "
        f"and that person's {' and '.join(names)}, cannot tell at least that many patients apart. The prosecutor's "
        "risk is 1 over the number of patients that share a record: its maximum and its mean are given."
    ]
    if (frame[names] == "").all().all():
        words.append(
            f"No combination of classes is shared by {k} patients without emptying these columns: they are empty."
        )
    if len(frame) < k:
        words.append(f"The release holds {len(frame)} patients, fewer than k = {k}.")
    if population is not None:
        words.append(
            f"The journalist does not know which of the sheet's {len(population):,} patients were released, and so "
            "cannot tell apart all of them who fit."
        )
    if not sensitive:
        words.append(
            "No declared sensitive column is released, so l-diversity and t-closeness have nothing to measure."
        )
    if shown:
        words.append(faces.words(shown))
    return " ".join(words)
