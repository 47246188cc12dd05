"""The cohort: the sample sheet read and checked whole, and its patients dealt to shards.

Faults of the sheet itself (a missing column, an empty id, an unknown view) stop everything before any job,
because the rows cannot be read with certainty. Faults of one photograph (no file, no consent, a duplicate id)
are left to intake, which quarantines that photograph alone. No message holds the content of a cell.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib import keys
from deidlib.intake import contents
from deidlib.intake.consent import without_consent
from deidlib.intake.sheet import MAX_FAULTS_SHOWN, CohortError, read_cells, refuse
from deidlib.intake.views import view_of
from deidlib.schema import load_schema
from deidlib.storage import tables
from deidlib.storage.atomic import write_file
from deidlib.storage.results import Results, stage_table

PHOTOS_PER_SHARD = 200
#: Small cohorts: so many shards at most, of so many photographs, for the cores of a workstation.
_FEW_SHARDS, _FEW_PHOTOS = 8, 25
#: The workflow's own cost grows with the number of shards: beyond this many they grow instead …
_MANY_SHARDS = 1000
#: … up to this many photographs each, since a shard is what one job does, and what is lost with it.
_MOST_PHOTOS = 1000
#: Keywords that pyarrow evaluates on a whole column as JSON schema would on each cell.
_COLUMN_KEYWORDS = {"type", "minLength", "maxLength", "not", "description", "mend"}
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?", re.ASCII)
_JSON_ROWS = 65536


def read_sheet(
    path: Path | str, known: contents.Known | None = None, progress: Callable[[], object] | None = None
) -> pa.Table:
    """Read and check a sample sheet, and read its photographs and masks for what they hold.

    Parameters
    ----------
    path : path
        TSV (.tsv, .tab) or CSV (comma, semicolon or tab, whichever gives the header most columns); UTF-8 with
        or without BOM. Cells are text without the blanks around them ("007" stays "007"); ids are brought to
        Unicode's NFC form. Rows without any cell are left out.
    known : mutable mapping, optional
        What an earlier plan read of the files (:func:`deidlib.intake.contents.digests`); brought up to date.
    progress : callable, optional
        Called once a file.

    Returns
    -------
    pa.Table
        tables.COHORT in the sheet's order; ``row`` is the sheet's line, the header being line 1.

    Raises
    ------
    CohortError
        Lists at most 20 faults with file, line, column and mend.
    deidlib.intake.contents.ContentError
        A photograph or mask is there and cannot be read.
    """
    path = Path(path)
    cells, row = read_cells(path)
    cells["view"] = pa.array([view_of(view) for view in cells["view"].to_pylist()], pa.string())
    rules = load_schema("samples")["properties"]
    faulty = sorted((int(at), name) for name in rules for at in np.flatnonzero(faulty_cells(cells[name], rules[name])))
    if faulty:
        shown = [
            f"line {row[at]}, column {name}: {_mend(rules[name], cells[name][at].as_py())}"
            for at, name in faulty[:MAX_FAULTS_SHOWN]
        ]
        refuse(path, shown, len(faulty))
    further = sorted(set(cells) - set(rules))
    distinct = pc.value_counts(cells["photo_id"])
    repeated = distinct.field("values").filter(pc.greater(distinct.field("counts"), 1))
    columns = {name: cells[name] for name in rules}
    columns["consent"] = _consent(cells)
    columns["row"] = pa.array(row, pa.int64())
    columns["age"] = pa.array([None if age is None else float(age) for age in cells["age"].to_pylist()], pa.float64())
    columns["columns"] = _as_json({name: cells[name] for name in further}, len(row))
    columns["duplicate"] = pc.is_in(cells["photo_id"], value_set=repeated)
    photos, masks = _files(path.parent, cells)
    held = contents.digests([*photos, *masks.values()], {} if known is None else known, progress)
    of_masks = dict(zip(masks, held[len(photos) :], strict=True))
    prints = [f"{print_}|{of_masks[at]}" if at in of_masks else print_ for at, print_ in enumerate(held[: len(photos)])]
    columns["fingerprint"] = pa.array(prints, pa.string())
    return pa.table([columns[name] for name in tables.COHORT.names], schema=tables.COHORT)


def sheet_state(path: Path | str) -> str:
    """Digest of the sheet's content and of its files' states: where it is the former one, the plan is up to date.

    Parameters
    ----------
    path : path
        See :func:`read_sheet`; the photographs are looked for and not read.

    Raises
    ------
    CohortError
        Text, header or shape of the sheet are wrong.
    deidlib.intake.contents.ContentError
        The share of the photographs is gone.
    """
    path = Path(path)
    cells, _ = read_cells(path)
    photos, masks = _files(path.parent, cells)
    digest = hashlib.sha256(path.read_bytes())
    for state in contents.states([*photos, *masks.values()]):
        digest.update(state.encode() + b"\n")
    return digest.hexdigest()


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


def resolve_inside(folder: str, path: str, parents: dict[str, str | None]) -> str | None:
    """Real path of a sheet's file, or None where it leaves the sheet's folder.

    Parameters
    ----------
    folder : str
        Real path of the sheet's folder.
    path : str
        Path relative to it. Absolute paths, ``..`` and symbolic links that lead outside give None.
    parents : dict
        Cache of resolved parent folders; pass the same one for all paths of a folder.
    """
    if path.startswith("/") or ".." in path.split("/"):
        return None
    parent, _, name = path.rpartition("/")
    if parent not in parents:
        real = os.path.realpath(os.path.join(folder, parent))
        parents[parent] = real if _within(folder, real) else None
    if parents[parent] is None:
        return None
    full = os.path.join(parents[parent], name)
    if os.path.islink(full):
        full = os.path.realpath(full)
    return full if _within(folder, full) else None


def default_shards(n_photos: int) -> int:
    """Return the number of shards: up to 8 of 25 photographs, then of 200, in a large cohort of up to 1 000."""
    few = min(math.ceil(n_photos / PHOTOS_PER_SHARD), _MANY_SHARDS)
    return max(1, min(math.ceil(n_photos / _FEW_PHOTOS), _FEW_SHARDS), few, math.ceil(n_photos / _MOST_PHOTOS))


def plan_shards(table: pa.Table, key: bytes, n_shards: int) -> dict[str, pa.Table]:
    """Deal patients to shards.

    Parameters
    ----------
    table : pa.Table
        tables.COHORT.
    key : bytes
        The secret key: a patient's shard depends on it, the patient and n_shards alone.
    n_shards : int
        Number of shards.

    Returns
    -------
    dict of str to pa.Table
        All n_shards shards ("s0000", …), also those without photographs; rows ordered by patient, photo and
        line, so that the order of the sheet's rows does not matter.
    """
    patients = table["patient_id"].combine_chunks().dictionary_encode()
    shard_of_patient = np.array(
        [keys.shard_of(key, patient, n_shards) for patient in patients.dictionary.to_pylist()], np.int64
    )
    shard = shard_of_patient[np.asarray(patients.indices)] if len(table) else np.empty(0, np.int64)
    dealt = table.append_column("shard", pa.array(shard, pa.int64())).sort_by(
        [("shard", "ascending"), ("patient_id", "ascending"), ("photo_id", "ascending"), ("row", "ascending")]
    )
    ends = np.searchsorted(np.asarray(dealt["shard"]), np.arange(n_shards + 1))
    dealt = dealt.drop_columns("shard").cast(tables.COHORT)
    return {f"s{i:04d}": dealt.slice(ends[i], ends[i + 1] - ends[i]) for i in range(n_shards)}


def pinned_shards(folder: Path | str) -> int | None:
    """Return the number of shards that an earlier plan in this private folder pinned, or None."""
    results = Results(Path(folder))
    for file in (results.pinned, results.plan):
        try:
            return int(json.loads(file.read_text())["n_shards"])
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            raise CohortError(f"{file.name} of the private folder is damaged; delete it and plan again") from None
    return None


def choose_shards(n_photos: int, folder: Path | str, asked: int | None = None) -> int:
    """Choose the number of shards: an earlier plan's, else what is asked for, else :func:`default_shards`.

    Raises
    ------
    CohortError
        Another number is asked for than the plan pinned.
    """
    pinned = pinned_shards(folder)
    if pinned and asked and pinned != asked:
        raise CohortError(
            f"shards: asked for {asked}, but these results were planned with {pinned}, and patients' "
            f"shards hang on it. Set shards to {pinned} or null, or name another results folder."
        )
    return pinned or asked or default_shards(n_photos)


def write_plan(shards: dict[str, pa.Table], folder: Path | str) -> list[str]:
    """Write the plan into the private folder (mode 0700 under any umask), touching only what changed.

    Writes ``shards/SHARD/cohort.parquet`` where its content changed, removes that of a shard without
    photographs, pins the number of shards, and last writes ``plan.json``: ``{"shards": [names that hold
    photographs], "cohorts": {name: SHA-256 of its cohort.parquet}, "n_photos", "n_shards"}``.

    Parameters
    ----------
    shards : dict of str to pa.Table
        Every shard, from :func:`plan_shards`.
    folder : path
        ``results/private``.

    Returns
    -------
    list of str
        Names of the shards whose cohort.parquet was written or removed.
    """
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    results = Results(folder)
    _write_json({"n_shards": len(shards)}, results.pinned)
    changed = []
    for name, table in shards.items():
        file = stage_table(results.shard(name), "cohort")
        if table.num_rows == 0 and file.exists():
            file.unlink()
        elif table.num_rows == 0 or _holds(file, table):
            continue
        else:
            tables.write(table, file, tables.COHORT)
        changed.append(name)
    plan = {
        "shards": [name for name, table in shards.items() if table.num_rows],
        "cohorts": {
            name: _sha256(stage_table(results.shard(name), "cohort")) for name, t in shards.items() if t.num_rows
        },
        "n_photos": sum(table.num_rows for table in shards.values()),
        "n_shards": len(shards),
    }
    _write_json(plan, results.plan)
    return changed


def _mend(rule: dict, cell: str | None) -> str:
    known = [value for value in rule.get("enum", []) if value]
    folded = {re.sub(r"[^a-z]", "", value.lower()): value for value in known}
    close = difflib.get_close_matches(re.sub(r"[^a-z]", "", (cell or "").lower()), list(folded), n=1, cutoff=0.7)
    return rule["mend"] + (f" (did you mean {folded[close[0]]}?)" if close else "")


def _number_or_text(cell: str | None) -> float | str | None:
    return float(cell) if cell is not None and _NUMBER.fullmatch(cell) else cell


def _as_json(columns: dict[str, pa.Array], n_rows: int) -> pa.Array:
    if not columns:
        return pa.array(["{}"] * n_rows, pa.string())
    parts = []
    for start in range(0, n_rows, _JSON_ROWS):
        rows = zip(*(column.slice(start, _JSON_ROWS).to_pylist() for column in columns.values()), strict=True)
        texts = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows]
        parts.append(pa.array(texts, pa.string()))
    return pa.concat_arrays(parts)


def _consent(cells: dict[str, pa.Array]) -> pa.Array:
    """``yes`` for the rows of patients whose every row says so, else ``no``."""
    patients = cells["patient_id"].to_pylist()
    refused = without_consent(zip(patients, cells["consent"].to_pylist(), strict=True))
    return pa.array(["no" if patient in refused else "yes" for patient in patients], pa.string())


def _files(folder: Path, cells: dict[str, pa.Array]) -> tuple[list[str | None], dict[int, str | None]]:
    """Real paths of the photographs, and of the masks by the number of their row."""
    real, parents = os.path.realpath(folder), {}
    photos = [resolve_inside(real, path, parents) for path in cells["path"].to_pylist()]
    masks = enumerate(cells["mask"].to_pylist())
    return photos, {at: resolve_inside(real, mask, parents) for at, mask in masks if mask is not None}


def _within(folder: str, file: str) -> bool:
    return file == folder or file.startswith(folder.rstrip("/") + "/")


def _holds(file: Path, table: pa.Table) -> bool:
    try:
        return tables.read(file, tables.COHORT).equals(table)
    except (OSError, ValueError):
        return False


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write_json(content: dict, file: Path) -> None:
    text = json.dumps(content, indent=1) + "\n"
    if file.is_file() and file.read_text() == text:
        return
    write_file(file, text.encode())
