"""The release gate's criteria on searches: whether the whole picture finds more patients than area and look do.

Each attack that searches for the patient among the originals is compared with the same attack on the preserved area
alone, and with chance among people of the same look (:mod:`deidlib.reid.comparison`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deidlib.reid.attack import Attack, Tried
from deidlib.reid.attacker import AREA_IN_SAME_SEARCH, FLOOR, RANK1_ORIGINALS, SAME_LOOK
from deidlib.reid.comparison import ALPHA, Comparison, compare, fewest_patients, fewest_to_fail, holm
from deidlib.reid.soft_biometrics import FUSED
from deidlib.reid.verdicts import NOT_JUDGED, PASSED, criterion

LEARNED = ("parrot_linear", "parrot_mlp", "reversal")
#: Attack → the attack that gives the rate with the preserved area alone, if that is not the same attack.
_AREA_OF = {"reversal_rank1": "parrot_linear_rank1", FLOOR: AREA_IN_SAME_SEARCH}
#: Criterion → (what it says, the attacks that it judges, whether they must have been tried).
SEARCHES: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "rank1_originals": (
        "A recogniser that searches among all originals finds no more patients by the whole picture than by the "
        "preserved area and the look",
        (RANK1_ORIGINALS,),
        True,
    ),
    "rank1_other_photo": (
        "A recogniser that holds another photograph of the patient finds no more patients by the whole picture than by "
        "the preserved area and the look",
        (FLOOR,),
        False,
    ),
    "learned_rank1": (
        "An attacker who learned from other patients to undo the method finds no more patients by the whole picture "
        "than by the preserved area and the look",
        tuple(f"{name}_rank1" for name in LEARNED),
        False,
    ),
    "soft_biometrics": (
        "Skin colour, age, sex, pose, gaze and shape of the face, together with a recogniser, find no more patients by "
        "the whole picture than by the preserved area and the look",
        (FUSED,),
        False,
    ),
}


def comparisons(attacks: Sequence[Attack], seed: int) -> list[Comparison]:
    """Every attack that the gate compares, by every recogniser that could try it, in the order of the attacks."""
    names = [name for _, of_criterion, _ in SEARCHES.values() for name in of_criterion]
    by_key = {(attack.name, attack.recogniser, attack.region): attack.tried for attack in attacks if attack.tried}
    found = []
    for name, recogniser, region in by_key:
        if region != "whole" or name not in names:
            continue
        whole = by_key[name, recogniser, region]
        area = by_key.get((_AREA_OF.get(name, name), recogniser, "region_only"), _nothing(whole))
        look = by_key.get((name + SAME_LOOK, recogniser, "whole"), _nothing(whole))
        rng = np.random.default_rng([seed, *name.encode(), *recogniser.encode()])
        if len(whole):
            found.append(compare(name, recogniser, whole, area, look, rng))
    return found


def _nothing(like: Tried) -> Tried:
    return Tried(like.photos[:0], like.patients[:0], like.hits[:0], np.zeros(0))


def search_criteria(attacks: Sequence[Attack], recognisers: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Judge the searches of :data:`SEARCHES`; Holm's correction is over the comparisons of all of them.

    Parameters
    ----------
    attacks : sequence of Attack
        All results; those that are compared with the single tries.
    recognisers : sequence of str
        Recognisers that have to have attacked.
    seed : int
        Seed of the sign-flip tests.

    Returns
    -------
    list of dict
        A criterion for each of :data:`SEARCHES`, see :func:`deidlib.reid.verdicts.criterion`.
    """
    made = comparisons(attacks, seed)
    adjusted = holm([one.p for one in made])
    fewest = fewest_patients(len(made)), fewest_to_fail(len(made))
    criteria = []
    for name, (statement, of_criterion, required) in SEARCHES.items():
        mine = [(one, float(p)) for one, p in zip(made, adjusted, strict=True) if one.attack in of_criterion]
        lacking = [r for r in recognisers if r not in {one.recogniser for one, _ in mine}]
        criteria.append(_search_criterion(name, statement, mine, lacking if required else [], fewest))
    return criteria


def _search_criterion(
    name: str,
    statement: str,
    made: list[tuple[Comparison, float]],
    lacking: list[str],
    fewest: tuple[int, int],
) -> dict:
    beyond = [(one, p) for one, p in made if p <= ALPHA]
    patients = min((one.patients for one, _ in made), default=0)
    small, verdict, note = False, PASSED, ""
    if beyond:
        verdict, note = False, " ".join(_in_words(one, p) for one, p in beyond)
    elif lacking:
        verdict, note = False, f"Not tried by {', '.join(lacking)}; a missing result fails."
    elif patients < fewest[0]:
        verdict, small = NOT_JUDGED, True
        people = "patient" if patients == 1 else "patients"
        tried = f"{patients:,} {people} could be tried" if made else "it could not be tried on these patients"
        note = f"Not judged: {tried}; to pass takes {fewest[0]:,}, to fail {fewest[1]:,}."
    return criterion(
        name,
        statement,
        len(beyond) if made else None,
        0,
        patients,
        verdict,
        note,
        small,
        comparisons=[_as_json(one, p) for one, p in made],
        fewest_patients=fewest[0],
    )


def _in_words(one: Comparison, p: float) -> str:
    return (
        f"{one.recogniser} ({one.attack}) finds the patient of {one.whole:,} of {one.photographs:,} whole pictures, of "
        f"{one.area:,} by the preserved area alone, and of {one.look:,} among people of the same look, where chance "
        f"gives {one.look_expected:.1f} (p = {p:.2g} after correction)."
    )


def _as_json(one: Comparison, p: float) -> dict[str, Any]:
    return {
        "attack": one.attack,
        "recogniser": one.recogniser,
        "photographs": one.photographs,
        "patients": one.patients,
        "whole": one.whole,
        "area": one.area,
        "look": one.look,
        "look_expected": round(one.look_expected, 3),
        "p_area": one.p_area,
        "p_look": one.p_look,
        "p_adjusted": p,
    }
