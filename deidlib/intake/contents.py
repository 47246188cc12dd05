"""SHA-256 of the sheet's files: a changed file is recognised by its content, not by its date.

Reading every photograph at every start would take hours in a large cohort. So the plan remembers what it read, with
the state of the file (size, modification and change time, inode), and reads a file again as soon as one of these
differs. The change time is the system's own: unlike the modification time, no program that copies or restores a file
can set it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from deidlib.errors import InputError
from deidlib.storage import tables

#: In place of a digest where no file can be read: the path leaves the sheet's folder, or there is no file.
OUTSIDE, MISSING = "outside", "missing"
#: Digest of an empty file.
EMPTY = hashlib.sha256(b"").hexdigest()
_THREADS, _TOGETHER = 8, 256  # tasks at a time; most files of a task
_T = TypeVar("_T")
_BLOCK = 1 << 20
#: Errors of a network share that is gone. A photograph on it must not be called missing, for that verdict is permanent.
_OF_THE_SHARE = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV}
)
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class ContentError(InputError):
    """A file that exists cannot be read; the message does not name it."""


#: Real path → (state, SHA-256) of every file that was read.
Known = MutableMapping[str, tuple[str, str]]


def state(file: str | None) -> str:
    """Size, times and inode of a file as text; ``missing`` or ``outside`` where there is none.

    Raises
    ------
    ContentError
        The network share with the photographs is gone.
    """
    if file is None:
        return OUTSIDE
    try:
        found = os.stat(file)
    except (OSError, ValueError) as error:
        return _no_file(error)
    return _state(found) if stat.S_ISREG(found.st_mode) else MISSING


def states(files: Sequence[str | None]) -> list[str]:
    """Return :func:`state` of every file."""
    return _of_each(state, files)


def _of_each(what: Callable[[str | None], _T], files: Sequence[str | None]) -> list[_T]:
    """Call for several files at a time: a network share answers several requests.

    A task takes many files of a large cohort, since a million tasks would take 1.5 GB.
    """
    together = min(_TOGETHER, max(1, len(files) // (8 * _THREADS)))
    blocks = [files[start : start + together] for start in range(0, len(files), together)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [one for found in pool.map(lambda block: [what(file) for file in block], blocks) for one in found]


def digests(files: Sequence[str | None], known: Known, progress: Callable[[], object] | None = None) -> list[str]:
    """SHA-256 (hex) of every file; a file is read only if its state differs from the remembered one.

    Parameters
    ----------
    files : sequence of str or None
        Real paths; None stands for a path outside the sheet's folder.
    known : mutable mapping
        What was read earlier. It is updated in place; files that are no longer asked for are dropped.
    progress : callable or None
        Called once for each file.

    Returns
    -------
    list of str
        A digest, ``missing`` or ``outside`` for each.

    Raises
    ------
    ContentError
        An existing file cannot be read, or the network share is gone.
    """
    before = dict(known)
    known.clear()

    def one(file: str | None) -> tuple[str, str]:
        now = state(file)
        if now in (OUTSIDE, MISSING):
            found = now, now
        elif before.get(file, ("", ""))[0] == now:
            found = before[file]
        else:
            found = _read(file)
        if progress is not None:
            progress()
        return found

    distinct = list(dict.fromkeys(files))
    found = dict(zip(distinct, _of_each(one, distinct), strict=True))
    known.update({file: pair for file, pair in found.items() if pair[1] not in (OUTSIDE, MISSING)})
    return [found[file][1] for file in files]


def read_known(path: Path) -> Known:
    """Read what an earlier plan remembered; empty if the table is missing or damaged."""
    try:
        table = tables.read(path, tables.CONTENTS)
    except (OSError, ValueError):
        return {}
    names, was, digest = (table[name].to_pylist() for name in ("path", "state", "sha256"))
    return dict(zip(names, zip(was, digest, strict=True), strict=True))


def write_known(known: Known, path: Path) -> None:
    """Save what was read, for the next plan."""
    names = sorted(known)
    columns = [names, [known[name][0] for name in names], [known[name][1] for name in names]]
    table = pa.table([pa.array(column, pa.string()) for column in columns], names=tables.CONTENTS.names)
    tables.write(table, path, tables.CONTENTS)


def _state(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def _no_file(error: Exception) -> str:
    """MISSING; but an error that says that the network share is gone is raised as ContentError."""
    number = getattr(error, "errno", None)
    if number in _OF_THE_SHARE:
        raise ContentError(
            f"the photographs cannot be reached ({os.strerror(number)}): check that this machine has the network "
            "share with them, and start again"
        ) from None
    return MISSING


def _read(file: str) -> tuple[str, str]:
    """State and SHA-256 of a file that does not change while it is read."""
    for _ in range(3):
        try:
            # O_NONBLOCK: opening a named pipe must not wait for a writer.
            with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as opened:
                before = os.fstat(opened.fileno())
                if not stat.S_ISREG(before.st_mode):
                    return MISSING, MISSING
                digest, block = hashlib.sha256(), bytearray(_BLOCK)
                view = memoryview(block)
                while size := opened.readinto(block):
                    digest.update(view[:size])
                if _state(os.fstat(opened.fileno())) == _state(before):
                    return _state(before), digest.hexdigest()
        except OSError as error:
            if error.errno in _GONE:
                return MISSING, MISSING
            raise ContentError(
                f"a photograph or mask of the sheet exists but cannot be read ({os.strerror(error.errno)}): give the "
                "account that runs deidlib the right to read all of them, check the share, and start again"
            ) from None
    raise ContentError("a photograph or mask is being written to: wait until it is complete, and start again")
