"""Pairs of photographs: those of one patient, and the scores of any pairs, in blocks that fit the processor's cache."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deidlib.reid.embeddings import Faces

#: Pairs that are compared together.
AT_ONCE = 1024


class Owned(NamedTuple):
    """Photographs of a gallery by patient.

    Attributes
    ----------
    owners : ndarray, (P,), str
        Patients, sorted.
    first, count : ndarray, (P,), int
        Where the photographs of each begin in ``order``, and how many there are.
    order : ndarray, (N,), int
        Places in the gallery.
    """

    owners: np.ndarray
    first: np.ndarray
    count: np.ndarray
    order: np.ndarray

    def entries(self, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (place in ``patients``, place in the gallery) of one patient, in the order of ``patients``."""
        if not len(self.owners):
            return np.zeros(0, int), np.zeros(0, int)
        place = np.minimum(np.searchsorted(self.owners, patients), len(self.owners) - 1)
        number = np.where(self.owners[place] == patients, self.count[place], 0)
        of_row, at = spread(self.first[place], number)
        return of_row, self.order[at]


def owned(gallery: Faces) -> Owned:
    """Sort a gallery by patient; photographs of one patient keep their order."""
    order = np.argsort(gallery.patients, kind="stable")
    return Owned(*np.unique(gallery.patients[order], return_index=True, return_counts=True), order)


def spread(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the places from ``first`` on, ``count`` of them: (rows, places)."""
    of_row = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(of_row)) - np.repeat(np.cumsum(count) - count, count)
    return of_row, np.repeat(first, count) + within


class Pairs(NamedTuple):
    """Pairs of a probe and a gallery photograph of the same patient, in the order of the probes.

    Attributes
    ----------
    probe, entry : ndarray, (N,), int
        Places in the two.
    own : ndarray, (N,), bool
        Whether both are of the same photograph.
    """

    probe: np.ndarray
    entry: np.ndarray
    own: np.ndarray


def pairs_of_patient(probes: Faces, gallery: Faces) -> Pairs:
    """All pairs of a probe and a gallery photograph of the same patient."""
    probe, entry = owned(gallery).entries(probes.patients)
    return Pairs(probe, entry, probes.photos[probe] == gallery.photos[entry])


def compared(a: np.ndarray, b: np.ndarray, same_above: bool) -> np.ndarray:
    """Scores, (N,), of the pairs of rows of two arrays (N, D)."""
    if same_above:
        return np.einsum("nd,nd->n", a, b)
    return np.linalg.norm(a - b, axis=1)


def scores_of_pairs(
    a: np.ndarray, rows_of_a: np.ndarray, b: np.ndarray, rows_of_b: np.ndarray, same_above: bool
) -> np.ndarray:
    """Scores, (N,), of pairs of rows of two arrays, (P, D) and (G, D), which are given by their places."""
    blocks = (slice(start, start + AT_ONCE) for start in range(0, len(rows_of_a), AT_ONCE))
    parts = [compared(a[rows_of_a[block]], b[rows_of_b[block]], same_above) for block in blocks]
    return np.concatenate(parts) if parts else np.zeros(0)
