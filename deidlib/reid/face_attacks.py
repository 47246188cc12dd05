"""The attacks by face recogniser: verification, identification, region and context apart, linkage, donors."""

from __future__ import annotations

from typing import Any

import numpy as np

from deidlib.reid.attack import Attack
from deidlib.reid.attacker import (
    ALIKE,
    AREA_IN_SAME_SEARCH,
    FLOOR,
    PROBE,
    RANK1_ORIGINALS,
    REGION_TITLE,
    SAME_LOOK,
    SEEN,
    Attacker,
    same_look_attack,
)
from deidlib.reid.calibration import reaches
from deidlib.reid.identification import Search, open_set, searched
from deidlib.reid.verification import Best, best_impostor, best_of_patient, chance_of_any

_LIKEWISE = " The originals are shown in the same way."


def all_attacks(attacker: Attacker) -> tuple[list[Attack], list[dict[str, Any]]]:
    """Every attack by one recogniser, and its rank distributions (entries of ``attacks`` and ``ranks``)."""
    attacks = []
    for region in PROBE:
        attacks += verification(attacker, region)
    ranks = []
    for region in PROBE:
        found, curves = identification(attacker, region)
        attacks += found
        ranks += curves
    attacks += [floor(attacker, region) for region in PROBE]
    originals, released = attacker.faces["original"], attacker.faces["released"]
    for name, words, drop_own in (
        (RANK1_ORIGINALS, "the very photograph included", False),
        (FLOOR, "by another photograph", True),
    ):
        attacks.append(same_look_attack(attacker, name, words, released, originals, attacker.same_above, drop_own))
    attacks.append(_area_in_same_search(attacker))
    return attacks + linkage(attacker) + donor_side(attacker), ranks


def verification(attacker: Attacker, region: str) -> list[Attack]:
    """1:1 verification, against the original of the same photograph and against the patient's other originals."""
    probes, originals = attacker.faces[PROBE[region]], attacker.faces["original"]
    whose = {
        "verification_same_photo": (True, "same photograph", "the original photograph that it was made of"),
        "verification_other_photo": (
            False,
            "other photographs",
            "all other original photographs of the patient (the most alike counts), which is what an attacker can "
            "find on the internet or in another record; patients with one photograph cannot be tried",
        ),
    }
    best = {name: best_of_patient(probes, originals, attacker.same_above, own) for name, (own, _, _) in whose.items()}
    found = [
        attacker.verified(
            best[name],
            name=name,
            title=f"1:1 verification, {title}{REGION_TITLE[region]}",
            region=region,
            explanation=(
                f"{attacker.title} compares a released photograph with {words}. A hit is a score at which the "
                f"recogniser says that both show one person.{SEEN[region]} Chance is how often photographs of two "
                f"different people reach that score: {attacker.calibration.counted()}."
            ),
        )
        for name, (_, title, words) in whose.items()
    ]
    look = attacker.calibration.look
    if region == "whole" and look.threshold is not None:
        found += [_verified_by_look(attacker, name, title, best[name]) for name, (_, title, _) in whose.items()]
    return found


def _verified_by_look(attacker: Attacker, name: str, title: str, best: Best) -> Attack:
    """The same with a threshold from pairs of people of the same look."""
    look = attacker.calibration.look
    return attacker.attack(
        reaches(best.scores, look.threshold, attacker.same_above),
        best.patients,
        name=f"{name}{SAME_LOOK}",
        title=f"1:1 verification, {title}, threshold by people of the same look",
        chance=chance_of_any(look.fmr, best.compared),
        threshold=look.threshold,
        fmr=look.fmr,
        explanation=(
            f"The same with another threshold: the one that a share of {look.fmr:.2g} of {look.pairs:,} pairs of "
            "different patients of the same apparent sex, decade of age and class of skin tone reaches. People who "
            "look alike have higher scores, and the new face looks like the patient in these on purpose."
        ),
    )


def identification(attacker: Attacker, region: str) -> tuple[list[Attack], list[dict[str, Any]]]:
    """1:N, closed set with and without distractors, and open set."""
    counted = attacker.numbers(PROBE[region], "original")
    crowd = searched(*counted, with_crowd=True)
    attacks = [_rank_attack(attacker, crowd, k, region, f"identification_rank{k}") for k in (1, 10)]
    curves = [_curve(attacker, crowd, region)]
    alone = searched(*counted)
    attacks.append(_rank_attack(attacker, alone, 1, region, RANK1_ORIGINALS))
    if attacker.distractors is not None:
        curves.append(_curve(attacker, alone, region))
    hits, threshold = open_set(crowd, attacker.fpir, attacker.same_above)
    attacks.append(
        attacker.attack(
            hits,
            crowd.patients,
            name="identification_open_set",
            title=f"1:N identification, open set{REGION_TITLE[region]}",
            region=region,
            chance=_scaled(crowd.chance(1), attacker.fpir),
            threshold=threshold,
            explanation=(
                f"As rank 1, but the attacker does not know whether the patient is among the {crowd.gallery:,} "
                "gallery entries, and believes the top candidate only above a threshold. The threshold is set so "
                f"that of searches without the patient in the gallery at most {attacker.fpir:.1%} (FPIR) return "
                f"anybody; with {len(crowd.ranks):,} searches the finest step is one in "
                f"{max(len(crowd.ranks), 1):,}. The rate is 1 − FNIR.{SEEN[region]}"
            ),
        )
    )
    return attacks, curves


