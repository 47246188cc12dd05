"""Opens files of a release so that a hostile file cannot block, lead out of the folder, or fill the memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from deidlib.errors import InputError
from deidlib.release.layout import INDEX_FILE, SUMS_FILE
from deidlib.release.listing import size_limit
from deidlib.release.parquet_limits import TooLarge, open_parquet, plain_text

#: Most bytes of a line of SHA256SUMS: a checksum and a path.
_LONGEST_LINE = 1024
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def opened(folder: Path, path: str) -> Iterator[BinaryIO]:
    """Open the file at a release's path for reading.

    Parameters
    ----------
    folder : Path
        The release.
    path : str
        Relative, with ``/``; of a form that a release has (:func:`deidlib.release.listing.size_limit`).

    Raises
    ------
    InputError
        No release has such a path, or it leads through a link; the file is missing, not a regular file, or too large.
    """
    limit = size_limit(path)
    if limit is None:
        raise InputError("a path that no release has; check the release with `deidlib verify`")
    handle = None
    try:
        handle = os.open(_without_links(Path(folder), path), _FLAGS)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise OSError
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    except OSError:
        raise InputError(f"{path}: missing, not a plain file, or too large for one of a release") from None
    finally:
        if handle is not None:
            os.close(handle)


def read_bytes(folder: Path, path: str) -> bytes:
    """Content of a file of a release; errors as for :func:`opened`."""
    with opened(folder, path) as file:
        return file.read(size_limit(path))


def read_text(folder: Path, path: str) -> str:
    """Text of a document of a release; an InputError also where it is not UTF-8."""
    try:
        return read_bytes(folder, path).decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None


def read_json(folder: Path, path: str) -> Any:
    """Content of a JSON document of a release; an InputError also where it is none, or nested too deeply."""
    try:
        return json.loads(read_text(folder, path))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON, or nested too deeply") from None


def read_index(folder: Path) -> pa.Table:
    """Read a release's index and validate every cell.

    Raises
    ------
    InputError
        It cannot be read, or would take much more memory than it has bytes.
    """
    try:
        with opened(folder, INDEX_FILE) as file:
            parquet, schema = open_parquet(file)
            if not all(pa.types.is_primitive(column.type) or column.type == pa.string() for column in schema):
                raise TooLarge("a column is of a type that no index has")
            index = plain_text(parquet.read(), file.seek(0, 2)).cast(schema)
        index.validate(full=True)
    except TooLarge as error:
        raise InputError(f"{INDEX_FILE}: was not read: {error}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{INDEX_FILE}: cannot be read ({type(error).__name__})") from None
    return index


def read_sums(folder: Path) -> tuple[dict[str, str], bool]:
    """Checksums as ``SHA256SUMS`` lists them, path → digest, and whether they stand in the form deidlib writes.

    Raises
    ------
    InputError
        It is missing, or a line is not a checksum and a path.
    """
    sums: dict[str, str] = {}
    in_form, before = True, ""
    with opened(folder, SUMS_FILE) as file:
        while line := file.readline(_LONGEST_LINE):
            if line == b"\n":
                in_form = False
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise InputError(f"{SUMS_FILE}: missing or not a list of checksums") from None
            match = re.fullmatch(r"([0-9a-f]{64})  (\S[^\n]*)\n?", text)
            if match is None or len(line) == _LONGEST_LINE:
                raise InputError(f"{SUMS_FILE}: a line is not a checksum and a path")
            in_form &= text.endswith("\n") and before < match[2]
            before = match[2]
            sums[before] = match[1]
    return sums, in_form


def listed_sums(folder: Path) -> dict[str, str]:
    """Checksums as ``SHA256SUMS`` lists them; errors as for :func:`read_sums`."""
    return read_sums(folder)[0]


def digest(folder: Path, path: str) -> str:
    """SHA-256 (hex) of a file of a release; errors as for :func:`opened`."""
    with opened(folder, path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_links(folder: Path, path: str) -> Path:
    """Path of the file, none of whose folders inside the release is a link."""
    place = folder
    for part in path.split("/")[:-1]:
        place = place / part
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            raise OSError
    return place / path.rpartition("/")[2]
