"""The one way to write a file: it appears whole or not at all.

The bytes go to a temporary file in the same folder, are synced, and the file gets its name by a rename.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def writing_file(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Give a temporary file to write to; it becomes ``path`` if the block ends without an error.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.
    mode : int
        Permissions of the file, whatever the umask.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all; see :func:`writing_file`."""
    with writing_file(path, mode) as file:
        file.write(data)


def write_json(value: Any, path: Path, mode: int = 0o600) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    write_file(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), mode)
