"""Parrot attack: an attacker who de-identified photographs of other people learns to undo it (Newton et al. 2005).

A map between embeddings, linear or not, is learned from the (original, released) pairs of half of the patients.
Released photographs of the other half are mapped and searched among their originals. Then the halves change places, so
that every patient is attacked by a map that was learned on others. The same is tried on the preserved area alone: its
rate is the floor of every method that keeps this area. Pure functions on embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from deidlib.reid.attack import Attack, Tried, attack_from_trials, learned_on_some
from deidlib.reid.attacker import PROBE, REGION_TITLE, SEEN, Attacker, same_look_attack
from deidlib.reid.calibration import threshold_at
from deidlib.reid.embeddings import Faces, joined
from deidlib.reid.identification import Search, search
from deidlib.reid.maps import LEARNERS, Learner, best_map
from deidlib.reid.pairs import compared, scores_of_pairs

#: Fewest patients of a half; below, nothing can be learned or attacked.
FEWEST = 4
#: Most photographs for training and attack; of a larger cohort, some patients are taken.
MOST_PHOTOS = 20_000
#: What is mapped: whole released photographs, and their preserved area alone.
REGIONS = ("whole", "region_only")


@dataclass(frozen=True)
class Guesses:
    """Released photographs of unseen patients, mapped, and the originals they are looked for among: one fold.

    Attributes
    ----------
    mapped, originals : Faces
        Unit vectors in the space of the originals, centred on the training half's mean.
    """

    mapped: Faces
    originals: Faces


def halves(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half, 0 or 1, of each photograph: patients are dealt at random, all photographs of one to one half."""
    people, place = np.unique(patients, return_inverse=True)
    half = rng.permutation(np.arange(len(people)) % 2)
    return half[place]


def guesses(released: Faces, originals: Faces, learn: Learner, rng: np.random.Generator) -> list[Guesses]:
    """Learn on each half of the patients and map the other.

    Parameters
    ----------
    released, originals : Faces
        Embeddings of released photographs and of the photographs that they were made of.
    learn : callable
        The learner.
    rng : Generator
        For the halves and the learner.

    Returns
    -------
    list of Guesses
        One a half; empty where a half has fewer than :data:`FEWEST` patients.
    """
    photos, a, b = np.intersect1d(released.photos, originals.photos, return_indices=True)
    patients = released.patients[a]
    if len(np.unique(patients)) < 2 * FEWEST:
        return []
    x, y = released.vectors[a].astype(np.float64), originals.vectors[b].astype(np.float64)
    half, found = halves(patients, rng), []
    for k in (0, 1):
        seen, unseen = half != k, half == k
        give = best_map(x[seen], y[seen], patients[seen], learn, rng)
        found.append(
            Guesses(
                Faces(photos[unseen], patients[unseen], _unit(give(x[unseen]))),
                Faces(photos[unseen], patients[unseen], _unit(y[unseen] - y[seen].mean(axis=0))),
            )
        )
    return found


def _drawn(attacker: Attacker) -> tuple[Attacker, int | None]:
    """Leave patients with at most :data:`MOST_PHOTOS` originals together, and say of how many, if not all, they are.

    They are the first by their keyed pseudonyms, whose order is random: the same for every recogniser, learner and
    region, so that these compare the same photographs. The reversal attack takes the first of them.
    """
    originals = attacker.faces["original"]
    if len(originals) <= MOST_PHOTOS:
        return attacker, None
    people, count = np.unique(originals.patients, return_counts=True)
    last = people[np.searchsorted(np.cumsum(count), MOST_PHOTOS, side="right")]
    faces = {}
    for shown in ("original", *(PROBE[region] for region in REGIONS)):
        every = attacker.faces[shown]
        chosen = every.patients < last
        faces[shown] = Faces(every.photos[chosen], every.patients[chosen], every.vectors[chosen])
    return replace(attacker, faces=faces), len(people)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return (vectors / lengths).astype(np.float32)


def parrot_attacks(attacker: Attacker, fmr: float, seed: int) -> list[Attack]:
    """Both learners, each verifying at a false match rate and identifying at rank 1.

    Parameters
    ----------
    attacker : Attacker
        One recogniser's embeddings.
    fmr : float
        False match rate that is wanted; with few patients the finest step is one in the number of impostor pairs.
    seed : int
        Seed of the halves, of the networks and of the bootstrap.

    Returns
    -------
    list of Attack
        ``NAME`` and ``NAME_rank1`` for every name of :data:`LEARNERS` and each of :data:`REGIONS`; without trials where
        patients are too few.
    """
    attacker, drawn_from = _drawn(attacker)
    attacks = []
    for region, (number, (name, (words, learn))) in product(REGIONS, enumerate(LEARNERS.items())):
        rng = np.random.default_rng([seed, number, *attacker.recogniser.encode()])
        found = guesses(attacker.faces[PROBE[region]], attacker.faces["original"], learn, rng)
        attacks += [
            _verification(attacker, name, words, found, fmr, rng, region),
            _rank1(attacker, name, words, found, rng, region),
        ]
        if region == "whole":
            folds = [(fold.mapped, fold.originals) for fold in found]
            attacks.append(same_look_of_halves(attacker, f"{name}_rank1", f"parrot attack, {words}", folds, True))
    return attacks if drawn_from is None else [learned_on_some(one, drawn_from, MOST_PHOTOS) for one in attacks]


