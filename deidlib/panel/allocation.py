"""Allocation of pictures to raters and sessions, balanced and drawn from one seed. Pure functions over numbers."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np


def seeded_rng(seed: int, *parts: str | int) -> np.random.Generator:
    """Random generator that depends on the study's seed and on what it is for (HMAC-SHA-256)."""
    text = "\0".join(map(str, parts)).encode()
    return np.random.default_rng(
        int.from_bytes(hmac.digest(f"deidlib panel {seed}".encode(), text, hashlib.sha256), "big")
    )


def versions(n_items: int, n_raters: int, rng: np.random.Generator) -> np.ndarray:
    """Which of two versions of each item a rater sees (first).

    Every rater sees half of the items in each version, and every item is seen in each version by half of the raters, to
    within one.

    Returns
    -------
    ndarray, (raters, items), int
        0 or 1.
    """
    items, raters = rng.permutation(n_items), rng.permutation(n_raters)
    return (items[None, :] + raters[:, None]) % 2


def orders(n_items: int, n_raters: int, rng: np.random.Generator) -> np.ndarray:
    """Order in which each rater sees the items: (raters, items), a permutation a row.

    The items are dealt into as many groups as there are raters. The groups come in the order of a Latin square, and
    the items of a group in an order of the rater's own: every item comes early, in the middle and late equally often.
    """
    groups = np.array_split(rng.permutation(n_items), n_raters)
    start = rng.permutation(n_raters)
    return np.array(
        [np.concatenate([rng.permutation(groups[(first + k) % n_raters]) for k in range(n_raters)]) for first in start]
    )


def with_repeats(order: np.ndarray, share: float, rng: np.random.Generator) -> list[tuple[int, bool]]:
    """Order of a session in which some items come a second time.

    Repeats are drawn from the first third and shown in the second half, at least a sixth of the session later.

    Returns
    -------
    list of (int, bool)
        Item, and whether it is the second time.
    """
    n = len(order)
    repeats = rng.choice(order[: n // 3], min(round(share * n), n // 3), replace=False) if n >= 3 else []
    late = [*((int(item), False) for item in order[n // 2 :]), *((int(item), True) for item in repeats)]
    late = [late[place] for place in rng.permutation(len(late))]
    return [*((int(item), False) for item in order[: n // 2]), *late]


def positions(n_items: int, n_raters: int, n_choices: int, rng: np.random.Generator) -> np.ndarray:
    """Place of the right choice, (raters, items) in 0 … n_choices − 1.

    For each rater every place is right equally often, to within one; for each item it moves from rater to rater.
    """
    first = rng.permutation(np.arange(n_items) % n_choices)
    return (first[None, :] + rng.permutation(n_raters)[:, None]) % n_choices


def line_up(
    target: int, patients: np.ndarray, look: np.ndarray, n_lures: int, rng: np.random.Generator, spare: int = 3
) -> np.ndarray:
    """Photographs of other patients who look most like the target.

    Parameters
    ----------
    target : int
        Row of the target.
    patients : ndarray, (n,)
        Patient of each photograph.
    look : ndarray, (n, d), float
        Their look in comparable units; NaN: not known, which counts as a difference of one unit.
    n_lures : int
        Number of other patients in the line-up.
    rng : Generator
        Draws ``n_lures`` of the ``n_lures + spare`` most similar patients.

    Returns
    -------
    ndarray, (n_lures,), int
        Rows, one a patient.

    Raises
    ------
    ValueError
        There are too few other patients.
    """
    distance = np.nan_to_num(np.abs(look - look[target]), nan=1.0).sum(axis=1)
    nearest: dict = {}
    for row in np.argsort(distance, kind="stable"):
        if patients[row] != patients[target]:
            nearest.setdefault(patients[row], int(row))
    rows = list(nearest.values())
    if len(rows) < n_lures:
        raise ValueError(f"a line-up needs {n_lures} other patients; there are {len(rows)}")
    return rng.choice(rows[: n_lures + spare], n_lures, replace=False)


def spread(patients: list[str], n: int, rng: np.random.Generator) -> list[int]:
    """Rows of ``n`` photographs: one of every patient first, in random order, then second ones."""
    seen: dict[str, int] = {}
    rank = []
    for row in rng.permutation(len(patients)):
        nth = seen.get(patients[row], 0)
        seen[patients[row]] = nth + 1
        rank.append((nth, int(row)))
    return [row for _, row in sorted(rank, key=lambda one: one[0])[:n]]
