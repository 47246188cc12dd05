"""Several jobs examine a finished release's images: each reads some, and the stage ``report`` takes what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from deidlib.errors import InputError
from deidlib.release.layout import SUMS_FILE
from deidlib.release.reading import digest, read_index
from deidlib.release.verify import Examined, examine_images
from deidlib.storage import sealed, tables
from deidlib.storage.shares import dealt

_RELEASE = "release"


def write_examined(release: Path, out: Path, part: tuple[int, int]) -> int:
    """Examine a part of a release's images and write ``tables.EXAMINED``; returns the number of images.

    Parameters
    ----------
    release : Path
        A version's folder.
    out : Path
        Table to write.
    part : (int, int)
        Number of the part, from 0, and how many there are.
    """
    sums = digest(release, SUMS_FILE)
    paths = dealt(sorted(path for path in read_index(release)["path"].to_pylist() if path), part)
    rows = [_row(path, one) for path, one in examine_images(release, paths)]
    with tables.writing(out, tables.EXAMINED, lambda: {_RELEASE: sums}) as append:
        append(tables.from_rows(rows, tables.EXAMINED))
    return len(rows)


def read_examined(release: Path, files: Sequence[Path]) -> Mapping[str, Examined]:
    """What jobs found in the images of a release, by path.

    Raises
    ------
    InputError
        A table is about another release.
    """
    found: dict[str, Examined] = {}
    sums = digest(release, SUMS_FILE) if files else ""
    for path in files:
        with sealed.opened(path) as file:
            if file.notes.get(_RELEASE) != sums:
                raise InputError(
                    f"examination {path.stem} is about another release: delete its file and run the workflow again"
                )
        for row in tables.read(path, tables.EXAMINED).to_pylist():
            size = None if row["width"] is None else (row["width"], row["height"])
            found[row["path"]] = Examined(row["bytes"], row["sha256"], size, row["problems"])
    return found


def _row(path: str, one: Examined) -> dict:
    width, height = one.size or (None, None)
    about = {"path": path, "bytes": one.bytes, "sha256": one.sha256}
    return about | {"width": width, "height": height, "problems": one.problems}
