"""Reads and writes the stages' tables, with error messages for people; makes the private folder, with its mode."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deidlib.errors import InputError
from deidlib.logs import say
from deidlib.storage.results import PRIVATE

if TYPE_CHECKING:  # Arrow is slow to import; a command with nothing to do starts without it
    import pyarrow as pa


def read(path: Path, schema: str, columns: list[str] | None = None) -> pa.Table:
    """Read a stage's table; ``schema`` names a constant of :mod:`deidlib.storage.tables`."""
    from deidlib.storage import tables

    with _missing_table(path):
        return tables.read(path, getattr(tables, schema), columns)


@contextmanager
def _missing_table(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"no table {path.name}; run the stage that writes it first") from None


def read_photos(path: Path, schema: str, wanted: Collection[str], columns: list[str] | None = None) -> pa.Table:
    """Rows of a stage's table that belong to these photographs (``release_photo_id``)."""
    from deidlib.storage import tables

    with _missing_table(path):
        return tables.read_photos(path, getattr(tables, schema), wanted, columns)


def read_json(path: Path) -> dict:
    """Read a JSON file that the workflow wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path.name} is missing or damaged; delete it and run the workflow again") from None


def open_private(out: Path) -> None:
    """Make the folder of a private file and keep everybody else out of it, under any umask.

    Every folder from ``out``'s up to the one named ``private`` gets mode 0700 (Snakemake may have made it
    with another), and files written from now on get 0600. Elsewhere only folders made here are private.
    """
    os.umask(0o077)
    out.parent.mkdir(parents=True, exist_ok=True)
    folders = [out.parent, *out.parent.parents]
    names = [folder.name for folder in folders]
    if PRIVATE in names:
        for folder in folders[: names.index(PRIVATE) + 1]:
            folder.chmod(0o700)


def write(table: pa.Table, out: Path, schema: str) -> None:
    """Write a stage's table and report how many photographs go on."""
    with writing(out, schema) as append:
        append(table)


@contextmanager
def writing(out: Path, schema: str) -> Iterator[Callable[[pa.Table], None]]:
    """Write a stage's table in parts, note what it was made with, and report how many photographs go on."""
    from deidlib.storage import provenance, tables

    rows = kept = 0
    with tables.writing(out, getattr(tables, schema), provenance.note) as append_part:

        def append(table: pa.Table) -> None:
            nonlocal rows, kept
            append_part(table)
            rows += table.num_rows
            kept += sum(table["passed"].to_pylist()) if "passed" in table.schema.names else count(table)

        yield append
    out.chmod(0o600)
    lost = "fail the gate" if "passed" in getattr(tables, schema).names else "quarantined"
    say(f"{out.name}: {kept} photographs go on, {rows - kept} {lost}")


def write_empty(out: Path, schema: str) -> None:
    """Write the table of a stage that has nothing to do."""
    from deidlib.storage import tables

    write(getattr(tables, schema).empty_table(), out, schema)


def count(table: pa.Table) -> int:
    """Photographs of a table that were not quarantined."""
    from deidlib.storage import tables

    return tables.handled(table).num_rows


def nothing_to_do(table: pa.Table, out: Path, schema: str) -> bool:
    """Write the empty table where no photograph reached this stage, before anything heavy is imported."""
    if count(table):
        return False
    write_empty(out, schema)
    return True
