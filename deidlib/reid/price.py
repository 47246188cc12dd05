"""The price of the preserved area: success of the attacks by the area alone, by everything else, and by the whole.

For the release's own area the numbers are those of the attacks on all photographs. For other areas the sweep makes a
sample of the photographs again; their area is cut at its declared border.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deidlib.reid.attack import interval
from deidlib.reid.attacker import RANK1_ORIGINALS
from deidlib.reid.calibration import reaches
from deidlib.reid.embeddings import Faces
from deidlib.reid.identification import search

#: Areas whose price is reported.
PRICED = ("teeth", "mouth", "lower_face")
#: Visible part of a picture → the suffix of its rendering.
_SUFFIX = {"whole": "", "region_only": "_region", "context_only": "_context"}


def price_rows(seen: Sequence[Mapping[str, Any]], same_above: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Search the sampled photographs, as another area would have been released, among the sample's originals.

    Parameters
    ----------
    seen : sequence of mapping
        ``preserve, photo, patient, recogniser, shown, vector``; shown is ``released`` with the suffix of what is seen
        of it, or ``square``: the original.
    same_above : mapping
        Recogniser → whether a higher score is more alike.

    Returns
    -------
    list of dict
        ``preserve, recogniser, region, photo, patient, score, first, chance``: the most alike score with the patient's
        originals, whether the patient came first among the sample's originals, and the chance of that.
    """
    rows = []
    for area in dict.fromkeys(entry["preserve"] for entry in seen):
        for recogniser, above in same_above.items():
            originals = _faces(seen, area, recogniser, "square")
            for region, suffix in _SUFFIX.items():
                found = search(_faces(seen, area, recogniser, "released" + suffix), originals, None, above)
                chance = found.chance(1)
                columns = found.photos.tolist(), found.patients.tolist(), found.mate.tolist(), found.ranks.tolist()
                for photo, patient, score, rank in zip(*columns, strict=True):
                    about = {"preserve": area, "recogniser": recogniser, "region": region}
                    about |= {"photo": photo, "patient": patient, "score": float(score)}
                    rows.append(about | {"first": rank <= 1, "chance": chance})
    return rows


def _faces(seen: Iterable[Mapping], area: str, recogniser: str, shown: str) -> Faces:
    wanted = area, recogniser, shown
    chosen = [
        entry
        for entry in seen
        if (entry["preserve"], entry["recogniser"], entry["shown"]) == wanted and entry["vector"] is not None
    ]
    vectors = np.array([entry["vector"] for entry in chosen], np.float32).reshape(len(chosen), -1)
    names = (np.array([entry[key] for entry in chosen], str) for key in ("photo", "patient"))
    return Faces(*names, vectors)


def price(
    rows: Sequence[Mapping],
    attacks: Sequence[Mapping],
    preserve: str,
    calibration: Sequence[Mapping],
    same_above: Mapping[str, bool],
    seed: int,
) -> list[dict[str, Any]]:
    """Entries of ``price`` in ``attacks.json``.

    Parameters
    ----------
    rows : sequence of mapping
        From :func:`price_rows`.
    attacks : sequence of mapping
        Entries of ``attacks``, for the release's own area.
    preserve : str
        The release's own area.
    calibration : sequence of mapping
        Entries of ``calibration``: the threshold of each recogniser.
    same_above : mapping
        Recogniser → whether a higher score is more alike.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        ``preserve, recogniser, region, own`` (measured on the release itself), ``chance``, and ``rank1`` and
        ``verified``, each with ``hits, trials, ci95``.
    """
    threshold = {entry["recogniser"]: entry["threshold"] for entry in calibration}
    by_key = {(a["name"], a["recogniser"], a["region"]): a for a in attacks}
    entries = []
    for area in PRICED:
        for recogniser in threshold:
            for region in _SUFFIX:
                about = {"preserve": area, "recogniser": recogniser, "region": region, "own": area == preserve}
                if area == preserve:
                    entry = _own(by_key, recogniser, region)
                else:
                    found = [
                        row
                        for row in rows
                        if (row["preserve"], row["recogniser"], row["region"]) == (area, recogniser, region)
                    ]
                    rng = np.random.default_rng([seed, *recogniser.encode(), 8])
                    entry = _of_sample(found, threshold[recogniser], same_above[recogniser], rng)
                if entry:
                    entries.append(about | entry)
    return entries


def _own(by_key: Mapping[tuple, Mapping], recogniser: str, region: str) -> dict[str, Any]:
    first = by_key.get((RANK1_ORIGINALS, recogniser, region))
    verified = by_key.get(("verification_same_photo", recogniser, region))
    if not first or not verified or not first["trials"]:
        return {}
    parts = {
        name: {key: a[key] for key in ("hits", "trials", "ci95")}
        for name, a in (("rank1", first), ("verified", verified))
    }
    return {"chance": first["chance"], **parts}


def _of_sample(
    found: Sequence[Mapping], threshold: float, same_above: bool, rng: np.random.Generator
) -> dict[str, Any]:
    if not found:
        return {}
    scores = np.array([row["score"] for row in found])
    patients = [row["patient"] for row in found]
    hits = {
        "rank1": np.array([row["first"] for row in found], bool),
        "verified": reaches(scores, threshold, same_above),
    }
    parts = {
        name: {"hits": int(hit.sum()), "trials": len(hit), "ci95": list(interval(hit, patients, rng))}
        for name, hit in hits.items()
    }
    return {"chance": found[0]["chance"], **parts}
