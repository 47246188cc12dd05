"""1:1 attacks: does this released photograph show the patient? Linkage inside the release, and to the donors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deidlib.reid.calibration import compared, pairs_of_patient
from deidlib.reid.embeddings import Faces
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
    pairs = pairs[(pairs["photo_probe"] == pairs["photo_entry"]) == own]
    scores = compared(probes.vectors[pairs["probe"]], gallery.vectors[pairs["entry"]], same_above)
    groups = pairs.assign(score=scores).groupby("probe", sort=True)
    best = groups["score"].max() if same_above else groups["score"].min()
    return Best(probes.patients[best.index.to_numpy(int)], best.to_numpy(float), groups.size().to_numpy(int))


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
