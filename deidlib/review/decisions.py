"""Reviewers' decisions: one line for each decision, one file for each shard, in the results' private folder.

Lines are only appended to ``private/review/SHARD.jsonl``, until a photograph leaves the cohort. A line is written in
one piece under a lock, and is on the disk before the page says so. A line without its end, left by a power failure, was
never confirmed and is dropped. A decision names the SHA-256 of the image that the reviewer saw, and counts for no other
image.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from deidlib.errors import InputError
from deidlib.storage.atomic import write_file
from deidlib.storage.results import Results

RELEASE, WITHHOLD, ANOTHER_FACE, AREA_WRONG, REOPEN = "release", "withhold", "another_face", "area_wrong", "reopen"
#: What a reviewer can decide. ``reopen`` takes the reviewer's own decision back.
KINDS = (RELEASE, WITHHOLD, ANOTHER_FACE, AREA_WRONG, REOPEN)
#: Decisions that keep the image out of the release.
AGAINST = (WITHHOLD, ANOTHER_FACE, AREA_WRONG)

#: Why a photograph is withheld: code → words for the page.
WITHHOLD_REASONS: dict[str, str] = {
    "recognisable": "I would recognise the patient",
    "detail": "Something in the picture points to the patient (jewellery, tattoo, text)",
    "unnatural": "The face looks unnatural",
    "dental": "Teeth, lips or midline are not shown as they are",
    "sheet": "Consent, view or identity in the sheet is in doubt",
    "other": "Another reason",
}

#: Roles that a reviewer can have. The audit states nothing else about a reviewer.
ROLES: tuple[str, ...] = (
    "clinician",
    "dentist",
    "orthodontist",
    "surgeon",
    "data_manager",
    "privacy_officer",
    "researcher",
    "other",
)

MOST_REVIEWERS = 2
LONGEST_NOTE = 500  # characters
_HIGHEST_ATTEMPT = 999
_PSEUDONYM = re.compile(r"[a-z2-7]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"s\d+")


@dataclass(frozen=True)
class Decision:
    """One reviewer's decision on one image.

    Attributes
    ----------
    photo : str
        ``release_photo_id``.
    sha256 : str
        Digest of the PNG that was shown.
    attempt : int
        The attempt that made this image.
    decision : str
        One of :data:`KINDS`.
    reason : str or None
        Key of :data:`WITHHOLD_REASONS`, with ``withhold`` alone.
    note : str
        The reviewer's own words; they stay in the private folder.
    role : str
        One of :data:`ROLES`.
    reviewer : int
        1 or 2: tells two reviewers apart without a name.
    time : str
        ISO 8601, UTC, to the second.
    """

    photo: str
    sha256: str
    attempt: int
    decision: str
    reason: str | None
    note: str
    role: str
    reviewer: int
    time: str


def now() -> str:
    """The time of a decision: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parse(row: Mapping, where: str = "decision") -> Decision:
    """Check a decision that came from a file or a browser.

    Raises
    ------
    InputError
        Names ``where`` and what is wrong, without quoting the content.
    """
    if not isinstance(row, dict) or set(row) != set(Decision.__annotations__):
        raise InputError(f"{where}: not a decision of this version of deidlib")
    rules = {
        "photo": isinstance(row["photo"], str) and _PSEUDONYM.fullmatch(row["photo"]) is not None,
        "sha256": isinstance(row["sha256"], str) and _SHA256.fullmatch(row["sha256"]) is not None,
        "attempt": _whole(row["attempt"], 0, _HIGHEST_ATTEMPT),
        "decision": row["decision"] in KINDS,
        "reason": (row["reason"] in WITHHOLD_REASONS) if row["decision"] == WITHHOLD else row["reason"] is None,
        "note": isinstance(row["note"], str) and len(row["note"]) <= LONGEST_NOTE,
        "role": row["role"] in ROLES,
        "reviewer": _whole(row["reviewer"], 1, MOST_REVIEWERS),
        "time": _is_time(row["time"]),
    }
    if wrong := [name for name, good in rules.items() if not good]:
        raise InputError(f"{where}: {', '.join(wrong)} cannot be used")
    return Decision(**row)


