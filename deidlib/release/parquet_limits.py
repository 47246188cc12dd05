"""Checks by its page headers whether a Parquet file can be read in little memory, before anything is unpacked.

A file of a few kilobytes can unpack to gigabytes: by highly compressed pages, by one long dictionary entry that every
row names, by encodings that repeat a prefix, or by a false row count. The footer may be false. The size in a page's
header is reliable, since the reader unpacks into a buffer of that size. So the headers are read here (Thrift's compact
protocol, as far as Parquet's ``PageHeader`` needs it), and Arrow opens only files that are small enough.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deidlib.errors import InputError

#: Most bytes of a footer, beside a part of the file's size, and most entries of a list in it.
_FOOTER_BYTES, _FOOTER_ENTRIES = 1 << 20, 5000
_HEADER_BYTES = 1 << 16
#: Most bytes of the dictionary of a column inside another, which is not kept as a dictionary in memory.
_NESTED_DICTIONARY_BYTES = 32 << 20
#: Most bytes of a text cell.
MOST_CELL_BYTES = 1 << 15
#: Fewest bytes of a row, however well it is compressed: its checksum has 32 bytes, its id 10.
_LEAST_ROW_BYTES = 32
#: PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, RLE_DICTIONARY: those that deidlib writes and that repeat no prefix.
_ENCODINGS = frozenset({0, 2, 3, 4, 8})
_WRITTEN_BY = "parquet-cpp-arrow "
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3


class TooLarge(InputError):
    """A Parquet file would need more memory than a release's can."""


def open_parquet(file: BinaryIO) -> tuple[pq.ParquetFile, pa.Schema]:
    """Open a Parquet file of a release once its pages were found small enough.

    Text columns are read as dictionaries, so that a text which every row repeats is held once; :func:`plain_text` turns
    them back.

    Parameters
    ----------
    file : binary file
        The whole file.

    Returns
    -------
    ParquetFile, Schema
        The schema is that of the file, with text as text.

    Raises
    ------
    TooLarge
        The file would take much more memory than it has bytes.
    OSError, ValueError, pa.ArrowException
        It is no Parquet file.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    footer = int.from_bytes(file.read(4), "little")
    if footer > _FOOTER_BYTES + size // 64:
        raise TooLarge("its footer is larger than such a file's can be")
    plain = _parquet(file)
    schema = plain.schema_arrow
    _refuse_large(file, size, plain.metadata)
    texts = [column.name for column in schema if column.type == pa.string()]
    found = _parquet(file, texts)
    if any(pa.types.is_string(column.type) for column in found.schema_arrow):
        raise TooLarge("a column has a name that no release has")
    return found, schema


def _parquet(file: BinaryIO, dictionaries: list[str] | None = None) -> pq.ParquetFile:
    file.seek(0)
    return pq.ParquetFile(
        file,
        pre_buffer=False,
        read_dictionary=dictionaries,
        thrift_string_size_limit=_FOOTER_BYTES,
        thrift_container_size_limit=_FOOTER_ENTRIES,
    )


def _refuse_large(file: BinaryIO, size: int, metadata: pq.FileMetaData) -> None:
    if not str(metadata.created_by).startswith(_WRITTEN_BY):
        raise TooLarge("it was not written by the library that deidlib writes with")
    if metadata.num_rows * _LEAST_ROW_BYTES > size:
        raise TooLarge(f"it announces {metadata.num_rows} rows, more than so small a file can hold")
    unpacked, rows = 0, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows += group.num_rows
        for at in range(group.num_columns):
            unpacked += _unpacked_bytes(file, size, group.column(at), group.num_rows)
    if rows != metadata.num_rows:
        raise TooLarge("its footer contradicts itself")
    if unpacked > 32 * size + (16 << 20):
        raise TooLarge(f"it unpacks to {unpacked} bytes, more than so small a file can hold")


def _unpacked_bytes(file: BinaryIO, size: int, column: pq.ColumnChunkMetaData, rows: int) -> int:
    """Bytes of a column chunk's pages once unpacked, as their headers say."""
    starts = [column.data_page_offset]
    if column.has_dictionary_page and column.dictionary_page_offset:
        starts.append(column.dictionary_page_offset)
    at, unpacked, values = min(starts), 0, 0
    end = at + column.total_compressed_size
    if not 0 < at <= end <= size:
        raise TooLarge("a column lies outside the file")
    while at < end and values < column.num_values:
        file.seek(at)
        header, length = _page_header(file.read(_HEADER_BYTES))
        kind, inflated, packed = (header.get(number) for number in (1, 2, 3))
        about = header.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, 0))
        if not (isinstance(about, dict) and isinstance(inflated, int) and isinstance(packed, int)):
            raise TooLarge("a page is of no kind that deidlib writes")
        if inflated < 0 or packed < 0 or about.get(4 if kind == _DATA_V2 else 2) not in _ENCODINGS:
            raise TooLarge("a page is not packed as deidlib packs it")
        if kind != _DICTIONARY:
            values += _count(about.get(1))
        elif _count(about.get(1)) > inflated or ("." in column.path_in_schema and inflated > _NESTED_DICTIONARY_BYTES):
            raise TooLarge("a dictionary announces more entries, or longer ones, than it can hold")
        unpacked += inflated
        at += length + packed
    if values > rows:
        raise TooLarge("a column announces more values than the table has rows")
    return unpacked


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TooLarge("a page does not say how many values it has")
    return value


def plain_text(table: pa.Table, size: int) -> pa.Table:
    """Turn the dictionary columns of a table into text, once their cells are known to be short.

    Parameters
    ----------
    table : pa.Table
        As :func:`open_parquet` reads it.
    size : int
        Bytes of the file, which bound those of the text.

    Raises
    ------
    TooLarge
        A cell, or all of them, is longer than a release's can be.
    pa.ArrowInvalid
        A cell is not UTF-8.
    """
    total = 0
    for at, column in enumerate(table.schema):
        if not pa.types.is_dictionary(column.type):
            continue
        for chunk in table.column(at).chunks:
            lengths = pc.binary_length(chunk.dictionary)
            if (pc.max(lengths).as_py() or 0) > MOST_CELL_BYTES:
                raise TooLarge(f"a cell is longer than {MOST_CELL_BYTES} bytes")
            total += pc.sum(pc.take(lengths, chunk.indices)).as_py() or 0
        if total > 64 * size + (16 << 20):
            raise TooLarge("its cells repeat more text than so small a file can stand for")
        field = column.with_type(pa.string())
        table = table.set_column(at, field, table.column(at).cast(pa.string()))
    return table


def _page_header(data: bytes) -> tuple[dict[int, Any], int]:
    """Read a Thrift struct in the compact protocol: field number → value, and the bytes that it takes."""
    try:
        return _struct(data, 0, 0)
    except (IndexError, RecursionError):
        raise TooLarge("a page has no header that can be read") from None


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    if depth > 8:
        raise IndexError
    fields: dict[int, Any] = {}
    number = 0
    while True:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if kind == 0:
            return fields, at
        if step:
            number += step
        else:
            number, at = _integer(data, at)
        fields[number], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true, false
        return kind == 1, at
    if kind == 3:  # byte
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _integer(data, at)
    if kind == 7:  # double
        return None, at + 8
    if kind == 8:  # binary
        length, at = _varint(data, at)
        return None, at + length
    if kind in (9, 10):  # list, set
        count, of = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            _, at = _value(data, at + (of in (1, 2)), of, depth + 1)
        return None, at
    if kind == 12:
        return _struct(data, at, depth + 1)
    raise IndexError  # maps: no page header has one


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError
