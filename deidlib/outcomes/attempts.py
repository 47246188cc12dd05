"""Attempts: which photographs the next one handles, and which one is released."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.contract.routes import INTRAORAL, REGION_ONLY

#: The column that groups photographs with one new face, by the config's ``identity``.
GROUP_COLUMN = {"per_patient": "release_patient_id", "per_photo": "release_photo_id"}


def photos_to_retry(checks: pa.Table, identity: str) -> set[str]:
    """Photographs, by ``release_photo_id``, that the attempt after ``checks`` handles.

    With ``per_patient``, these are all photographs of a patient as soon as one fails, since all must show the new
    donor. With ``per_photo``, these are the photographs that failed. A photograph without a generated face has one
    attempt, because a second one would give the same result.
    """
    checks = checks.filter(pc.invert(pc.is_in(checks["route"], pa.array([REGION_ONLY, INTRAORAL]))))
    rows = checks.select(["release_photo_id", "release_patient_id", "passed"]).to_pylist()
    group = GROUP_COLUMN[identity]
    again = {row[group] for row in rows if row["passed"] is not True}
    return {row["release_photo_id"] for row in rows if row[group] in again}


def with_their_group(photo_ids: Iterable[str], photos: pa.Table, identity: str) -> set[str]:
    """These photographs and all that show the same new person, by ``release_photo_id``.

    Parameters
    ----------
    photo_ids : iterable of str
        Photographs.
    photos : Table
        ``release_photo_id`` and ``release_patient_id`` of the whole shard.
    identity : str
        ``per_patient`` or ``per_photo``.
    """
    rows, group = photos.to_pylist(), GROUP_COLUMN[identity]
    wanted = set(photo_ids)
    groups = {row[group] for row in rows if row["release_photo_id"] in wanted}
    return {row["release_photo_id"] for row in rows if row[group] in groups}


def released_attempts(members: Iterable[tuple[str, str]], passed: Mapping[str, set[int]]) -> dict[str, int]:
    """The attempt at which each group of photographs is released: the first one at which most of them pass.

    Parameters
    ----------
    members : iterable of (release_photo_id, group)
        The photographs and the group (``GROUP_COLUMN``) of each.
    passed : mapping
        Attempts that a photograph passed, by ``release_photo_id``.

    Returns
    -------
    dict
        Group to attempt; groups without a passing photograph are left out.
    """
    votes: dict[str, Counter] = {}
    for photo_id, group in members:
        votes.setdefault(group, Counter()).update(passed.get(photo_id, ()))
    return {group: min(count, key=lambda a: (-count[a], a)) for group, count in votes.items() if count}