def same_look_of_halves(
    attacker: Attacker, name: str, words: str, folds: list[tuple[Faces, Faces]], same_above: bool
) -> Attack:
    """:func:`deidlib.reid.attacker.same_look_attack` in each half, with the people of that half."""
    others: dict[str, list[str]] = {}
    for _, originals in folds:
        others |= attacker.people.alike(originals.patients, attacker.look_rng())
    probes, gallery = (joined([fold[k] for fold in folds]) for k in (0, 1))
    return same_look_attack(attacker, name, words, probes, gallery, same_above, False, others)


def _verification(
    attacker: Attacker,
    name: str,
    words: str,
    found: list[Guesses],
    fmr: float,
    rng: np.random.Generator,
    region: str,
) -> Attack:
    hits, patients, pairs, finest = [], [], 0, []
    for fold in found:
        impostor = _impostor_scores(fold, rng)
        limit = threshold_at(impostor, fmr, same_above=True)
        hits.append(compared(fold.mapped.vectors, fold.originals.vectors, same_above=True) >= limit)
        patients.append(fold.mapped.patients)
        pairs += len(impostor)
        finest.append((int(fmr * len(impostor)) + 1) / (len(impostor) + 1))
    used = float(np.mean(finest)) if finest else None
    return attack_from_trials(
        np.concatenate(hits) if hits else [],
        np.concatenate(patients) if patients else [],
        rng,
        name=name,
        title=f"Parrot attack, {words}: 1:1 verification{REGION_TITLE[region]}",
        recogniser=attacker.recogniser,
        region=region,
        chance=used,
        fmr=used,
        explanation=_learned(attacker, words, found, region)
        + (
            "A hit is an original that the mapped photograph resembles more than the threshold, which all but a share "
            f"of {used:.2g} of {pairs:,} pairs of different patients stay below; that share is chance."
            if found
            else ""
        ),
    )


def _rank1(
    attacker: Attacker, name: str, words: str, found: list[Guesses], rng: np.random.Generator, region: str
) -> Attack:
    searches = [search(fold.mapped, fold.originals, None, same_above=True) for fold in found]
    ranks = np.concatenate([s.ranks for s in searches]) if searches else np.zeros(0)
    plain = [_untrained(attacker, fold, PROBE[region]) for fold in found]
    chances = [s.chance(1) * len(s.ranks) for s in searches]
    return attack_from_trials(
        ranks <= 1,
        np.concatenate([s.patients for s in searches]) if searches else [],
        rng,
        name=f"{name}_rank1",
        title=f"Parrot attack, {words}: 1:N identification, rank 1{REGION_TITLE[region]}",
        recogniser=attacker.recogniser,
        region=region,
        chance=sum(chances) / len(ranks) if len(ranks) else None,
        tried=first_of_halves(searches),
        explanation=_learned(attacker, words, found, region)
        + (
            "A hit is the patient in first place among the originals of the half that is attacked "
            f"({min(s.gallery for s in searches):,} or more). Without anything learned, the recogniser finds "
            f"{sum(plain):,} of {len(ranks):,} in the same search."
            if found
            else ""
        ),
    )


def first_of_halves(searches: list[Search]) -> Tried | None:
    """Which photographs were found in the searches of the halves; None where nothing was searched."""
    if not searches:
        return None
    tried = [found.first() for found in searches]
    return Tried(*(np.concatenate([getattr(one, name) for one in tried]) for name in ("photos", "patients", "hits")))


def _learned(attacker: Attacker, words: str, found: list[Guesses], region: str) -> str:
    if not found:
        return (
            f"Not tried: there are fewer than {2 * FEWEST} patients with a face that {attacker.title} finds in the "
            "released photograph and in the original, too few to learn from half of them and attack the other."
        )
    return (
        "The attacker has released photographs of other people together with their originals and learns, as a "
        f"{words}, what the method does to {attacker.title}'s embeddings: here on one half of the patients, to attack "
        "the other, and the other way round. The search is for the very original that the photograph was made of. "
        + (
            "New faces keep apparent age, sex, skin tone, pose and light on purpose, and among few and different "
            "people these alone give hits. "
            if region == "whole"
            else f"{SEEN[region].strip()} What is found is what that area gives away, whatever face is put around it. "
        )
    )


def _impostor_scores(fold: Guesses, rng: np.random.Generator) -> np.ndarray:
    """Scores of mapped photographs with originals of other patients: all, or a draw of them."""
    n = len(fold.mapped)
    if n <= 2000:
        scores = fold.mapped.vectors @ fold.originals.vectors.T
        return scores[fold.mapped.patients[:, None] != fold.originals.patients[None, :]]
    a, b = rng.integers(n, size=(2, 1_000_000))
    apart = fold.mapped.patients[a] != fold.originals.patients[b]
    return scores_of_pairs(fold.mapped.vectors, a[apart], fold.originals.vectors, b[apart], same_above=True)


def _untrained(attacker: Attacker, fold: Guesses, probe: str) -> int:
    """Rank-1 hits of the recogniser itself in the search of one fold."""
    probes, gallery = (of_photos(attacker.faces[shown], fold.mapped.photos) for shown in (probe, "original"))
    return int(np.count_nonzero(search(probes, gallery, None, attacker.same_above).ranks <= 1))


def of_photos(faces: Faces, photos: np.ndarray) -> Faces:
    """Embeddings of these photographs alone."""
    there = np.isin(faces.photos, photos)
    return Faces(faces.photos[there], faces.patients[there], faces.vectors[there])
