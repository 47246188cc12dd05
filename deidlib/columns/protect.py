"""k-anonymity of a release's index: it is written so that k holds, and states its k, which every recipient can measure.

The measure is pycanon's (Sáinz-Pardo Díaz and López García 2022).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pycanon import anonymity

from deidlib.columns import faces
from deidlib.columns import rules as columns
from deidlib.columns.generalise import Choice, choose, records
from deidlib.contract.routes import GENERATE
from deidlib.errors import ReleaseError

#: Key of the index's k-anonymity claim: JSON in the metadata of its schema.
CLAIM_KEY = b"deidlib.k_anonymity"
_PATIENT = "release_patient_id"


@dataclass(frozen=True)
class Protected:
    """An index as it may be released.

    Attributes
    ----------
    index : Table
        The index, with its claim in the schema's metadata.
    choice : Choice or None
        How cells were rewritten (private: it names rare categories); None where there is no quasi-identifier.
    before : dict
        ``k`` and ``unique_patients`` of the index as it came; None where there is no quasi-identifier.
    shown : dict or None
        What the faces show of it nevertheless (:func:`deidlib.columns.faces.shown_by_faces`).
    """

    index: pa.Table
    choice: Choice | None
    before: dict[str, int | None]
    shown: dict[str, Any] | None = None


def quasi_identifiers(index: pa.Table, config: Mapping) -> list[str]:
    """Declared quasi-identifiers that the index holds.

    Raises
    ------
    ReleaseError
        One is neither in the index nor excluded by the config. It may be misspelt, and would then not be protected.
    """
    declared = config["release"]["quasi_identifiers"]
    known = {*index.schema.names, *columns.rules_of(config), *columns.STANDARD}
    if unknown := [name for name in declared if name not in known]:
        raise ReleaseError(
            f"release.quasi_identifiers: {unknown[0]} is no column of the sheet that release.columns names; correct "
            "or remove it"
        )
    return [name for name in declared if name in index.schema.names]


def protect(index: pa.Table, config: Mapping) -> Protected:
    """Generalise and suppress the quasi-identifiers of an index until k holds over patients.

    Parameters
    ----------
    index : Table
        Columns as ``release.columns`` lets them through, ``release_patient_id`` and ``route`` among them.
    config : mapping
        ``config["release"]``: ``k``, ``quasi_identifiers``, ``columns``.

    Returns
    -------
    Protected
        Rows and columns keep their order; where a cohort has fewer than k patients, the quasi-identifiers are empty.
    """
    names, k = quasi_identifiers(index, config), config["release"]["k"]
    choice, changes, came = None, [], index
    before = _sizes_in(index, names) if names else []
    if names and index.num_rows:
        rules = columns.rules_of(config)
        frame = _frame(index, names)
        choice = choose(frame, {name: _rule(rules.get(name, "keep")) for name in names}, k)
        for name in names:
            index, change = _rewritten(index, name, choice)
            changes += change
    said = {"k": k if names else None, "quasi_identifiers": names, "changes": changes}
    text = json.dumps(said, sort_keys=True).encode()
    return Protected(
        index.replace_schema_metadata({**(index.schema.metadata or {}), CLAIM_KEY: text}),
        choice,
        {
            "k": int(before.min()) if len(before) else None,
            "unique_patients": int((before == 1).sum()) if len(before) else None,
        },
        faces.shown_by_faces(came, index, names, _with_faces(index)) if choice is not None else None,
    )


def claim(index: pa.Table) -> dict[str, Any] | None:
    """The claim of an index: ``k, quasi_identifiers, changes``; None if it has none.

    ``k`` is None where the index has no quasi-identifier: nothing is claimed then.
    """
    try:
        said = json.loads((index.schema.metadata or {})[CLAIM_KEY])
        names = said["quasi_identifiers"]
        whole = all(isinstance(name, str) for name in names)
        whole &= isinstance(said["k"], int) or (said["k"] is None and not names)
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    return said if whole else None


def claimed_k(index: pa.Table) -> int | None:
    """The k that an index claims to keep; None where it claims none."""
    said = claim(index)
    return None if said is None else said["k"]


def measured_k(index: pa.Table) -> int | None:
    """Patients that share the rarest record of the quasi-identifiers that the index itself declares.

    None if it declares none, or if these columns are all empty and so distinguish nobody.
    """
    said = claim(index)
    if said is None or not index.num_rows or not said["quasi_identifiers"]:
        return None
    if not set(said["quasi_identifiers"]) <= set(index.schema.names):
        return None
    if all(index[name].null_count == index.num_rows for name in said["quasi_identifiers"]):
        return None
    return _k(index, said["quasi_identifiers"])


def k_problems(index: pa.Table) -> list[str]:
    """Faults of an index's claim, for ``deidlib verify``; empty if the claim holds."""
    said = claim(index)
    if said is None:
        return ["does not say which k-anonymity it keeps"]
    if missing := sorted(set(said["quasi_identifiers"]) - set(index.schema.names)):
        return [f"declares the quasi-identifier {name}, which it does not have" for name in missing]
    k = measured_k(index)
    if k is not None and k < said["k"]:
        return [f"claims {said['k']}-anonymity over {', '.join(said['quasi_identifiers'])}, but has k = {k}"]
    return []


def _with_faces(index: pa.Table) -> set[str]:
    """Patients who have a photograph with a generated face."""
    patients, routes = index[_PATIENT].to_pylist(), index["route"].to_pylist()
    return {patient for patient, route in zip(patients, routes, strict=True) if route == GENERATE}


def _rule(options: Any) -> tuple[str, int | None]:
    return (options["rule"], options.get("width")) if isinstance(options, Mapping) else (options, None)


def _frame(index: pa.Table, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(index[name].to_pylist(), dtype=object) for name in [_PATIENT, *names]})


def records_of(index: pa.Table, names: list[str]) -> pd.DataFrame:
    """Records of an index; with a column that is the same for all, since pycanon groups by at least one."""
    return records(_frame(index, names), names).assign(everybody="")


def grouping(names: list[str]) -> list[str]:
    """Columns by which :func:`records_of` is grouped."""
    return [*names, "everybody"]


def record_sizes(frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    """How many patients share each patient's record, (P,)."""
    return frame.groupby(grouping(names))[_PATIENT].transform("size").to_numpy()


def _sizes_in(index: pa.Table, names: list[str]):
    return record_sizes(records_of(index, names), names)


def _k(index: pa.Table, names: list[str]) -> int:
    return int(anonymity.k_anonymity(records_of(index, names), grouping(names)))


def _rewritten(index: pa.Table, name: str, choice: Choice) -> tuple[pa.Table, list[dict]]:
    place, field = index.schema.get_field_index(name), index.schema.field(name)
    patients, old = index[_PATIENT].to_pylist(), index[name].to_pylist()
    new = [choice.cell(name, cell, patient) for cell, patient in zip(old, patients, strict=True)]
    coarser = sum(b is not None and a != b for a, b in zip(old, new, strict=True))
    emptied = sum(a is not None and b is None for a, b in zip(old, new, strict=True))
    change = choice.levels[name].change
    changes = [{"column": name, "change": change, "cells": coarser}] if coarser else []
    changes += [{"column": name, "change": "suppressed", "cells": emptied}] if emptied else []
    if changes:
        words = "; ".join(entry["change"] for entry in changes)
        text = (field.metadata or {}).get(b"description", name.encode()).decode()
        field = field.with_metadata({**(field.metadata or {}), b"description": f"{text}; for k-anonymity {words}"})
    return index.set_column(place, field, pa.array(new, pa.string())), changes
