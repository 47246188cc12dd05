"""What the released faces still show of columns that were generalised or emptied in the table.

A new face has the sex that the sheet records and about the patient's age, since the mouth has to fit. So a cell that is
emptied for k-anonymity can still be read from the picture: the table's k is not the whole risk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.columns.generalise import records

#: Columns that a generated face shows.
SHOWN = ("age", "sex")
#: Cells of ``sex`` that faces are drawn for; another one is not seen.
_SEXES = ("F", "M")
_PATIENT = "release_patient_id"


def shown_by_faces(
    before: pa.Table, after: pa.Table, names: list[str], faces: Collection[str]
) -> dict[str, Any] | None:
    """Highest risk of the table if an attacker also reads generalised or emptied cells from the faces.

    It is an upper bound: the recorded cell is assumed to show in the face (sex exactly, age to about a decade).

    Parameters
    ----------
    before, after : Table
        The index as it came, and as it is released: the same rows.
    names : list of str
        Its quasi-identifiers.
    faces : collection of str
        Patients (``release_patient_id``) who have a photograph with a generated face.

    Returns
    -------
    dict or None
        ``columns``: ``[{column, cells, classes}]``, of each changed column the number of cells and, for the sex, which
        ones; ``k``, ``unique_patients`` and ``prosecutor_max`` as in the risk of the table. None where the faces show
        nothing that the table lacks.
    """
    seen = pc.is_in(before[_PATIENT], pa.array(list(faces), before.schema.field(_PATIENT).type)).to_numpy()
    frame = pd.DataFrame({name: pd.Series(after[name].to_pylist(), dtype=object) for name in [_PATIENT, *names]})
    columns = []
    for name in (name for name in SHOWN if name in names):
        was, now = (np.array(table[name].to_pylist(), object) for table in (before, after))
        shown = seen & (was != now) & (np.isin(was.astype(str), _SEXES) if name == "sex" else was != None)  # noqa: E711
        if not shown.any():
            continue
        frame[name] = np.where(shown, was, now)
        classes = sorted(set(was[shown])) if name == "sex" else []
        columns.append({"column": name, "cells": int(shown.sum()), "classes": classes})
    if not columns:
        return None
    sizes = records(frame, names).groupby(names)[_PATIENT].transform("size").to_numpy()
    return {
        "columns": columns,
        "k": int(sizes.min()),
        "unique_patients": int((sizes == 1).sum()),
        "prosecutor_max": round(1 / float(sizes.min()), 6),
    }


def words(shown: Mapping[str, Any]) -> str:
    """What the faces show, and the resulting risk, in words."""
    parts = []
    for entry in shown["columns"]:
        what = f"sex {' and '.join(entry['classes'])}" if entry["classes"] else f"{entry['column']}, about to a decade"
        parts.append(f"`{entry['column']}` ({what}; {entry['cells']} cells)")
    people = "1 patient shares" if shown["k"] == 1 else f"{shown['k']} patients share"
    return (
        f"Made coarser or emptied in the table, still visible in the face: {', '.join(parts)}. Who reads these off the "
        f"pictures as well is not held up by the table: at worst {people} the rarest record (risk "
        f"{shown['prosecutor_max']:.0%}), and {shown['unique_patients']} of the patients stand alone."
    )