def _rank_attack(attacker: Attacker, found: Search, k: int, region: str, name: str) -> Attack:
    alone = name.endswith("originals")
    crowd = "no distractors" if alone else "the donor bank and the configured gallery as distractors"
    place = "in first place" if k == 1 else f"among the first {k}"
    middle = (
        f" The patient's median place is {np.median(found.ranks):,.0f} of {found.gallery:,}" if len(found.ranks) else ""
    )
    middle += f"; by chance it would be about {_middle(found):,.0f}." if middle else ""
    return attacker.attack(
        found.ranks <= k,
        found.patients,
        name=name,
        title=f"1:N identification, rank {k}{', originals alone' if alone else ''}{REGION_TITLE[region]}",
        region=region,
        chance=found.chance(k),
        tried=found.first() if alone else None,
        explanation=(
            f"{attacker.title} sorts a gallery of {found.gallery:,} faces (every original photograph, the very one "
            f"included; {crowd}) by likeness to the released photograph. A hit is the patient {place}."
            f"{SEEN[region]}{middle}"
            + (
                " Distractors drawn by the same generator as the new faces resemble these more than people do and "
                "crowd the patient out; this search leaves them out."
                if alone
                else ""
            )
        ),
    )


def _middle(found: Search) -> float:
    """Median rank of the best of a patient's photographs in a random order (of m among N about N (1 − 2^(−1/m)))."""
    return float(np.median((found.gallery + 1) * (1 - 0.5 ** (1 / found.mates))))


def _curve(attacker: Attacker, found: Search, region: str) -> dict[str, Any]:
    cmc, chance = found.cmc()
    return {
        "recogniser": attacker.recogniser,
        "region": region,
        "gallery": found.gallery,
        "probes": len(found.ranks),
        "cmc": cmc,
        "chance": chance,
    }


def floor(attacker: Attacker, region: str) -> Attack:
    """1:N among originals shown the same way, without the same photograph: what region and context each give away."""
    found = searched(*attacker.numbers(PROBE[region], ALIKE[region]), drop_own=True)
    return attacker.rank1(
        found,
        name=FLOOR,
        title=f"1:N identification by another photograph, rank 1{REGION_TITLE[region]}",
        region=region,
        explanation=(
            f"{attacker.title} searches a released photograph among {found.gallery:,} originals without the one that "
            "it was made of, so that only another photograph of the patient can betray "
            f"it.{SEEN[region]}{_LIKEWISE if region != 'whole' else ''} A hit is "
            "the patient in first place. The preserved area alone is the floor for every method that keeps it; what "
            "the whole photograph gives away beyond that comes from this method."
        ),
    )


def _area_in_same_search(attacker: Attacker) -> Attack:
    """Search the preserved area alone among whole originals: the same search as that of the whole picture."""
    found = searched(*attacker.numbers("released_region", "original"), drop_own=True)
    return attacker.rank1(
        found,
        name=AREA_IN_SAME_SEARCH,
        title=f"1:N identification by another photograph, whole originals, rank 1{REGION_TITLE['region_only']}",
        region="region_only",
        explanation=(
            f"{attacker.title} searches the preserved area among {found.gallery:,} whole originals without the one "
            f"that it was made of.{SEEN['region_only']} The gate compares this with what the whole picture finds."
        ),
    )


def linkage(attacker: Attacker) -> list[Attack]:
    """Inside the release: photographs of one patient, and of two."""
    released = attacker.faces["released"]
    return [
        attacker.verified(
            best_of_patient(released, released, attacker.same_above, own=False),
            name="linkage_same_patient",
            title="Linkage of one patient's released photographs",
            intended=attacker.linkable,
            explanation=(
                f"{attacker.title} compares a released photograph with the patient's other released ones. "
                + (
                    "A match is intended: all photographs of a patient show one new person, and the index says so."
                    if attacker.linkable
                    else "Each photograph shows another new person, so a match is a leak by the mouth or the method."
                )
            ),
        ),
        attacker.verified(
            best_impostor(*attacker.numbers("released", "released")),
            synthetic=True,
            name="linkage_between_patients",
            title="Confusion of two patients inside the release",
            explanation=(
                f"{attacker.title} compares a released photograph with those of all other patients. A hit means that "
                "two new persons look alike to it: users of the dataset may take two patients for one. It betrays "
                "nobody. Chance is what randomly drawn faces of the donor bank do at this threshold."
            ),
        ),
    ]


def donor_side(attacker: Attacker) -> list[Attack]:
    """Released faces against the donors of others, and donors against donors."""
    return [
        attacker.verified(
            best_impostor(*attacker.numbers("released", "donor")),
            synthetic=True,
            name="donor_near_other_patient",
            title="Released face close to another patient's donor",
            explanation=(
                f"{attacker.title} compares a released photograph with the synthetic donors that other patients were "
                "given. A hit means that the new person looks like one made for somebody else."
            ),
        ),
        attacker.verified(
            best_impostor(*attacker.numbers("donor", "donor")),
            synthetic=True,
            name="donor_duplicate",
            title="Near-duplicate donors",
            explanation=(
                f"{attacker.title} compares the synthetic donors of different patients with each other. A hit means "
                "that the generator drew two that it cannot tell apart: the faces resemble each other, and no "
                "patient is shown."
            ),
        ),
    ]


def _scaled(chance: float | None, rate: float) -> float | None:
    return None if chance is None else chance * rate
