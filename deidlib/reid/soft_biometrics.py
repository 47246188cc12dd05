"""Attacks by soft biometrics: skin, tone, age, sex, pose, gaze and shape; each alone, all, and all with a recogniser.

The attacker searches among the originals without the one that the photograph was made of, so that only another
photograph of the patient can betray it. Looks and a recogniser's embedding are fused by the sum of their squared
distances, each in units of what it is between different people (sum rule; Jain, Nandakumar and Ross 2005, Pattern
Recognition 38:2270); the recogniser weighs as much as all looks together. Pure functions on numbers.
"""

from __future__ import annotations

import numpy as np

from deidlib.reid.attack import Attack, attack_from_trials
from deidlib.reid.attacker import PROBE, REGION_TITLE, SEEN, Attacker, same_look_attack
from deidlib.reid.embeddings import Faces
from deidlib.reid.identification import search
from deidlib.reid.looks import KINDS, TITLES, standardised

#: The attack of all kinds with a recogniser, which the gate judges.
FUSED = "soft_fused"
_SHOWN = {"whole": ("released", "square"), "region_only": ("released_region", "square_region")}
#: Renderings of the table of embeddings that hold looks.
LOOKS_SHOWN = tuple(name for pair in _SHOWN.values() for name in pair)
_PAIRS = 100_000


def look_attacks(looks: dict[str, Faces], rng: np.random.Generator) -> list[Attack]:
    """Every kind of soft biometric alone, and all together, without a recogniser.

    Parameters
    ----------
    looks : dict
        :data:`LOOKS_SHOWN` → looks.
    rng : Generator
        For bootstraps.
    """
    choices = {f"soft_{name}": (TITLES[name], {name: KINDS[name]}) for name in KINDS}
    choices["soft_all"] = ("all of them", KINDS)
    attacks = []
    for region, (probe, gallery) in _SHOWN.items():
        for name, (title, kinds) in choices.items():
            if region == "whole" or name == "soft_all":
                probes, originals = standardised(looks[probe], looks[gallery], kinds)
                found = search(probes, originals, None, same_above=False, drop_own=True)
                attacks.append(
                    attack_from_trials(
                        found.ranks <= 1,
                        found.patients,
                        rng,
                        name=name,
                        title=f"Soft biometrics, {title}: rank 1 by another photograph{REGION_TITLE[region]}",
                        recogniser=None,
                        region=region,
                        chance=found.chance(1),
                        explanation=_explained(region, found.gallery, looks[probe].missing, "The attacker"),
                    )
                )
    return attacks


def _explained(region: str, gallery: int, missing: int, who: str) -> str:
    return (
        f"{who} measures each picture (skin colour by nine patches, tone, apparent age and sex, pose, gaze, shape of "
        f"the face by landmarks), and sorts {gallery:,} originals, without the same photograph, by how alike they "
        f"are.{SEEN[region]}"
        f"{' The originals are shown in the same way.' if region != 'whole' else ''} A hit is the patient in first "
        "place. Apparent sex, age class, skin tone and pose are shared with the new face on purpose."
        + (f" {missing:,} released photographs could not be measured and were not tried." if missing else "")
    )


def fused_attacks(attacker: Attacker, looks: dict[str, Faces], seed: int) -> list[Attack]:
    """All kinds fused with one recogniser: whole, by the preserved area alone, and among people of the same look."""
    attacks = []
    for region, (probe, _) in _SHOWN.items():
        rng = np.random.default_rng([seed, *attacker.recogniser.encode(), 6])
        faces = attacker.faces
        probes, originals = standardised(looks[probe], looks["square"])  # the same search, whatever is seen
        pair = _fused((faces[PROBE[region]], faces["original"]), (probes, originals), attacker.same_above, rng)
        found = search(*pair, None, same_above=False, drop_own=True)
        missing = len(faces[PROBE[region]]) - len(pair[0])
        attacks.append(
            attacker.rank1(
                found,
                name=FUSED,
                title=f"Soft biometrics with a recogniser: rank 1 by another photograph{REGION_TITLE[region]}",
                region=region,
                explanation=_explained(region, found.gallery, missing, f"With {attacker.title}, the attacker")
                + f" The score of {attacker.title} is added.",
            )
        )
        if region == "whole":
            attacks.append(same_look_attack(attacker, FUSED, "soft biometrics with a recogniser", *pair, False, True))
    return attacks


def _fused(
    embedded: tuple[Faces, Faces], looks: tuple[Faces, Faces], same_above: bool, rng: np.random.Generator
) -> tuple[Faces, Faces]:
    """Join embeddings and looks, each scaled by its mean squared distance between different people."""
    joined = [_of_both(*pair) for pair in zip(embedded, looks, strict=True)]
    gallery, seen = joined[1]
    scales = [_between_people(one.vectors, gallery.patients, rng) for one in (gallery, seen)]
    found = []
    for faces, look in joined:
        vectors = np.concatenate([faces.vectors / scales[0], look.vectors / scales[1]], axis=1)
        found.append(Faces(faces.photos, faces.patients, vectors.astype(np.float32)))
    return found[0], found[1]


def _of_both(faces: Faces, looks: Faces) -> tuple[Faces, Faces]:
    """The photographs that both hold, in one order."""
    photos, a, b = np.intersect1d(faces.photos, looks.photos, return_indices=True)
    return Faces(photos, faces.patients[a], faces.vectors[a]), Faces(photos, looks.patients[b], looks.vectors[b])


def _between_people(vectors: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> float:
    """Root mean squared distance of two people's vectors, by random pairs."""
    if len(vectors) < 2:
        return 1.0
    a, b = rng.integers(len(vectors), size=(2, min(_PAIRS, len(vectors) ** 2)))
    apart = patients[a] != patients[b]
    a, b = a[apart], b[apart]
    if not len(a):
        return 1.0
    squares = [
        np.sum((vectors[a[i : i + 4096]] - vectors[b[i : i + 4096]]) ** 2, axis=1) for i in range(0, len(a), 4096)
    ]
    return max(float(np.sqrt(np.concatenate(squares).mean())), 1e-9)
