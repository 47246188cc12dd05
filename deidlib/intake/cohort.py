"""The cohort: reads and checks the whole sample sheet, and deals its patients to shards.

Faults of the sheet itself (a missing column, an empty id, an unknown view) stop the run before any job, because the
rows cannot be read with certainty. Faults of one photograph (no file, no consent, a duplicate id) are left to intake,
which quarantines that photograph alone. No message quotes a cell.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib import keys
from deidlib.intake import contents, faults
from deidlib.intake.consent import without_consent
from deidlib.intake.paths import files_of
from deidlib.intake.sheet import MAX_FAULTS_SHOWN, CohortError, read_cells, refuse
from deidlib.intake.views import view_of
from deidlib.schema import load_schema
from deidlib.storage import tables
from deidlib.storage.atomic import write_file
from deidlib.storage.results import Results, stage_table

PHOTOS_PER_SHARD = 200
#: Small cohorts: the most shards, and the photographs in each, to suit the cores of a workstation.
_FEW_SHARDS, _FEW_PHOTOS = 8, 25
#: Snakemake's own cost grows with the number of shards. Beyond this many shards, the shards get larger instead.
_MANY_SHARDS = 1000
#: Most photographs in a shard: one job handles a shard, and its work is lost if the job fails.
_MOST_PHOTOS = 1000
_JSON_ROWS = 65536


@dataclass(frozen=True)
class Sheet:
    """A sample sheet as it was read, with its faults: what the preview and the plan both start from.

    Attributes
    ----------
    path : Path
        The sheet.
    cells, row
        As :func:`deidlib.intake.sheet.read_cells` gives them, with views as words.
    photos, masks
        As :func:`deidlib.intake.paths.files_of` gives them.
    rules : mapping
        ``release.columns`` of the config.
    faults : list of Fault
        The faults that stop a run (:func:`faults_of`).
    """

    path: Path
    cells: dict[str, pa.Array]
    row: np.ndarray
    photos: list[str | None]
    masks: dict[int, str | None]
    rules: Mapping[str, Mapping]
    faults: list[faults.Fault]


def open_sheet(path: Path | str, rules: Mapping[str, Mapping] | None = None) -> Sheet:
    """Read and check the cells of a sample sheet, and look up its files.

    Parameters
    ----------
    path : path
        See :func:`read_sheet`.
    rules : mapping, optional
        See :func:`read_sheet`.

    Raises
    ------
    CohortError
        The sheet cannot be read as a table.
    """
    path = Path(path)
    cells, row = read_cells(path)
    cells["view"] = pa.array([view_of(view) for view in cells["view"].to_pylist()], pa.string())
    photos, masks = files_of(path.parent, cells)
    return Sheet(path, cells, row, photos, masks, rules or {}, faults_of(cells, row, photos, rules))


def read_sheet(
    sheet: Path | str | Sheet,
    known: contents.Known | None = None,
    progress: Callable[[], object] | None = None,
    rules: Mapping[str, Mapping] | None = None,
) -> pa.Table:
    """Read and check a sample sheet, and read its photographs and masks for their checksums.

    Parameters
    ----------
    sheet : path or Sheet
        TSV (.tsv, .tab), CSV (comma, semicolon or tab, whichever gives the header most columns), both UTF-8 with
        or without BOM, or an Excel workbook (.xlsx). Cells are text without the blanks around them ("007" stays
        "007"); ids are brought to Unicode's NFC form. Rows without any cell are left out. A sheet that is open
        already is not read again.
    known : mutable mapping, optional
        What an earlier plan read of the files (:func:`deidlib.intake.contents.digests`); updated in place.
    progress : callable, optional
        Called once for each file.
    rules : mapping, optional
        ``release.columns`` of the config. Cells that it releases are screened. A column that it names is not suspected
        to be a misspelt one.

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
    opened = sheet if isinstance(sheet, Sheet) else open_sheet(sheet, rules)
    path, cells, row, photos, masks = opened.path, opened.cells, opened.row, opened.photos, opened.masks
    _refuse(path, opened.faults)
    schema = load_schema("samples")["properties"]
    further = sorted(set(cells) - set(schema))
    distinct = pc.value_counts(cells["photo_id"])
    repeated = distinct.field("values").filter(pc.greater(distinct.field("counts"), 1))
    columns = {name: cells[name] for name in schema}
    columns["consent"] = _consent(cells)
    columns["row"] = pa.array(row, pa.int64())
    columns["age"] = pa.array([None if age is None else float(age) for age in cells["age"].to_pylist()], pa.float64())
    columns["columns"] = _as_json({name: cells[name] for name in further}, len(row))
    columns["duplicate"] = pc.is_in(cells["photo_id"], value_set=repeated)
    held = contents.digests([*photos, *masks.values()], {} if known is None else known, progress)
    nothing = (contents.OUTSIDE, contents.MISSING, contents.EMPTY)
    digests = [None if one in nothing else one for one in held[: len(photos)]]
    _refuse(path, faults.of_files(digests, cells["patient_id"].to_pylist(), row, "one photograph (the same content)"))
    of_masks = dict(zip(masks, held[len(photos) :], strict=True))
    prints = [f"{print_}|{of_masks[at]}" if at in of_masks else print_ for at, print_ in enumerate(held[: len(photos)])]
    columns["fingerprint"] = pa.array(prints, pa.string())
    return pa.table([columns[name] for name in tables.COHORT.names], schema=tables.COHORT)


