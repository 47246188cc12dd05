"""Tombstones: what earlier versions held and this one does not, for recipients to delete.

A photograph is gone when its patient revoked consent, when it was taken out of the sheet, or when it no longer passes
the gate. The list in a version's folder (``tombstones.txt``) names release ids alone, one a line and sorted, without
saying why: those of the photographs, and a patient's own where no photograph of theirs is left. It is cumulative, so
a recipient of any earlier version needs only the newest list. An id that is released again is on it no longer.

What was released before is read from the versions that lie beside the new one, and from a private ledger
(``released.parquet``: pseudonyms alone), because a version that holds a withdrawn patient is best removed.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from deidlib import tables
from deidlib.release.errors import ReleaseError
from deidlib.release.layout import INDEX_FILE, TOMBSTONES_FILE, read_index
from deidlib.release.versions import precedence, versions_in

LEDGER_FILE = "released.parquet"


def tombstones(private: Path, release_root: Path, version: str, index: pa.Table) -> list[str]:
    """Release ids that versions below ``version`` named and ``index`` does not, sorted.

    Parameters
    ----------
    private : Path
        The results' private folder, which holds the ledger once something was released.
    release_root : Path
        Folder of all versions.
    version : str
        The version that is written.
    index : pa.Table
        Its index.

    Raises
    ------
    ReleaseError
        An earlier version's index is damaged and the ledger does not know that version.
    """
    below = precedence(version)
    known = _read_ledger(private)
    earlier: set[str] = set()
    for name, ids in known.items():
        if precedence(name) < below:
            earlier |= ids
    for name in versions_in(release_root):
        if precedence(name) < below:
            earlier |= _ids_of_folder(release_root / name, name in known)
    return sorted(earlier - _ids(index))


def record_release(private: Path, version: str, index: pa.Table) -> None:
    """Note in the private ledger which ids a version released."""
    path = private / LEDGER_FILE
    rows = [] if not path.is_file() else tables.read(path, tables.RELEASED).to_pylist()
    rows = [row for row in rows if row["version"] != version]
    rows += [
        {"version": version, **row} for row in index.select(["release_photo_id", "release_patient_id"]).to_pylist()
    ]
    rows.sort(key=lambda row: (precedence(row["version"]), row["release_photo_id"]))
    tables.write(tables.from_rows(rows, tables.RELEASED), path, tables.RELEASED)
    path.chmod(0o600)


def read_tombstones(folder: Path) -> list[str]:
    """Ids of a release's list, in its order.

    Raises
    ------
    ValueError
        There is none, or it holds something else than sorted ids, each once.
    """
    try:
        text = (folder / TOMBSTONES_FILE).read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{TOMBSTONES_FILE}: missing or not a list of ids") from None
    ids = text.split("\n")[:-1]
    if text != tombstones_text(ids) or ids != sorted(set(ids)) or not all(tables.is_pseudonym(name) for name in ids):
        raise ValueError(f"{TOMBSTONES_FILE}: holds something else than release ids, sorted, each once")
    return ids


def tombstones_text(ids: list[str]) -> str:
    """Write ids as the text of ``tombstones.txt``."""
    return "".join(f"{name}\n" for name in ids)


def _ids(index: pa.Table) -> set[str]:
    return set(index["release_photo_id"].to_pylist()) | set(index["release_patient_id"].to_pylist())


def _read_ledger(private: Path) -> dict[str, set[str]]:
    try:
        rows = tables.read(private / LEDGER_FILE, tables.RELEASED).to_pylist()
    except FileNotFoundError:
        return {}
    except (pa.ArrowInvalid, OSError, ValueError):
        raise ReleaseError(
            f"{LEDGER_FILE} of the private folder is damaged. It says what was released before, so that recipients can "
            "be told what to delete. Restore it from a backup; only if every released version still lies in the "
            "release folder may you delete it"
        ) from None
    known: dict[str, set[str]] = {}
    for row in rows:
        known.setdefault(row["version"], set()).update((row["release_photo_id"], row["release_patient_id"]))
    return known


def _ids_of_folder(folder: Path, known: bool) -> set[str]:
    try:
        return _ids(read_index(folder)) | set(read_tombstones(folder))
    except (ValueError, KeyError):
        if known:
            return set()
        raise ReleaseError(
            f"version {folder.name} in the release folder is damaged ({INDEX_FILE} or {TOMBSTONES_FILE}), so what it "
            "released cannot be told; restore it from a copy, or remove it if nobody has received it"
        ) from None
