"""Tombstones: ids that earlier versions held and this one does not, for recipients to delete.

A photograph is gone when its patient revoked consent, when it was taken out of the sheet, or when it no longer passes
the gate. The list in a version's folder (``tombstones.txt``) names release ids alone, one a line and sorted, without
saying why: those of the photographs, and a patient's own where no photograph of theirs is left. It is cumulative, so a
recipient of any earlier version needs only the newest list. An id that is released again is removed from the list. If
no version is written, because no photograph passed or the release gate failed, the same list lies beside the audit. So
recipients can delete the data of a withdrawn patient before the next version exists.

Earlier releases are read from the versions beside the new one, and from a private ledger (``released.parquet``:
pseudonyms alone), because an institution should remove a version that holds a withdrawn patient.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.errors import InputError, ReleaseError
from deidlib.release.decision import WAITING
from deidlib.release.files import write_synced
from deidlib.release.layout import INDEX_FILE, TOMBSTONES_FILE
from deidlib.release.reading import read_bytes, read_index
from deidlib.release.versions import precedence, versions_in
from deidlib.storage import tables
from deidlib.storage.results import Results


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
    return sorted(_named_before(private, release_root, lambda name: precedence(name) < below) - _ids(index))


def write_owed_tombstones(private: Path, release_root: Path, folder: Path) -> int:
    """Write ``tombstones.txt`` if no version is written: ids of any version that are not to be released again.

    Parameters
    ----------
    private, release_root
        As for :func:`tombstones`; the crosswalk names photographs that only the release gate, or a review in progress,
        held back: these are not on the list.
    folder : Path
        Where the list goes; a former list there is removed if nothing is to be deleted.

    Returns
    -------
    int
        Number of ids on the list.
    """
    crosswalk = tables.read(Results(private).crosswalk, tables.CROSSWALK)
    waiting = crosswalk.filter(pc.is_in(crosswalk["reason"], pa.array(WAITING)))
    owed = sorted(_named_before(private, release_root, lambda name: True) - _ids(waiting))
    (folder / TOMBSTONES_FILE).unlink(missing_ok=True)
    if owed:
        write_synced(folder / TOMBSTONES_FILE, tombstones_text(owed).encode())
    return len(owed)


def record_release(private: Path, version: str, index: pa.Table) -> None:
    """Note in the private ledger what a version released for the first time."""
    ledger = _read_ledger(private)
    known = pc.is_in(index["release_photo_id"], value_set=ledger["release_photo_id"].combine_chunks())
    added = index.filter(pc.invert(known)).select(["release_photo_id", "release_patient_id"])
    added = added.append_column("version", pa.array([version] * added.num_rows, pa.string()))
    both = pa.concat_tables([ledger, added.select(tables.RELEASED.names).cast(tables.RELEASED)])
    path = Results(private).ledger
    tables.write(both.sort_by("release_photo_id"), path, tables.RELEASED)
    path.chmod(0o600)


def read_tombstones(folder: Path) -> list[str]:
    """Ids of a release's list, in its order.

    Raises
    ------
    ValueError
        There is none, or it holds something else than sorted ids, each once.
    """
    try:
        text = read_bytes(folder, TOMBSTONES_FILE).decode("ascii")
    except ValueError:
        raise InputError(f"{TOMBSTONES_FILE}: missing or not a list of ids") from None
    ids = text.split("\n")[:-1]
    if text != tombstones_text(ids) or ids != sorted(set(ids)) or not all(tables.is_pseudonym(name) for name in ids):
        raise InputError(f"{TOMBSTONES_FILE}: holds something else than release ids, sorted, each once")
    return ids


def tombstones_text(ids: list[str]) -> str:
    """Write ids as the text of ``tombstones.txt``."""
    return "".join(f"{name}\n" for name in ids)


def _named_before(private: Path, release_root: Path, counts: Callable[[str], bool]) -> set[str]:
    """Ids that the versions which count named, by the ledger and by their folders."""
    ledger = _read_ledger(private)
    before = [name for name in pc.unique(ledger["version"]).to_pylist() if counts(name)]
    earlier = _ids(ledger.filter(pc.is_in(ledger["version"], value_set=pa.array(before, pa.string()))))
    for name in filter(counts, versions_in(release_root)):
        earlier |= _ids_of_folder(release_root / name)
    return earlier


def _ids(index: pa.Table) -> set[str]:
    return set(index["release_photo_id"].to_pylist()) | set(index["release_patient_id"].to_pylist())


def _read_ledger(private: Path) -> pa.Table:
    try:
        return tables.read(Results(private).ledger, tables.RELEASED).cast(tables.RELEASED)
    except FileNotFoundError:
        return tables.RELEASED.empty_table()
    except (pa.ArrowInvalid, OSError, ValueError):
        raise ReleaseError(
            "released.parquet of the private folder is damaged. It lists what was released before, which recipients "
            "may have to delete. Restore it from a backup. You may delete it only if every released version is still "
            "in the release folder"
        ) from None


def _ids_of_folder(folder: Path) -> set[str]:
    try:
        return _ids(read_index(folder)) | set(read_tombstones(folder))
    except (ValueError, KeyError):
        raise ReleaseError(
            f"version {folder.name} in the release folder is damaged ({INDEX_FILE} or {TOMBSTONES_FILE}), so it is not "
            "known what it released; restore it from a copy, or remove it if released.parquet of the private folder "
            "is there, which remembers its ids"
        ) from None
