"""1:N attacks: whose photograph is this? Closed set (rank-k) and open set (FPIR, FNIR), as in ISO/IEC 19795-1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from deidlib.reid.attack import Tried
from deidlib.reid.embeddings import Faces
from deidlib.reid.pairs import Owned, owned, scores_of_pairs, spread
from deidlib.reid.ranking import Numbers, Pairing, compare

RANKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True)
class Search:
    """Results of the searches of all enrolled probes.

    Attributes
    ----------
    photos, patients : ndarray, (N,), str
        The probe, and its patient.
    ranks : ndarray, (N,)
        Place of the patient's first photograph among all of the gallery, 1 being the top.
    mates : ndarray, (N,), int
        Photographs of the patient in the gallery.
    gallery : int
        Entries that a probe was searched among (mean, where the probe's own photograph was taken out).
    mate, impostor : ndarray, (N,)
        Most alike score of the patient's photographs, and of all others' (nan where there are none).
    """

    photos: np.ndarray
    patients: np.ndarray
    ranks: np.ndarray
    mates: np.ndarray
    gallery: int
    mate: np.ndarray
    impostor: np.ndarray

    def first(self) -> Tried:
        """Which probes have the patient in first place."""
        return Tried(self.photos, self.patients, self.ranks <= 1)

    def chance(self, k: int) -> float | None:
        """Rate at which a random order has a photograph of the patient among the first k."""
        if not len(self.ranks):
            return None
        counts, which = np.unique(self.mates, return_inverse=True)  # the distribution is slow, and few counts occur
        return float(np.mean(hypergeom.sf(0, self.gallery, counts, min(k, self.gallery))[which]))

    def cmc(self) -> tuple[list[list[float]], list[list[float]]]:
        """Cumulative match characteristic and its chance level: [k, rate] up to the gallery's size."""
        ks = sorted({k for k in RANKS if k <= self.gallery} | {self.gallery}) if len(self.ranks) else []
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
    pairing = Pairing("", probes, originals, same_above, distractors)
    return searched(pairing, compare(pairing), with_crowd=True, drop_own=drop_own)


def searched(pairing: Pairing, found: Numbers, with_crowd: bool = False, drop_own: bool = False) -> Search:
    """Results of a search from what was counted.

    Parameters
    ----------
    pairing : Pairing
        The search.
    found : Numbers
        Its numbers.
    with_crowd : bool
        Whether the crowd was in the gallery.
    drop_own : bool
        Whether the photograph that a probe was made of was taken out. It cannot be with the crowd in the gallery.
    """
    crowd = with_crowd and pairing.crowd is not None
    if crowd and drop_own:
        raise ValueError("the photograph itself is taken out only of a gallery without a crowd")
    at_home = np.isin(pairing.probes.photos, pairing.gallery.photos)
    mates = pairing.mates - (at_home if drop_own else 0)
    ranks, mate = (found.other, found.other_mate) if drop_own else (found.crowd if crowd else found.alone, found.mate)
    enrolled = mates[found.row] > 0
    rows = found.row[enrolled]
    sign = 1 if pairing.same_above else -1
    scores = (
        sign * np.where(np.isfinite(best), best, np.nan)
        for best in (mate[enrolled], (found.crowd_impostor if crowd else found.impostor)[enrolled])
    )
    size = pairing.size if crowd else len(pairing.gallery)
    whole = len(rows) == len(pairing.probes)  # then the names are not copied
    photos, patients = pairing.probes.photos, pairing.probes.patients
    return Search(
        photos if whole else photos[rows],
        patients if whole else patients[rows],
        ranks[enrolled],
        mates[rows],
        size - int(drop_own and len(rows) > 0 and bool(at_home[rows].all())),
        *scores,
    )


def search_among(
    probes: Faces, originals: Faces, others: Mapping[str, Sequence[str]], same_above: bool, drop_own: bool = False
) -> Tried:
    """Search every probe among the photographs of its patient and of a few others for who is in first place.

    Parameters
    ----------
    probes, originals, same_above, drop_own
        As for :func:`search`.
    others : mapping
        Patient → the other people in the gallery of this patient's search. A probe is not tried if there are none, or
        if none of them has a photograph.

    Returns
    -------
    Tried
        With each trial's chance: the patient's share of the photographs that were searched. A tie counts as found.
    """
    by_patient = owned(originals)
    row, entry, is_own = _own_and_others(probes, originals, by_patient, others, drop_own)
    if not len(row):
        return Tried(probes.photos[:0], probes.patients[:0], np.zeros(0, bool), np.zeros(0))
    alike = scores_of_pairs(probes.vectors, row, originals.vectors, entry, same_above).astype(np.float64)
    alike = alike if same_above else -alike
    tried, place = np.unique(row, return_inverse=True)
    best = np.full((2, len(tried)), -np.inf)
    for k, which in enumerate((is_own, ~is_own)):
        np.maximum.at(best[k], place[which], alike[which])
    share = np.bincount(place, weights=is_own) / np.bincount(place)
    return Tried(probes.photos[tried], probes.patients[tried], best[0] >= best[1], share)


def _own_and_others(
    probes: Faces, originals: Faces, by_patient: Owned, others: Mapping[str, Sequence[str]], drop_own: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (probe, original) of each probe that is tried, and whether the original is of the probe's patient."""
    row, entry = by_patient.entries(probes.patients)
    if drop_own:
        apart = originals.photos[entry] != probes.photos[row]
        row, entry = row[apart], entry[apart]
    people, whose = np.unique(probes.patients, return_inverse=True)
    lists = [others.get(name, ()) for name in people.tolist()]
    of_person = np.repeat(np.arange(len(people)), [len(names) for names in lists])
    named = np.array([name for names in lists for name in names], str)
    there, photo_of_other = by_patient.entries(named)
    number = np.bincount(of_person[there], minlength=len(people))
    other_row, at = spread((np.cumsum(number) - number)[whose], number[whose])
    both = np.isin(np.arange(len(probes)), row) & (number[whose] > 0)
    parts = (row, entry, True), (other_row, photo_of_other[at], False)
    rows, entries = (np.concatenate([part[k][both[part[0]]] for part in parts]) for k in (0, 1))
    mine = np.concatenate([np.full(int(both[part[0]].sum()), part[2]) for part in parts])
    return rows, entries, mine


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
