"""Resolves the paths in the sheet, and refuses those that lead out of its folder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa


def files_of(folder: Path, cells: Mapping[str, pa.Array]) -> tuple[list[str | None], dict[int, str | None]]:
    """Real paths of a sheet's photographs, and of its masks by row index; None: outside the folder.

    Parameters
    ----------
    folder : Path
        The sheet's folder.
    cells : mapping
        Its columns ``path`` and ``mask``.
    """
    real, parents = os.path.realpath(folder), {}
    photos = [resolve_inside(real, path, parents) for path in cells["path"].to_pylist()]
    masks = enumerate(cells["mask"].to_pylist())
    return photos, {at: resolve_inside(real, mask, parents) for at, mask in masks if mask is not None}


def resolve_inside(folder: str, path: str, parents: dict[str, str | None]) -> str | None:
    """Real path of a sheet's file, or None where it leaves the sheet's folder.

    Parameters
    ----------
    folder : str
        Real path of the sheet's folder.
    path : str
        Path relative to it. Absolute paths, ``..`` and symbolic links that lead outside give None. If there is no
        such file, the path is tried with ``/`` for a backslash, and in Unicode's other form (NFC, NFD).
    parents : dict
        Cache of resolved parent folders; pass the same one for all paths of a folder.
    """
    written = spellings(path)
    if any(one.startswith("/") or ".." in one.split("/") for one in written):
        return None
    if len(written) > 1:
        path = next((one for one in written if os.path.lexists(os.path.join(folder, one))), path)
    parent, _, name = path.rpartition("/")
    if parent not in parents:
        real = os.path.realpath(os.path.join(folder, parent))
        parents[parent] = real if _within(folder, real) else None
    if parents[parent] is None:
        return None
    full = os.path.join(parents[parent], name)
    if os.path.islink(full):
        full = os.path.realpath(full)
    return full if _within(folder, full) else None


def spellings(path: str) -> list[str]:
    """A path as it is written, then with ``/`` for backslashes, each also composed (NFC) and decomposed (NFD)."""
    if path.isascii() and "\\" not in path:
        return [path]
    slashes = [path, path.replace("\\", "/")]
    forms = [unicodedata.normalize(form, one) for form in ("NFC", "NFD") for one in slashes]
    return list(dict.fromkeys([*slashes, *forms]))


def _within(folder: str, file: str) -> bool:
    return file == folder or file.startswith(folder.rstrip("/") + "/")
