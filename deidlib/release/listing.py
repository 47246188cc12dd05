"""Listing of a release's folder by name, kind and size alone, before any file is opened.

A recipient gets a release from somebody else. A named pipe would block the reader, a device never ends, a link leads
out of the folder, and a file of absurd size fills the memory. So the folder is listed first (``lstat``, no link is
followed), and only what the listing allows is opened: regular files, under names that deidlib writes, no larger than
such a file can be.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deidlib.release.layout import (
    CARD_FILE,
    CRATE_FILE,
    CROISSANT_FILE,
    DATASHEET_FILE,
    EMBEDDED_FOLDER,
    GALLERY_FILE,
    IMAGES_FOLDER,
    INDEX_FILE,
    PUBLIC_KEY_FILE,
    SETTINGS_FILE,
    SIGNATURE_FILE,
    SUMS_FILE,
    TOMBSTONES_FILE,
)
from deidlib.storage.png import MOST_BYTES

#: Most files and folders of a release, and folders inside each other. Beyond them the listing stops.
MOST_ENTRIES, MOST_DEPTH = 4_000_000, 20

#: Most bytes of a text that the program writes (card, datasheet, settings, metadata).
DOCUMENT_BYTES = 4 << 20
#: Most bytes of the gallery page.
GALLERY_BYTES = 17 << 20
_LIMITS = {
    SUMS_FILE: 512 << 20,
    SIGNATURE_FILE: 1 << 10,
    PUBLIC_KEY_FILE: 1 << 10,
    INDEX_FILE: 1 << 30,
    CRATE_FILE: 16 << 20,
    TOMBSTONES_FILE: 32 << 20,
    GALLERY_FILE: GALLERY_BYTES,
    **dict.fromkeys((CARD_FILE, DATASHEET_FILE, CROISSANT_FILE, SETTINGS_FILE), DOCUMENT_BYTES),
}
WORKFLOW_FILE = re.compile(r"workflow/Snakefile|workflow/rules/[a-z_]+\.smk")
_IMAGE_FILE = re.compile(rf"{IMAGES_FOLDER}/[a-z2-7]{{2}}(/[a-z2-7])*/[a-z2-7]{{16}}\.png")
_EMBEDDED_FILE = re.compile(rf"{EMBEDDED_FOLDER}/patients(-[01]+)?\.parquet")


@dataclass(frozen=True)
class Entry:
    """A file or folder: its path relative to the release, its mode and size (bytes) as ``lstat`` gives them."""

    path: str
    mode: int
    size: int


@dataclass
class Listing:
    """Files of a folder that may be opened, and the problems of the rest.

    Attributes
    ----------
    files : dict of str to int
        Path → bytes of the files that may be opened.
    refused : set of str
        Files that are there and may not be opened: of a name that no release has, or too large.
    problems : list of str
        Each as ``path: what``, sorted.
    """

    files: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def list_release(folder: Path) -> Listing:
    """List a folder and judge it; nothing in it is opened."""
    return judged(_entries(os.fspath(folder)))


def judged(entries: Iterable[Entry]) -> Listing:
    """Judge entries by path, mode and size: regular files under a release's names, within their limits; no links."""
    found, folders, parents = Listing(), set(), set()
    for number, entry in enumerate(entries):
        if number == MOST_ENTRIES:
            found.problems.append(f"{SUMS_FILE}: the folder holds more than {MOST_ENTRIES} files, as no release does")
            break
        if stat.S_ISDIR(entry.mode):
            folders.add(entry.path)
            if entry.path.count("/") >= MOST_DEPTH:
                found.problems.append(f"{entry.path}: lies deeper than any folder of a release")
                parents.add(entry.path)
            continue
        parents.update(_parents(entry.path))
        if not stat.S_ISREG(entry.mode):
            found.problems.append(f"{entry.path}: not a plain file")
            continue
        limit = size_limit(entry.path)
        if limit is not None and entry.size <= limit:
            found.files[entry.path] = entry.size
            continue
        found.refused.add(entry.path)
        if limit is not None:
            found.problems.append(
                f"{entry.path}: has {entry.size} bytes, more than such a file of a release can have ({limit}); "
                "it was not opened"
            )
    found.problems += [f"{path}: empty folder" for path in folders - parents if not _holds(path, folders)]
    _refuse_large_embedded(found)
    found.problems.sort()
    return found


def size_limit(path: str) -> int | None:
    """Most bytes of the file at this path of a release; None for a path that no release has."""
    if path in _LIMITS:
        return _LIMITS[path]
    if _IMAGE_FILE.fullmatch(path):
        return MOST_BYTES
    if WORKFLOW_FILE.fullmatch(path):
        return DOCUMENT_BYTES
    return (1 << 62) if _EMBEDDED_FILE.fullmatch(path) else None  # judged by the images: see below


def _refuse_large_embedded(found: Listing) -> None:
    """Files with embedded images hold what the image files hold, and the index again."""
    images = sum(size for path, size in found.files.items() if path.startswith(f"{IMAGES_FOLDER}/"))
    limit = images + 2 * found.files.get(INDEX_FILE, 0) + (images >> 4) + (64 << 20)
    for path in [path for path in found.files if path.startswith(f"{EMBEDDED_FOLDER}/")]:
        if found.files[path] > limit:
            found.refused.add(path)
            del found.files[path]
            found.problems.append(f"{path}: is larger than all images of the release; it was not opened")


def _entries(folder: str) -> Iterator[Entry]:
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(os.path.join(folder, inside)) as scan:
                for entry in scan:
                    path = f"{inside}/{entry.name}" if inside else entry.name
                    status = entry.stat(follow_symlinks=False)
                    yield Entry(path, status.st_mode, status.st_size)
                    if entry.is_dir(follow_symlinks=False) and path.count("/") < MOST_DEPTH:
                        waiting.append(path)
        except OSError:
            continue  # its files are then reported as missing


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _holds(folder: str, folders: set[str]) -> bool:
    return any(other.startswith(f"{folder}/") for other in folders)
