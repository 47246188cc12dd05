"""Reading a shard's tables a few patients at a time, so that a stage's memory does not grow with its shard."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.errors import InputError
from deidlib.storage import sealed, tables
from deidlib.storage.stage import read

_ID, _PATIENT = "release_photo_id", "release_patient_id"


def in_parts(
    photos: Path, *others: tuple[Path, str], columns: list[str] | None = None, only: Collection[str] | None = None
) -> Iterator[tuple[pa.Table, ...]]:
    """Give the photographs of a few patients at a time, with the rows of other tables that belong to them.

    Parameters
    ----------
    photos : Path
        The shard's ``tables.PHOTOS``; a part is about as large as one of its row groups.
    *others : (Path, str)
        Further tables of the shard, each with the name of its schema. Row groups are read when a part needs them.
    columns : list of str, optional
        Columns of ``photos`` that are read besides the ids.
    only : collection of str, optional
        ``release_photo_id`` of the photographs to be handled; patients without any are left out.

    Raises
    ------
    InputError
        A patient's photographs are not in adjacent rows, so a part could miss some of them.
    """
    names = list(dict.fromkeys([_ID, _PATIENT, *(columns if columns is not None else tables.PHOTOS.names)]))
    known = read(photos, "PHOTOS", [_ID, _PATIENT])
    patients = None
    if only is not None:
        patients = set(known.filter(_is_in(known, _ID, only))[_PATIENT].to_pylist())
    lookups = [_Lookup(path, schema) for path, schema in others]
    for part in _whole_patients(tables.read_parts(photos, tables.PHOTOS, names), patients):
        ids = part[_ID].to_pylist()
        yield (part, *(lookup.rows(ids) for lookup in lookups))


def _whole_patients(groups: Iterator[pa.Table], patients: set[str] | None) -> Iterator[pa.Table]:
    """Cut between patients instead of between row groups."""
    done: set[str] = set()
    held = None
    for group in groups:
        if patients is not None:
            group = group.filter(_is_in(group, _PATIENT, patients))
        held = group if held is None else pa.concat_tables([held, group])
        last = held[_PATIENT][-1] if held.num_rows else None
        is_last = pc.equal(held[_PATIENT], last) if last is not None else None
        if is_last is not None and not pc.all(is_last).as_py():
            part = held.filter(pc.invert(is_last))
            yield _first_time(part, done)
            held = held.filter(is_last)
    if held is not None and held.num_rows:
        yield _first_time(held, done)


def _first_time(part: pa.Table, done: set[str]) -> pa.Table:
    here = set(part[_PATIENT].to_pylist())
    if here & done:
        raise InputError("photos.parquet is not ordered by patient; delete it and run the workflow again")
    done |= here
    return part


class _Lookup:
    """Rows of a table by photograph; one row group is kept in memory."""

    def __init__(self, path: Path, schema: str):
        self._path, self._schema = path, getattr(tables, schema)
        read(path, schema, [_ID])  # raises the usual error for a missing file or another schema
        with sealed.opened(path) as file:
            found = (file.row_group(number, [_ID])[_ID].to_pylist() for number in range(file.num_row_groups))
            self._groups = [set(ids) for ids in found]
        self._kept: tuple[int, pa.Table] | None = None

    def rows(self, ids: list[str]) -> pa.Table:
        """Rows of these photographs, in the file's order."""
        wanted = set(ids)
        found = [
            (group := self._group(number)).filter(_is_in(group, _ID, wanted))
            for number, here in enumerate(self._groups)
            if here & wanted
        ]
        return pa.concat_tables(found) if found else self._schema.empty_table()

    def _group(self, number: int) -> pa.Table:
        if self._kept is None or self._kept[0] != number:
            with sealed.opened(self._path) as file:
                self._kept = number, file.row_group(number).select(self._schema.names)
        return self._kept[1]


def _is_in(table: pa.Table, column: str, values: Collection[str]) -> pa.Array:
    return pc.is_in(table[column], value_set=pa.array(list(values), pa.string()))