def decisions_file(private: Path, shard: str) -> Path:
    """Path of a shard's decisions."""
    if not _SHARD.fullmatch(shard):
        raise InputError("this is no name of a shard; names are like s0000")
    return Results(Path(private)).review / f"{shard}.jsonl"


def read_decisions(private: Path, shard: str) -> list[Decision]:
    """Decisions on a shard's photographs, in the order in which they were made; none where nobody looked.

    Raises
    ------
    InputError
        A line is damaged.
    """
    path = decisions_file(private, shard)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return list(_parsed(data, path.name))


def append_decisions(private: Path, shard: str, made: Iterable[Decision], seen: int | None = None) -> list[Decision]:
    """Add decisions to a shard's file, and wait until the disk has them.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shard : str
        Name of the shard.
    made : iterable of Decision
        What to add.
    seen : int or None
        Number of decisions in the file that the reviewer knew of. If one of the photographs got another decision by
        the same reviewer since, nothing is written.

    Returns
    -------
    list of Decision
        All decisions of the shard.

    Raises
    ------
    Overtaken
        See ``seen``.
    InputError
        The file is damaged.
    """
    path = decisions_file(private, shard)
    made = list(made)
    with _locked(path.parent):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            data = file.read()
            end = data.rfind(b"\n") + 1
            known = list(_parsed(data, path.name))
            if seen is not None:
                mine = {(decision.photo, decision.reviewer) for decision in made}
                if any((decision.photo, decision.reviewer) in mine for decision in known[seen:]):
                    raise Overtaken("this photograph was decided meanwhile in another window; look at it again")
            file.seek(end)
            file.truncate()
            file.write(b"".join(_line(decision) for decision in made))
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    return known + made


def drop_decisions(private: Path, shard: str, photos: Set[str]) -> int:
    """Remove all decisions on photographs that left the cohort: a reviewer's words may describe the patient.

    Parameters
    ----------
    private, shard
        As for :func:`append_decisions`.
    photos : set of str
        ``release_photo_id`` of these photographs.

    Returns
    -------
    int
        Number of decisions that were removed.
    """
    path = decisions_file(private, shard)
    if not any(decision.photo in photos for decision in read_decisions(private, shard)):
        return 0
    with _locked(path.parent):
        known = read_decisions(private, shard)
        kept = [decision for decision in known if decision.photo not in photos]
        write_file(path, b"".join(_line(decision) for decision in kept))
        if not kept:
            path.unlink()
    return len(known) - len(kept)


class Overtaken(InputError):
    """The same reviewer has decided in another window in the meantime."""


def shards_with_decisions(private: Path) -> list[str]:
    """Names of the shards on whose photographs somebody decided."""
    return sorted(file.stem for file in Results(Path(private)).review.glob("*.jsonl") if _SHARD.fullmatch(file.stem))


def by_photo(decisions: Sequence[Decision]) -> dict[str, list[Decision]]:
    """Decisions of each photograph, in their order."""
    found: dict[str, list[Decision]] = {}
    for decision in decisions:
        found.setdefault(decision.photo, []).append(decision)
    return found


def _line(decision: Decision) -> bytes:
    return (json.dumps(asdict(decision), sort_keys=True) + "\n").encode()


def _parsed(data: bytes, name: str) -> Iterator[Decision]:
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        where = f"private/review/{name}, line {number}"
        try:
            row = json.loads(line)
        except ValueError:
            raise InputError(f"{where}: damaged. Restore the file from a backup, or remove the line") from None
        yield parse(row, where)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Allow one writer at a time, also among several processes; the lock ends with its process."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    with open(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600), "rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            raise InputError(
                "the file system of the results has no locks, so decisions cannot be written safely; work on a copy of "
                "the results on a disk that has"
            ) from None
        yield


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole(value, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_time(value) -> bool:
    try:
        return isinstance(value, str) and len(value) <= 32 and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
