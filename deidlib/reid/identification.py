"""1:N attacks: whose photograph is this? Closed set (rank-k) and open set (FPIR, FNIR), as in ISO/IEC 19795-1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from deidlib.reid.embeddings import Faces
from deidlib.reid.search import PROBE_BLOCK, nearest

#: Up to so many gallery entries the rank of every mate is found; in a larger gallery up to rank :data:`LAST_RANK`.
FULL_RANKS = 20_000
LAST_RANK = 100
RANKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True)
class Search:
    """What the search of every enrolled probe gave.

    Attributes
    ----------
    patients : ndarray, (N,), str
        Whose probe it is.
    ranks : ndarray, (N,)
        Place of the patient's first photograph in the candidate list, 1 being the top; inf where it is beyond the list.
    mates : ndarray, (N,), int
        Photographs of the patient in the gallery.
    gallery : int
        Entries that a probe was searched among (mean, where the probe's own photograph was taken out).
    mate, impostor : ndarray, (N,)
        Most alike score of the patient's photographs, and of all others' (nan where the list holds none).
    """

    patients: np.ndarray
    ranks: np.ndarray
    mates: np.ndarray
    gallery: int
    mate: np.ndarray
    impostor: np.ndarray

    def chance(self, k: int) -> float | None:
        """Rate at which a random order has a photograph of the patient among the first k."""
        if not len(self.ranks):
            return None
        return float(np.mean(hypergeom.sf(0, self.gallery, self.mates, min(k, self.gallery))))

    def cmc(self) -> tuple[list[list[float]], list[list[float]]]:
        """Cumulative match characteristic and its chance level: [k, rate] up to the gallery's size."""
        last = self.gallery if self.gallery <= FULL_RANKS else LAST_RANK
        ks = sorted({k for k in RANKS if k <= last} | {last}) if len(self.ranks) else []
        return [[k, float(np.mean(self.ranks <= k))] for k in ks], [[k, self.chance(k)] for k in ks]


def search(
    probes: Faces, originals: Faces, distractors: np.ndarray | None, same_above: bool, drop_own: bool = False
) -> Search:
    """Search every probe whose patient is enrolled.

    Parameters
    ----------
    probes : Faces
        Released photographs.
    originals : Faces
        Photographs of the patients.
    distractors : ndarray, (G, D), or None
        Other people in the gallery.
    same_above : bool
        Whether a higher score is more alike.
    drop_own : bool
        Take the photograph that a probe was made of out of the gallery before it is searched.
    """
    count_of = dict(zip(*np.unique(originals.patients, return_counts=True), strict=True))
    at_home = np.isin(probes.photos, originals.photos)
    mates = np.array([count_of.get(patient, 0) for patient in probes.patients], int) - (at_home if drop_own else 0)
    enrolled = np.flatnonzero(mates > 0)
    crowd = distractors if distractors is not None else np.zeros((0, originals.vectors.shape[1]), np.float32)
    size = len(originals) + len(crowd)
    if not len(enrolled):
        return Search(probes.patients[:0], np.zeros(0), mates[:0], size, np.zeros(0), np.zeros(0))
    vectors = np.concatenate([originals.vectors, crowd])
    patients, photos = (
        np.concatenate([known, np.full(len(crowd), "")]) for known in (originals.patients, originals.photos)
    )
    whole = size <= FULL_RANKS
    longest, at_once = (size, 256) if whole else (LAST_RANK + max(count_of.values()), PROBE_BLOCK)
    parts = []
    for start in range(0, len(enrolled), at_once):
        rows = enrolled[start : start + at_once]
        scores, entries = nearest(probes.vectors[rows], vectors, longest, same_above)
        mate = patients[entries] == probes.patients[rows, None]
        dropped = (photos[entries] == probes.photos[rows, None]) & drop_own
        parts.append(_ranked(scores, mate & ~dropped, ~mate, same_above))
    gallery = size - int(drop_own and bool(at_home[enrolled].all()))
    return Search(probes.patients[enrolled], *_joined(parts, mates[enrolled], gallery))


def _joined(parts: list[tuple], mates: np.ndarray, gallery: int) -> tuple:
    ranks, mate, impostor = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ranks, mates, gallery, mate, impostor


def _ranked(
    scores: np.ndarray, mate: np.ndarray, impostor: np.ndarray, same_above: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of the first mate among impostors, and the best score of each, from candidate lists (N, k)."""
    worst = -np.inf if same_above else np.inf
    best = np.max if same_above else np.min
    of_mate, of_impostor = best(np.where(mate, scores, worst), axis=1), best(np.where(impostor, scores, worst), axis=1)
    better = scores > of_mate[:, None] if same_above else scores < of_mate[:, None]
    ranks = np.where(mate.any(axis=1), 1.0 + np.count_nonzero(better & impostor, axis=1), np.inf)
    return (
        ranks,
        np.where(np.isfinite(of_mate), of_mate, np.nan),
        np.where(np.isfinite(of_impostor), of_impostor, np.nan),
    )


def open_set(found: Search, fpir: float, same_above: bool) -> tuple[np.ndarray, float | None]:
    """Identify with a threshold: the top candidate counts only if it is alike enough.

    The threshold is calibrated on the same probes with their patient taken out of the gallery: then every candidate
    is false, and the share of probes that have one is the FPIR. It is at most ``fpir`` here.

    Returns
    -------
    hits : ndarray, (N,), bool
        Whether the patient is the top candidate and reaches the threshold (1 − FNIR is its mean).
    threshold : float or None
        None where no probe was searched.
    """
    impostors = found.impostor[~np.isnan(found.impostor)]
    if not len(impostors):
        return np.zeros(len(found.ranks), bool), None
    alike = np.sort(impostors if same_above else -impostors)[::-1]
    limit = np.nextafter(float(alike[int(np.floor(fpir * len(alike)))]), np.inf)
    mate = found.mate if same_above else -found.mate
    return (found.ranks == 1) & (np.nan_to_num(mate, nan=-np.inf) >= limit), limit if same_above else -limit
