"""1:1 attacks: does this released photograph show the patient? Linkage inside the release, and to the donors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deidlib.reid.calibration import compared, pairs_of_patient
from deidlib.reid.embeddings import Faces
from deidlib.reid.search import nearest


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


def best_impostor(probes: Faces, gallery: Faces, same_above: bool) -> Best:
    """Compare every probe with the gallery photographs of all other patients."""
    owners, counts = np.unique(gallery.patients, return_counts=True)
    count_of = dict(zip(owners, counts.tolist(), strict=True))
    of_patient = {patient: len(gallery) - count_of.get(patient, 0) for patient in np.unique(probes.patients)}
    if not len(gallery) or not len(probes) or not max(of_patient.values()):
        return Best(np.zeros(0, str), np.zeros(0), np.zeros(0, int))
    mates = max(count_of.values())
    scores, entries = nearest(probes.vectors, gallery.vectors, mates + 1, same_above)
    impostor = gallery.patients[entries] != probes.patients[:, None]
    there = impostor.any(axis=1)
    first = impostor.argmax(axis=1)
    return Best(
        probes.patients[there],
        scores[there, first[there]].astype(float),
        np.array([of_patient[patient] for patient in probes.patients[there]], int),
    )


def chance_of_any(rate: float | None, counts: np.ndarray) -> float | None:
    """Mean probability that one or more of ``counts`` independent comparisons match falsely at ``rate``."""
    return None if rate is None or not len(counts) else float(np.mean(1 - (1 - rate) ** counts))
