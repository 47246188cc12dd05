"""Parquet files that reveal when they are damaged.

A file is written row group by row group into an atomic temporary file, so it appears whole or not at all. A seal stands
before its footer: the SHA-256 of every column of every row group, in the footer's order, and the SHA-256 of these
digests and the footer:

    PAR1 | row groups | 32 bytes a column of a row group | their number | 32 bytes | name | footer | its length | PAR1

The footer is checked before it is parsed, because Arrow may end the process over a damaged one. Parquet finds
everything by offsets from the file's start, so any reader opens such a file. Reading a few columns checks just these
columns, which a digest of the whole file would not allow. Parquet's own page checksums leave page headers out.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from deidlib.errors import InputError

_NAME, _DIGEST_BYTES, _END_BYTES = b"DEIDSEAL", 32, 8
_SEAL = struct.Struct("<I32s8s")
#: Key in the file's metadata. A file with this key has a seal; if the seal is missing or wrong, the file is damaged.
_MARK = b"deidlib_seal"


class Damaged(InputError):
    """A file's content is not what was written; ``path`` says which."""

    def __init__(self, path: Path):
        super().__init__(f"{Path(path).name} is damaged; delete it and run the workflow again")
        self.path = Path(path)

    def __reduce__(self) -> tuple:
        return Damaged, (self.path,)  # from another process as well


@contextmanager
def writing(
    path: Path, schema: pa.Schema, notes: Callable[[], Mapping[str, str]] | None = None
) -> Iterator[Callable[[pa.Table], None]]:
    """Write a file whole or not at all: into a temporary file, sealed, synced, renamed.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.
    schema : pa.Schema
        Schema of every table that is written.
    notes : callable, optional
        Gives texts for the file's metadata; called when everything is written.

    Yields
    ------
    callable
        ``append(table)`` writes the table as one row group (nothing for an empty one).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    marked = schema.with_metadata({**(schema.metadata or {}), _MARK: b"1"})
    encoded = [field.name for field in schema if field.type != pa.large_binary()]
    for left in path.parent.glob(f".{path.name}.*"):  # left by a writer that was killed
        left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        options = {"compression": "zstd", "use_dictionary": encoded, "write_statistics": encoded}
        with pq.ParquetWriter(temporary, marked, **options) as file:

            def append(table: pa.Table) -> None:
                if table.num_rows:
                    file.write_table(table.cast(marked), row_group_size=table.num_rows)

            yield append
            if notes is not None:
                file.add_key_value_metadata(notes())
        _seal(temporary)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class SealedFile:
    """An open file; see :func:`opened`."""

    def __init__(self, path: Path, raw: BinaryIO):
        self._path, self._raw = path, raw
        self._digests, self._seal = _checked_seal(path, raw)
        raw.seek(0)
        self._parquet = pq.ParquetFile(raw)
        if not self._digests and _MARK in (self._parquet.metadata.metadata or {}) and self.num_row_groups:
            raise Damaged(path)

    @property
    def notes(self) -> dict[str, str]:
        """Texts that were given to :func:`writing`."""
        found = self._parquet.metadata.metadata or {}
        return {name.decode(): text.decode() for name, text in found.items() if name not in (_MARK, b"ARROW:schema")}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) that stands for the content: of the digests of all that it holds, or of a file without a seal.

        No more than the footer is read: what is read afterwards must agree with these digests.
        """
        if self._seal is not None:
            return self._seal.hex()
        self._raw.seek(0)
        return hashlib.file_digest(self._raw, "sha256").hexdigest()

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns' names and types."""
        return self._parquet.schema_arrow

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return self._parquet.metadata.num_rows

    @property
    def num_row_groups(self) -> int:
        """Row groups of the file."""
        return self._parquet.metadata.num_row_groups

    def row_group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one row group, or some of its columns, checked; ``a.b`` is the field ``b`` of the column ``a``."""
        return self._read([number], columns)

    def may_hold(self, number: int, column: str, value: str) -> bool:
        """Whether a row group can hold this value in a column, by the least and the greatest value that it states."""
        group = self._parquet.metadata.row_group(number)
        found = (group.column(place) for place in range(group.num_columns))
        stated = next(one.statistics for one in found if one.path_in_schema == column)
        return stated is None or not stated.has_min_max or stated.min <= value <= stated.max

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read all of it, or some columns as :meth:`row_group` does, checked."""
        return self._read(range(self.num_row_groups), columns)

    def _read(self, groups: Sequence[int], columns: Sequence[str] | None) -> pa.Table:
        of_group = self._parquet.metadata.num_columns
        wanted = columns and {name.partition(".")[0] for name in columns}  # a part of a column is checked as a whole
        for group in groups if self._digests else ():
            for place, (column, offset, size) in enumerate(_chunks(self._parquet.metadata, group), group * of_group):
                if wanted is not None and column not in wanted:
                    continue
                self._raw.seek(offset)
                if hashlib.sha256(self._raw.read(size)).digest() != self._digests[place]:
                    raise Damaged(self._path)
        return self._parquet.read_row_groups(list(groups), columns=columns and list(columns))


