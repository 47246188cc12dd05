"""Attempts: which photographs the next one handles and how, and which one is released.

A photograph that fails first goes on from where it is, with the same donor, and its patient's others stay as they are.
Only if that fails too, or cannot help, all of them get a new donor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.contract.routes import INTRAORAL, REGION_ONLY
from deidlib.inversion.going_on import can_go_on

#: The column that groups photographs with one new face, by the config's ``identity``.
GROUP_COLUMN = {"per_patient": "release_patient_id", "per_photo": "release_photo_id"}


class NextAttempt(NamedTuple):
    """What an attempt handles, by ``release_photo_id``."""

    going_on: dict[str, list[str]]  # photographs that go on with their donor → the checks that they failed
    new_donor: set[str]  # photographs that get a new donor


def failing(checks: pa.Table) -> pa.Table:
    """Rows of ``tables.CHECKS`` that did not pass and that another attempt may help.

    A photograph without a generated face has one attempt, because a second one would give the same result.
    """
    without_face = pc.fill_null(pc.is_in(checks["route"], pa.array([REGION_ONLY, INTRAORAL])), False)
    return checks.filter(pc.invert(pc.or_(without_face, pc.fill_null(checks["passed"], False))))


def next_attempt(checks: pa.Table, donors: pa.Table, photos: pa.Table, identity: str) -> NextAttempt:
    """What the attempt after ``checks`` handles.

    Photographs that failed with a new donor go on with it, if a term of the objective opposes each check that failed
    (:func:`deidlib.inversion.going_on.can_go_on`); those that passed with it are left alone. If one of them cannot go
    on, or has failed again, all that show the same new person get a new donor.

    Parameters
    ----------
    checks, donors : Table
        ``tables.CHECKS``, and ``release_photo_id`` and ``start`` of ``tables.DONORS``, of the attempt before.
    photos : Table
        ``release_photo_id`` and ``release_patient_id`` of the whole shard.
    identity : str
        ``per_patient`` or ``per_photo``.
    """
    fresh = set(donors.filter(pc.is_null(donors["start"]))["release_photo_id"].to_pylist())
    failed = {row["release_photo_id"]: row["failed"] for row in failing(checks).to_pylist()}
    stuck = [photo_id for photo_id, names in failed.items() if photo_id not in fresh or not can_go_on(names)]
    moved = with_their_group(stuck, photos, identity)
    return NextAttempt({photo_id: names for photo_id, names in failed.items() if photo_id not in moved}, moved)


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


def released_attempts(
    members: Iterable[tuple[str, str]], passed: Mapping[str, Mapping[int, str | None]]
) -> dict[str, int]:
    """The attempt at which each photograph is released: one donor serves a group, the one with which most of it passes.

    Of equal donors the first that a photograph passed with is taken, and of a photograph's attempts with that donor the
    first that it passed.

    Parameters
    ----------
    members : iterable of (release_photo_id, group)
        The photographs and the group (``GROUP_COLUMN``) of each.
    passed : mapping
        ``release_photo_id`` → the attempts that it passed → their donor; None where there is none, so that each attempt
        stands for itself.

    Returns
    -------
    dict
        ``release_photo_id`` → attempt; photographs that did not pass with the donor of their group are left out.
    """
    found: dict[str, dict[str | int, dict[str, int]]] = {}  # group → donor → photograph → first attempt
    for photo_id, group in members:
        for attempt, donor in sorted(passed.get(photo_id, {}).items()):
            with_donor = found.setdefault(group, {}).setdefault(attempt if donor is None else donor, {})
            with_donor.setdefault(photo_id, attempt)
    chosen: dict[str, int] = {}
    for donors in found.values():
        chosen |= min(donors.values(), key=lambda photos: (-len(photos), min(photos.values())))
    return chosen
