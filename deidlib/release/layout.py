"""Where things lie in a release's folder, and the checksums over them.

No folder holds more than :data:`FOLDER_MAX` images, whatever the size of the dataset. A photograph lies in the folder
of the first two characters of its id; a folder that would hold too many is divided by the next one, and so on. Ids are
spread evenly, so below about 900 000 photographs no path depends on what else is released, and above it a path changes
only where its own folder overflows (or, after withdrawals, fits again), about once while a dataset grows 32-fold. The
rule depends on the set of ids alone.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INDEX_FILE = "index.parquet"
CARD_FILE = "README.md"
DATASHEET_FILE = "datasheet.md"
GALLERY_FILE = "gallery.html"
CROISSANT_FILE = "croissant.json"
CRATE_FILE = "ro-crate-metadata.json"
SETTINGS_FILE = "settings.json"
TOMBSTONES_FILE = "tombstones.txt"
IMAGES_FOLDER = "images"
EMBEDDED_FOLDER = "data"
WORKFLOW_FOLDER = "workflow"

SUMS_FILE = "SHA256SUMS"
SIGNATURE_FILE = "SHA256SUMS.sig"
PUBLIC_KEY_FILE = "SHA256SUMS.pub"
#: Files that SHA256SUMS does not list: itself, and its signature, which is added later.
UNLISTED = frozenset({SUMS_FILE, SIGNATURE_FILE, PUBLIC_KEY_FILE})

#: Most images of a folder.
FOLDER_MAX = 1000


def image_paths(release_photo_ids: Collection[str], folder_max: int = FOLDER_MAX) -> dict[str, str]:
    """Path of every released image relative to the release folder.

    Parameters
    ----------
    release_photo_ids : collection of str
        All photographs of the release.
    folder_max : int
        Most images of a folder.

    Returns
    -------
    dict of str to str
        Photograph → path, for example ``images/ab/abcdefghijklmnop.png``.
    """
    paths: dict[str, str] = {}
    waiting = [(f"{IMAGES_FOLDER}/{name}", 2, ids) for name, ids in _divided(set(release_photo_ids), 0, 2).items()]
    while waiting:
        folder, depth, ids = waiting.pop()
        if len(ids) <= folder_max:
            paths.update((name, f"{folder}/{name}.png") for name in ids)
        else:
            waiting += [(f"{folder}/{part}", depth + 1, few) for part, few in _divided(ids, depth, depth + 1).items()]
    return paths


def _divided(ids: Iterable[str], start: int, end: int) -> dict[str, list[str]]:
    parts = defaultdict(list)
    for name in ids:
        parts[name[start:end]].append(name)
    return parts


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every regular file but the :data:`UNLISTED`: path relative to ``folder`` → digest, sorted."""
    folder = Path(folder)
    sums = {}
    with ThreadPoolExecutor(reading_threads()) as pool:
        for place, _, names in os.walk(folder):
            paths = [Path(place) / name for name in names]
            paths = [path for path in paths if path.is_file() and not path.is_symlink()]
            listed = [path for path in paths if path.relative_to(folder).as_posix() not in UNLISTED]
            digests = pool.map(file_digest, listed)
            sums.update((path.relative_to(folder).as_posix(), sum_) for path, sum_ in zip(listed, digests, strict=True))
    return dict(sorted(sums.items()))


def reading_threads() -> int:
    """How many files of a release are read at a time: one a core that the process may use, at most eight."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_text(sums: Mapping[str, str]) -> str:
    """Write checksums as the text of ``SHA256SUMS`` (``sha256sum -c`` reads it)."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))


def content_digest(sums: Mapping[str, str] | Path) -> str:
    """One SHA-256 for what a release holds: of the sorted ``SHA256SUMS`` lines of the index and the images.

    The documents beside them (card, datasheet, metadata, tombstones) name version and date, and images embedded in
    Parquet files repeat what the images are; so two releases have one digest exactly if index and images are the
    same. ``grep -E '  (index.parquet|images/)' SHA256SUMS | sha256sum`` gives it too.

    Parameters
    ----------
    sums : mapping or Path
        What :func:`checksums` gave, or a release folder.
    """
    sums = sums if isinstance(sums, Mapping) else checksums(sums)
    kept = {path: sum_ for path, sum_ in sums.items() if path == INDEX_FILE or path.startswith(f"{IMAGES_FOLDER}/")}
    return hashlib.sha256(sums_text(kept).encode()).hexdigest()
