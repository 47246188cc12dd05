"""Disclosure risk of the released columns, without the images: k-anonymity, l-diversity, t-closeness.

The release's index is written so that k holds (:func:`protect`). It states its k, and every recipient can measure it
again (:func:`measured_k`). The measures are pycanon's (Sáinz-Pardo Díaz and López García 2022).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from pycanon import anonymity

from deidlib.columns import faces
from deidlib.columns import rules as columns
from deidlib.columns.generalise import Choice, choose, records
from deidlib.contract.routes import GENERATE
from deidlib.errors import ReleaseError
from deidlib.outcomes.outcomes import Outcome

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
    before = _record_sizes(index, names) if names else []
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
        return [f"declares the quasi-identifier {name}, which it has not" for name in missing]
    k = measured_k(index)
    if k is not None and k < said["k"]:
        return [f"claims {said['k']}-anonymity over {', '.join(said['quasi_identifiers'])}, but has k = {k}"]
    return []


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
    frame = _patients(index, [*names, *sensitive])
    sizes = _sizes(frame, names)
    judged = bool(len(sizes) and names)
    measured = judged and bool(sensitive)
    return {
        "quasi_identifiers": names,
        "sensitive": sensitive,
        "k": int(sizes.min()) if judged else None,
        "k_required": config["release"]["k"] if names else None,
        "l": int(anonymity.l_diversity(frame, _by(names), sensitive)) if measured else None,
        "t": _finite(anonymity.t_closeness(frame, _by(names), sensitive)) if measured else None,
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


def _with_faces(index: pa.Table) -> set[str]:
    """Patients who have a photograph with a generated face."""
    patients, routes = index[_PATIENT].to_pylist(), index["route"].to_pylist()
    return {patient for patient, route in zip(patients, routes, strict=True) if route == GENERATE}


def _finite(value: float) -> float | None:
    """Six decimals of a measure; None where it could not be computed."""
    return round(float(value), 6) if math.isfinite(value) else None


def _rule(options: Any) -> tuple[str, int | None]:
    return (options["rule"], options.get("width")) if isinstance(options, Mapping) else (options, None)


def _frame(index: pa.Table, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(index[name].to_pylist(), dtype=object) for name in [_PATIENT, *names]})


def _patients(index: pa.Table, names: list[str]) -> pd.DataFrame:
    """Records of an index; with a column that is the same for all, since pycanon groups by at least one."""
    return records(_frame(index, names), names).assign(everybody="")


def _by(names: list[str]) -> list[str]:
    return [*names, "everybody"]


def _sizes(frame: pd.DataFrame, names: list[str]):
    """How many patients share each patient's record, (P,)."""
    return frame.groupby(_by(names))[_PATIENT].transform("size").to_numpy()


def _record_sizes(index: pa.Table, names: list[str]):
    return _sizes(_patients(index, names), names)


def _k(index: pa.Table, names: list[str]) -> int:
    return int(anonymity.k_anonymity(_patients(index, names), _by(names)))


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


def _journalist(frame: pd.DataFrame, population: pd.DataFrame | None, names: list[str]) -> float | None:
    """Highest risk if the attacker does not know who of the population was released."""
    if population is None or not len(frame):
        return None
    told = frame[(frame[names] != "").any(axis=1)]
    if not len(told):
        return round(1 / len(population), 6)
    sizes = population.groupby(names).size().rename("size").reset_index()
    found = told.merge(sizes, on=names, how="left")["size"]
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
        f"k is the number of patients that share the rarest record: who knows that somebody is in the release, and "
        f"that person's {' and '.join(names)}, is left with at least that many patients. The prosecutor's risk is 1 "
        "over that number, at most and on average."
    ]
    if (frame[names] == "").all().all():
        words.append(
            f"No combination of classes is shared by {k} patients without emptying these columns: they are empty."
        )
    if len(frame) < k:
        words.append(f"The release holds {len(frame)} patients, fewer than k = {k}.")
    if population is not None:
        words.append(
            f"The journalist, who does not know who of the sheet's {len(population):,} patients was released, is left "
            "with all of them that fit."
        )
    if not sensitive:
        words.append(
            "No declared sensitive column is released, so l-diversity and t-closeness have nothing to measure."
        )
    if shown:
        words.append(faces.words(shown))
    return " ".join(words)
