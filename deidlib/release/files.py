"""Files of a release written so that they survive a crash, or do not appear at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deidlib.errors import ReleaseError
from deidlib.release.layout import SUMS_FILE, checksums
from deidlib.release.reading import listed_sums

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def folder_aside(release_root: Path, version: str) -> Iterator[Path]:
    """Temporary folder to write a version in, removed at the end, with leftovers of killed runs of any version.

    Raises
    ------
    ReleaseError
        The disk has no room left; nothing half-written stays.
    """
    release_root.mkdir(parents=True, exist_ok=True)
    for left in release_root.glob(".*.partial"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()
    aside = release_root / f".{version}.partial"
    try:
        with report_full_disk(f"version {version} was not written, and nothing half-written is left of it"):
            aside.mkdir()
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def report_full_disk(consequence: str) -> Iterator[None]:
    """Turn the system's "no space left" into a ReleaseError with the mend."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise ReleaseError(
            f"no room on the disk of the results ({os.strerror(error.errno).lower()}): {consequence}. Make room, or "
            "raise the quota, and run again"
        ) from None


def move_into_place(aside: Path, folder: Path) -> None:
    """Give a finished folder its name, at once and for good; one that exists with the same content is kept.

    Raises
    ------
    ReleaseError
        The version exists with another content.
    """
    if folder.exists():
        same = (folder / SUMS_FILE).is_file() and (folder / SUMS_FILE).read_bytes() == (aside / SUMS_FILE).read_bytes()
        if not same or checksums(folder) != listed_sums(aside):
            raise ReleaseError(
                f"version {folder.name} exists already with another content; raise `version` in the "
                "configuration (or remove that folder if nobody has received it)"
            )
        return
    for place, _, _ in os.walk(aside):
        sync_folder(Path(place))
    aside.rename(folder)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's entries."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