@contextmanager
def opened(path: Path) -> Iterator[SealedFile]:
    """Open a file for reading: its footer is checked at once, the rest as it is read.

    Raises
    ------
    Damaged
        Also from reading inside the ``with`` block.
    OSError
        The file is missing or cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as raw:
        try:
            yield SealedFile(path, raw)
        except pa.ArrowInvalid:
            raise Damaged(path) from None
        except OSError as error:
            if error.errno:  # an error of the disk; Arrow's errors about a file's content have no errno
                raise
            raise Damaged(path) from None


def _seal(path: str) -> None:
    metadata = pq.read_metadata(path)
    with open(path, "r+b") as file:
        at, end = _footer(file)
        digests = b""
        for group in range(metadata.num_row_groups):
            for _, offset, size in _chunks(metadata, group):
                file.seek(offset)
                digests += hashlib.sha256(file.read(size)).digest()
        digests += struct.pack("<I", len(digests) // _DIGEST_BYTES)
        file.seek(at)
        file.write(digests + hashlib.sha256(digests + end).digest() + _NAME + end)
        file.flush()
        os.fsync(file.fileno())


def _checked_seal(path: Path, file: BinaryIO) -> tuple[list[bytes], bytes | None]:
    """Digests of the file's chunks, and the digest of these and the footer; none for a file without a seal."""
    at, end = _footer(file)
    file.seek(max(0, at - _SEAL.size))
    count, digest, name = _SEAL.unpack(file.read(_SEAL.size).rjust(_SEAL.size, b"\0"))
    if name != _NAME:
        return [], None
    start = at - _SEAL.size - count * _DIGEST_BYTES
    if start < 0:
        raise Damaged(path)
    file.seek(start)
    digests = file.read(count * _DIGEST_BYTES)
    if hashlib.sha256(digests + struct.pack("<I", count) + end).digest() != digest:
        raise Damaged(path)
    return [digests[i : i + _DIGEST_BYTES] for i in range(0, len(digests), _DIGEST_BYTES)], digest


def _chunks(metadata: pq.FileMetaData, group: int) -> Iterator[tuple[str, int, int]]:
    """Top-level column, offset and size of everything in a row group that holds data, in the footer's order."""
    row_group = metadata.row_group(group)
    for column in range(row_group.num_columns):
        chunk = row_group.column(column)
        offset = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        yield chunk.path_in_schema.split(".")[0], offset, chunk.total_compressed_size


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Offset of the footer, and its bytes with length and closing mark."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_BYTES))
    length, mark = struct.unpack("<I4s", file.read(_END_BYTES).rjust(_END_BYTES, b"\0"))
    at = size - _END_BYTES - length
    if mark != b"PAR1" or at < len(mark):
        raise pa.ArrowInvalid("no Parquet footer")
    file.seek(at)
    return at, file.read()
