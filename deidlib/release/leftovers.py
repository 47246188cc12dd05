"""Removes files of earlier runs from the private folder, so that no withdrawn patient's pixels stay there.

The stages rewrite their tables when the sheet changes: a photograph whose patient revoked consent is in them without
its image. This module removes the files that no stage rewrites: attempts beyond the configured number, shards that are
no longer planned, unfinished files of killed runs, images that jobs wrote for a release, and pages that show originals
(the rules images and report make them again).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from deidlib.storage.results import Results, attempt_number

#: Names of atomic temporary files that a killed tables.write leaves: ".photos.parquet." and a random end.
_UNFINISHED = re.compile(r"\.[^/]+\.(parquet|json|tsv)\.[^/]+")


def drop_leftovers(private: Path, shards: Iterable[str], attempts: Callable[[str], int]) -> list[str]:
    """Remove what belongs to no shard, attempt or finished table of this run, and pages of earlier reports.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shards : iterable of str
        Names of the planned shards.
    attempts : callable
        Gives the number of attempts of a shard.

    Returns
    -------
    list of str
        What was removed, relative to ``private``.
    """
    removed, shards = sorted(private.glob("*.html")), set(shards)
    removed += Results(private).release_parts()
    for folder in sorted(Results(private).shards.glob("*/")):
        if folder.name not in shards:
            removed.append(folder)
            continue
        most = attempts(folder.name)
        for path in sorted(folder.rglob("*")):
            number = attempt_number(path.name)
            beyond = path.is_dir() and number is not None and number >= most
            if beyond or (path.is_file() and _UNFINISHED.fullmatch(path.name)):
                removed.append(path)
    for path in removed:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return [path.relative_to(private).as_posix() for path in removed]