def faults_of(
    cells: Mapping[str, pa.Array], row: np.ndarray, photos: Sequence[str | None], rules: Mapping[str, Mapping] | None
) -> list[faults.Fault]:
    """All faults of the cells that stop the run; ``release.columns`` decides which cells are screened.

    Parameters
    ----------
    cells, row
        As :func:`deidlib.intake.sheet.read_cells` gives them, with views as words.
    photos : sequence of str or None
        Real path of each row's photograph.
    rules : mapping or None
        ``release.columns`` of the config.
    """
    broken = faults.of_cells(cells, row)
    found = [*faults.of_columns(list(cells), rules or ()), *broken]
    if not broken:  # ids and cells can be read
        found += faults.of_ids(cells, row)
        found += faults.of_files(photos, cells["patient_id"].to_pylist(), row)
        found += faults.of_released(cells, row, rules)
    return sorted(found)


def sheet_state(path: Path | str) -> str:
    """Digest of the sheet's content and of its files' states. If it has not changed, the plan is up to date.

    Parameters
    ----------
    path : path
        See :func:`read_sheet`. The photographs are looked up, not read.

    Raises
    ------
    CohortError
        The text, header or shape of the sheet is wrong.
    deidlib.intake.contents.ContentError
        The share of the photographs is gone.
    """
    path = Path(path)
    cells, _ = read_cells(path)
    photos, masks = files_of(path.parent, cells)
    digest = hashlib.sha256(path.read_bytes())
    for state in contents.states([*photos, *masks.values()]):
        digest.update(state.encode() + b"\n")
    return digest.hexdigest()


def default_shards(n_photos: int) -> int:
    """The number of shards: up to 8 of 25 photographs, then shards of 200; in a large cohort shards of up to 1000."""
    few = min(math.ceil(n_photos / PHOTOS_PER_SHARD), _MANY_SHARDS)
    return max(1, min(math.ceil(n_photos / _FEW_PHOTOS), _FEW_SHARDS), few, math.ceil(n_photos / _MOST_PHOTOS))


def plan_shards(table: pa.Table, key: bytes, n_shards: int) -> dict[str, pa.Table]:
    """Deal patients to shards.

    Parameters
    ----------
    table : pa.Table
        tables.COHORT.
    key : bytes
        The secret key. A patient's shard depends only on the key, the patient and n_shards.
    n_shards : int
        Number of shards.

    Returns
    -------
    dict of str to pa.Table
        All n_shards shards ("s0000", …), including empty ones; rows ordered by patient, photo and
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
    """Choose the number of shards: that of an earlier plan, else the one asked for, else :func:`default_shards`.

    Raises
    ------
    CohortError
        Another number is asked for than the plan pinned.
    """
    pinned = pinned_shards(folder)
    if pinned and asked and pinned != asked:
        raise CohortError(
            f"shards: asked for {asked}, but these results were planned with {pinned}, and patients' "
            f"shards depend on it. Set shards to {pinned} or null, or name another results folder."
        )
    return pinned or asked or default_shards(n_photos)


def write_plan(shards: dict[str, pa.Table], folder: Path | str) -> list[str]:
    """Write the plan into the private folder (mode 0700 under any umask); files that did not change stay untouched.

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


def _refuse(path: Path, found: Sequence[faults.Fault]) -> None:
    if found:
        refuse(path, [str(one) for one in found[:MAX_FAULTS_SHOWN]], len(found))


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
    """``yes`` for patients who have a yes in all their rows, else ``no``; one value for each row."""
    patients = cells["patient_id"].to_pylist()
    refused = without_consent(zip(patients, cells["consent"].to_pylist(), strict=True))
    return pa.array(["no" if patient in refused else "yes" for patient in patients], pa.string())


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
