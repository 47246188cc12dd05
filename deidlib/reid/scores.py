"""Distributions of scores, as the audit draws them: pairs of one person, of different people, and released ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from deidlib.reid.attacker import Attacker
from deidlib.reid.verification import best_of_patient

#: Width of a score class (bin).
WIDTH = 0.02


def score_classes(attacker: Attacker) -> list[dict[str, Any]]:
    """Entries of ``scores`` in ``attacks.json`` for one recogniser; kinds without a score are left out."""
    faces, calibration = attacker.faces, attacker.calibration
    kinds = {
        "genuine": calibration.genuine,
        "impostor": calibration.impostor,
        "impostor_bank": calibration.reference if calibration.source == "bank" else np.zeros(0),
        "released_same_photo": best_of_patient(faces["released"], faces["original"], attacker.same_above, True).scores,
        "released_other_photo": best_of_patient(
            faces["released"], faces["original"], attacker.same_above, False
        ).scores,
    }
    return [_classes(attacker.recogniser, kind, scores) for kind, scores in kinds.items() if len(scores)]


def _classes(recogniser: str, kind: str, scores: np.ndarray) -> dict[str, Any]:
    numbers, counts = np.unique(np.floor(scores / WIDTH + 1e-9).astype(int), return_counts=True)
    return {
        "recogniser": recogniser,
        "kind": kind,
        "n": len(scores),
        "width": WIDTH,
        "bins": [[round(float(n * WIDTH), 4), int(count)] for n, count in zip(numbers, counts, strict=True)],
        "min": round(float(scores.min()), 6),
        "median": round(float(np.median(scores)), 6),
        "max": round(float(scores.max()), 6),
    }
