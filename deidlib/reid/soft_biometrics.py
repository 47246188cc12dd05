"""Attacks by soft biometrics: skin, tone, age, sex, pose, gaze and shape; each alone, all, and all with a recogniser.

The attacker searches among the originals without the one that the photograph was made of, so that only another
photograph of the patient can betray it. Looks and a recogniser's embedding are fused by the sum of their squared
distances, each in units of what it is between different people (sum rule; Jain, Nandakumar and Ross 2005, Pattern
Recognition 38:2270); the recogniser weighs as much as all looks together. Pure functions on numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deidlib.reid.attack import Attack, attack_from_trials
from deidlib.reid.attacker import PROBE, REGION_TITLE, SEEN, Attacker, same_look_attack
from deidlib.reid.embeddings import Faces
from deidlib.reid.identification import searched
from deidlib.reid.looks import KINDS, TITLES, standardised
from deidlib.reid.ranking import Compare, Pairing, compare

#: The attack of all kinds with a recogniser, which the gate judges.
FUSED = "soft_fused"
_SHOWN = {"whole": ("released", "square"), "region_only": ("released_region", "square_region")}
#: Renderings of the table of embeddings that hold looks.
LOOKS_SHOWN = tuple(name for pair in _SHOWN.values() for name in pair)
_PAIRS = 100_000
#: Name of a search by looks → its title and what it uses.
_CHOICES = {f"soft_{name}": (TITLES[name], {name: KINDS[name]}) for name in KINDS} | {
    "soft_all": ("all of them", KINDS)
}
#: Searches by looks alone: visible part and name.
LOOK_SEARCHES = tuple(
    (region, name) for region in _SHOWN for name in _CHOICES if region == "whole" or name == "soft_all"
)
#: Visible parts that are searched by looks and a recogniser.
FUSED_SEARCHES = tuple(_SHOWN)


def look_pairing(looks: Mapping[str, Faces], region: str, name: str) -> Pairing:
    """One of :data:`LOOK_SEARCHES`."""
    probe, gallery = _SHOWN[region]
    probes, originals = standardised(looks[probe], looks[gallery], _CHOICES[name][1])
    return Pairing(f"looks/{region}/{name}", probes, originals, same_above=False)


def fused_pairing(
    recogniser: str, faces: Mapping[str, Faces], looks: Mapping[str, Faces], region: str, same_above: bool, seed: int
) -> Pairing:
    """One of :data:`FUSED_SEARCHES` with a recogniser: the same search, whatever is seen of the released photograph."""
    rng = np.random.default_rng([seed, *recogniser.encode(), 6])
    seen = standardised(looks[_SHOWN[region][0]], looks["square"])
    pair = _fused((faces[PROBE[region]], faces["original"]), seen, same_above, rng)
    return Pairing(f"{recogniser}/{region}/{FUSED}", *pair, same_above=False)


def look_attacks(looks: Mapping[str, Faces], rng: np.random.Generator, compare: Compare = compare) -> list[Attack]:
    """Every kind of soft biometric alone, and all together, without a recogniser.

    Parameters
    ----------
    looks : mapping
        :data:`LOOKS_SHOWN` → looks.
    rng : Generator
        For bootstraps.
    compare : callable
        Gives the numbers of a search.
    """
    attacks = []
    for region, name in LOOK_SEARCHES:
        pairing = look_pairing(looks, region, name)
        found = searched(pairing, compare(pairing), drop_own=True)
        missing = looks[_SHOWN[region][0]].missing
        attacks.append(
            attack_from_trials(
                found.ranks <= 1,
                found.patients,
                rng,
                name=name,
                title=f"Soft biometrics, {_CHOICES[name][0]}: rank 1 by another photograph{REGION_TITLE[region]}",
                recogniser=None,
                region=region,
                chance=found.chance(1),
                explanation=_explained(region, found.gallery, missing, "The attacker"),
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


def fused_attacks(attacker: Attacker, looks: Mapping[str, Faces], seed: int) -> list[Attack]:
    """All kinds fused with one recogniser: whole, by the preserved area alone, and among people of the same look."""
    attacks = []
    for region in FUSED_SEARCHES:
        pairing = fused_pairing(attacker.recogniser, attacker.faces, looks, region, attacker.same_above, seed)
        found = searched(pairing, attacker.compare(pairing), drop_own=True)
        missing = len(attacker.faces[PROBE[region]]) - len(pairing.probes)
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
            pair = pairing.probes, pairing.gallery
            attacks.append(same_look_attack(attacker, FUSED, "soft biometrics with a recogniser", *pair, False, True))
    return attacks


@dataclass(frozen=True)
class _Joined:
    """Rows of several arrays side by side, each scaled; computed for the rows that are asked for.

    Attributes
    ----------
    parts : tuple of (ndarray, ndarray, float)
        Array, its rows in the order of the result, and the scale that they are divided by.
    """

    parts: tuple[tuple[np.ndarray, np.ndarray, float], ...]

    def __len__(self) -> int:
        return len(self.parts[0][1])

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        scaled = [vectors[at[rows]] / scale for vectors, at, scale in self.parts]
        return np.concatenate(scaled, axis=1).astype(np.float32, copy=False)


def _fused(
    embedded: tuple[Faces, Faces], looks: tuple[Faces, Faces], same_above: bool, rng: np.random.Generator
) -> tuple[Faces, Faces]:
    """Join embeddings and looks, each scaled by its mean squared distance between different people."""
    common = [
        np.intersect1d(faces.photos, look.photos, return_indices=True)
        for faces, look in zip(embedded, looks, strict=True)
    ]
    pairs = [*zip(embedded, looks, strict=True)]
    patients = embedded[1].patients[common[1][1]]
    scales = [_between_people(pairs[1][k].vectors, common[1][1 + k], patients, rng) for k in (0, 1)]
    found = []
    for pair, (photos, *at) in zip(pairs, common, strict=True):
        parts = [(faces.vectors, rows, scale) for faces, rows, scale in zip(pair, at, scales, strict=True)]
        found.append(Faces(photos, pair[0].patients[at[0]], _Joined(tuple(parts))))
    return found[0], found[1]


def _between_people(vectors: np.ndarray, rows: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> float:
    """Root mean squared distance of two people's vectors, by random pairs; these rows are of these patients."""
    if len(rows) < 2:
        return 1.0
    a, b = rng.integers(len(rows), size=(2, min(_PAIRS, len(rows) ** 2)))
    apart = patients[a] != patients[b]
    a, b = rows[a[apart]], rows[b[apart]]
    if not len(a):
        return 1.0
    squares = [
        np.sum((vectors[a[i : i + 4096]] - vectors[b[i : i + 4096]]) ** 2, axis=1) for i in range(0, len(a), 4096)
    ]
    return max(float(np.sqrt(np.concatenate(squares).mean())), 1e-9)
