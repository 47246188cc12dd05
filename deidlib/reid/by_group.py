"""Private lists from which the audit counts groups of patients: who was verified, and how each patient looks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from deidlib.reid.face_attacks import Attacker
from deidlib.reid.looks import PeopleLooks
from deidlib.reid.pairs import pairs_of_patient, scores_of_pairs


def verified_photos(attacker: Attacker, wanted: Collection[str]) -> dict[str, Any]:
    """Say which released photographs a recogniser takes for the patient, compared with their own originals.

    Parameters
    ----------
    attacker : Attacker
        The recogniser, its threshold and embeddings.
    wanted : collection of str
        Photographs with a new face that would be released.

    Returns
    -------
    dict
        ``recogniser``; ``verified``: photographs whose score reaches the threshold; ``untried``: those of ``wanted``
        that could not be compared.
    """
    released, originals = attacker.faces["released"], attacker.faces["original"]
    pairs = pairs_of_patient(released, originals)
    probe, entry = pairs.probe[pairs.own], pairs.entry[pairs.own]
    scores = scores_of_pairs(released.vectors, probe, originals.vectors, entry, attacker.same_above)
    tried = released.photos[probe]
    return {
        "recogniser": attacker.recogniser,
        "verified": sorted(set(tried[attacker.calibration.same(scores)].tolist()) & set(wanted)),
        "untried": sorted(set(wanted) - set(tried.tolist())),
    }


def looks_of_people(people: PeopleLooks) -> list[dict[str, Any]]:
    """Apparent sex, age and class of skin tone of each measured patient, from the originals.

    Returns
    -------
    list of dict
        ``release_patient_id``, ``female`` (True or False), ``age`` (first year of the decade) and ``tone``
        (0, dark, to 5, very light).
    """
    return [
        {"release_patient_id": name, "female": sex == 1, "age": 10 * decade, "tone": tone}
        for name, (sex, decade, tone) in zip(people.people.tolist(), people.groups.tolist(), strict=True)
        if sex >= 0
    ]
