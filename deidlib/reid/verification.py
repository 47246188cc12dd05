"""1:1 attacks: does this released photograph show the patient? Linkage inside the release, and to the donors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deidlib.reid.embeddings import Faces
from deidlib.reid.pairs import pairs_of_patient, scores_of_pairs
from deidlib.reid.ranking import Numbers, Pairing


@dataclass(frozen=True)
class Best:
    """The most alike counterpart of each probe that has one.

    Attributes
    ----------
    patients : ndarray, (N,), str
        The patient of each probe.
    scores : ndarray, (N,)
        The most alike score.
    compared : ndarray, (N,), int
        Counterparts that were compared.
    """

    patients: np.ndarray
    scores: np.ndarray
    compared: np.ndarray

    def __len__(self) -> int:
        return len(self.patients)


def best_of_patient(probes: Faces, gallery: Faces, same_above: bool, own: bool) -> Best:
    """Compare every probe with the same patient's gallery photographs.

    Parameters
    ----------
    probes, gallery : Faces
        Embeddings by one recogniser.
    same_above : bool
        Whether a higher score is more alike.
    own : bool
        Compare with the original of the probe; if False, with the patient's other photographs.
    """
    pairs = pairs_of_patient(probes, gallery)
    probe, entry = pairs.probe[pairs.own == own], pairs.entry[pairs.own == own]
    scores = scores_of_pairs(probes.vectors, probe, gallery.vectors, entry, same_above)
    tried, first, count = np.unique(probe, return_index=True, return_counts=True)
    best = (np.maximum if same_above else np.minimum).reduceat(scores, first) if len(first) else scores
    return Best(probes.patients[tried], best.astype(float), count)


def best_impostor(pairing: Pairing, found: Numbers) -> Best:
    """The most alike gallery photograph of another patient, of each probe for which there is one.

    Parameters
    ----------
    pairing : Pairing
        A search without ranks.
    found : Numbers
        Its numbers.
    """
    there = np.isfinite(found.impostor)
    rows, sign = found.row[there], 1 if pairing.same_above else -1
    scores = sign * found.impostor[there].astype(float)
    return Best(pairing.probes.patients[rows], scores, pairing.impostors[rows])


def chance_of_any(rate: float | None, counts: np.ndarray) -> float | None:
    """Mean probability that one or more of ``counts`` independent comparisons match falsely at ``rate``."""
    return None if rate is None or not len(counts) else float(np.mean(1 - (1 - rate) ** counts))
