"""Every probe against every gallery entry, by counting: ranks of the patient, and the most alike impostor.

A rank is one more than the number of impostors that are more alike than the patient, so nothing is sorted. Counts of
blocks of the gallery add up, and probes do not depend on each other. So jobs can share a search: each takes some blocks
of probes. Blocks have the same edges however many jobs there are, and therefore the same scores, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from deidlib.reid.embeddings import Faces
from deidlib.reid.pairs import owned
from deidlib.reid.search import PROBE_BLOCK, alikeness

#: Scores that are in memory at a time: 128 MiB.
SCORES_AT_ONCE = 2**25
#: Gallery entries that are compared at a time.
GALLERY_AT_ONCE = 32_768


@dataclass(frozen=True)
class Pairing:
    """A search to be done: all probes, each among all of a gallery.

    Attributes
    ----------
    name : str
        Names it among all searches of a cohort.
    probes, gallery : Faces
        Embeddings of one kind by one recogniser.
    same_above : bool
        Whether a higher score is more alike.
    crowd : ndarray, (C, D), or None
        Other people who are added to the gallery.
    ranked : bool
        Only probes whose patient is in the gallery are searched, and their ranks counted; else all probes are, for the
        most alike impostor alone.
    """

    name: str
    probes: Faces
    gallery: Faces
    same_above: bool
    crowd: np.ndarray | None = None
    ranked: bool = True

    @cached_property
    def mates(self) -> np.ndarray:
        """Number of gallery entries of each probe's patient, (P,)."""
        owners, count = np.unique(self.gallery.patients, return_counts=True)
        if not len(owners):
            return np.zeros(len(self.probes), int)
        place = np.minimum(np.searchsorted(owners, self.probes.patients), len(owners) - 1)
        return np.where(owners[place] == self.probes.patients, count[place], 0)

    @cached_property
    def rows(self) -> np.ndarray:
        """Places of the probes that are searched."""
        return np.flatnonzero(self.mates > 0) if self.ranked else np.arange(len(self.probes))

    @property
    def impostors(self) -> np.ndarray:
        """Number of gallery entries that are not of the probe's patient, the crowd left out, (P,)."""
        return len(self.gallery) - self.mates

    @property
    def size(self) -> int:
        """Entries of the gallery, with the crowd."""
        return len(self.gallery) + (0 if self.crowd is None else len(self.crowd))

    def named(self) -> Pairing:
        """The same without the vectors of probes and gallery, which are large."""
        return replace(self, probes=self.probes.named(), gallery=self.gallery.named())

    def blocks(self) -> list[slice]:
        """Cut :attr:`rows` into the blocks that are compared at a time."""
        at_once = min(PROBE_BLOCK, max(SCORES_AT_ONCE // GALLERY_AT_ONCE, SCORES_AT_ONCE // max(self.size, 1)))
        return [slice(start, min(len(self.rows), start + at_once)) for start in range(0, len(self.rows), at_once)]

    def entries(self, start: int, stop: int) -> np.ndarray:
        """Embeddings of the gallery with the crowd behind it, from ``start`` to ``stop``."""
        n = len(self.gallery)
        parts = [self.gallery.vectors[start : min(stop, n)]]
        if self.crowd is not None and stop > n:
            parts.append(self.crowd[max(start - n, 0) : stop - n])
        parts = [part for part in parts if len(part)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Numbers:
    """What is counted for each probe that is searched.

    Attributes
    ----------
    row : ndarray, (N,), int64
        Place of the probe.
    alone, crowd : ndarray, (N,), float64
        Place of the patient's most alike entry in the gallery, 1 being the top: without and with the crowd.
    other : ndarray, (N,), float64
        As ``alone``, with the photograph that the probe was made of taken out; inf where the patient has no other.
    mate, other_mate : ndarray, (N,), float32
        How alike the patient's most alike entry is (the negative of a distance); with that photograph taken out; −inf
        where there is none.
    impostor, crowd_impostor : ndarray, (N,), float32
        How alike the most alike other person is: without and with the crowd; −inf where there is none.
    """

    row: np.ndarray
    alone: np.ndarray
    crowd: np.ndarray
    other: np.ndarray
    mate: np.ndarray
    other_mate: np.ndarray
    impostor: np.ndarray
    crowd_impostor: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


#: Gives the numbers of a search: :func:`compare`, or what jobs made of it.
Compare = Callable[[Pairing], Numbers]


def compare(pairing: Pairing, blocks: slice = slice(None)) -> Numbers:
    """Do a search, or a part of it.

    Parameters
    ----------
    pairing : Pairing
        The search.
    blocks : slice
        Which of :meth:`Pairing.blocks`. All parts together, by :func:`merged`, are the whole search, bit for bit.
    """
    by_patient = owned(pairing.gallery)
    found = []
    for block in pairing.blocks()[blocks]:
        rows = pairing.rows[block]
        found.append(_counted(pairing, rows, *by_patient.entries(pairing.probes.patients[rows])))
    return merged(found)


def merged(parts: Sequence[Numbers]) -> Numbers:
    """Join parts of a search, in the order of their probes; none are a search without probes."""
    ranks, scores = np.zeros(0), np.zeros(0, np.float32)
    parts = [Numbers(np.zeros(0, np.int64), ranks, ranks, ranks, scores, scores, scores, scores), *parts]
    order = np.argsort(np.concatenate([part.row for part in parts]), kind="stable")
    return Numbers(*(np.concatenate([getattr(part, one.name) for part in parts])[order] for one in fields(Numbers)))


def _counted(pairing: Pairing, rows: np.ndarray, of_row: np.ndarray, entries: np.ndarray) -> Numbers:
    """Numbers of one block of probes; ``of_row`` and ``entries`` are the pairs of one patient."""
    n, probes = len(rows), pairing.probes.vectors[rows]
    again = pairing.gallery.photos[entries] != pairing.probes.photos[rows][of_row]
    mate, other_mate = (np.full(n, -np.inf, np.float32) for _ in range(2))
    kept: dict[int, np.ndarray] = {}
    if pairing.ranked:  # the patients' own entries first, since ranks are counted against them
        for start in np.unique(entries // GALLERY_AT_ONCE * GALLERY_AT_ONCE).tolist():
            kept = {start: _alike(pairing, probes, start)}
            here = (entries >= start) & (entries < start + GALLERY_AT_ONCE)
            scores = kept[start][of_row[here], entries[here] - start]
            np.maximum.at(mate, of_row[here], scores)
            np.maximum.at(other_mate, of_row[here][again[here]], scores[again[here]])
    counts = np.zeros((3, n))
    best = np.full((2, n), -np.inf, np.float32)
    for start in range(0, pairing.size, GALLERY_AT_ONCE):
        alike = kept.pop(start) if start in kept else _alike(pairing, probes, start)
        here = (entries >= start) & (entries < start + GALLERY_AT_ONCE)
        alike[of_row[here], entries[here] - start] = -np.inf
        cut = max(len(pairing.gallery) - start, 0)
        own, crowd = alike[:, :cut], alike[:, cut:]
        if pairing.ranked:
            for k, (part, limit) in enumerate(((own, mate), (own, other_mate), (crowd, mate))):
                if part.shape[1]:
                    counts[k] += np.count_nonzero(part > limit[:, None], axis=1)
        for k, part in enumerate((own, crowd)):
            if part.shape[1]:
                np.maximum(best[k], part.max(axis=1), out=best[k])
    ranks = (
        np.where(np.isfinite(limit), 1.0 + number, np.inf)
        for limit, number in ((mate, counts[0]), (mate, counts[0] + counts[2]), (other_mate, counts[1]))
    )
    return Numbers(rows.astype(np.int64), *ranks, mate, other_mate, best[0], best.max(axis=0))


def _alike(pairing: Pairing, probes: np.ndarray, start: int) -> np.ndarray:
    stop = min(start + GALLERY_AT_ONCE, pairing.size)
    return alikeness(probes, pairing.entries(start, stop), pairing.same_above)
