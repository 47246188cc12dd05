"""Results by skin tone, age and sex, with counts; groups of few patients are joined with their neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from deidlib.contract.routes import GENERATE
from deidlib.intake.screening import CATEGORY_PATIENTS
from deidlib.outcomes.outcomes import Outcome

#: Fewest patients of a group that is shown by itself: the smallest cell of health statistics.
FEWEST = CATEGORY_PATIENTS
#: Classes of the individual typology angle, from :func:`deidlib.reid.looks.tone_class`.
TONES = ("dark", "brown", "tan", "intermediate", "light", "very light")
_SEXES = {"F": "female", "M": "male", "X": "other"}
_NEIGHBOURS = {"tone": True, "age": True, "sex": False}
TITLES = {"tone": "Skin tone", "age": "Age", "sex": "Sex"}


class Member(NamedTuple):
    """What the counts of a group need of a photograph; a large cohort's whole outcomes would fill the memory.

    Attributes
    ----------
    photo_id, patient_id : str
        Pseudonyms.
    age, sex
        As the sheet records them.
    released, drawn : bool
        It would be released; it would be with a generated face.
    passed_first : bool or None
        Whether the first attempt at a generated face passed; None where there was none.
    """

    photo_id: str
    patient_id: str
    age: float | None
    sex: str | None
    released: bool
    drawn: bool
    passed_first: bool | None


def member(outcome: Outcome) -> Member:
    """Take from an outcome what the counts need."""
    photo, released = outcome.photo, outcome.attempt is not None
    new_face = outcome.tries and (outcome.tries[0]["route"] or GENERATE) == GENERATE
    return Member(
        outcome.photo_id,
        photo["release_patient_id"],
        photo["age"],
        photo["sex"],
        released,
        released and (outcome.check["route"] or GENERATE) == GENERATE,
        not outcome.tries[0]["failed"] if new_face else None,
    )


def group_results(members: Iterable[Member], suite: Mapping[str, Any] | None) -> list[dict]:
    """Count what became of the photographs of each group.

    Parameters
    ----------
    members : iterable of Member
        From :func:`member`, of the whole cohort.
    suite : mapping or None
        ``attacks.json``: ``people`` (apparent sex, age and tone of each patient) and ``verified`` (photographs that
        each recogniser takes for the patient) are read; both may be missing.

    Returns
    -------
    list of dict
        Of each trait: ``trait, title, source`` (``recorded`` on the sheet, or ``measured`` on the originals),
        ``unknown`` (patients of whom it is not known), and ``groups``, empty where fewer than two groups have
        :data:`FEWEST` patients. A group has ``name, patients, photographs, released, held_back, new_faces``
        (photographs that a first attempt was made of), ``passed_first``, and ``verified``: recogniser → hits, trials.
    """
    suite, of_patient = suite or {}, defaultdict(list)
    for one in members:
        of_patient[one.patient_id].append(one)
    looks = {row["release_patient_id"]: row for row in suite.get("people") or []}
    verified = suite.get("verified") or []
    found = []
    for trait, known in _known(of_patient, looks).items():
        joined = _joined(_members(known["of"]), _NEIGHBOURS[trait])
        found.append(
            {
                "trait": trait,
                "title": TITLES[trait],
                "source": known["source"],
                "unknown": len(of_patient) - len(known["of"]),
                "groups": [
                    _counted(trait, classes, [one for name in patients for one in of_patient[name]], verified)
                    for classes, patients in joined
                ]
                if len(joined) > 1
                else [],
            }
        )
    return found


def _known(of_patient: Mapping[str, list[Member]], looks: Mapping[str, dict]) -> dict[str, dict]:
    """Class of each patient by trait: as the sheet records it, or where it never does, as it was measured."""
    recorded: dict[str, dict] = {"age": {}, "sex": {}}
    for name, members in of_patient.items():
        ages = [one.age for one in members if one.age is not None]
        sexes = [one.sex for one in members if one.sex in _SEXES]
        if ages:
            recorded["age"][name] = int(min(ages) // 10 * 10)
        if sexes:
            recorded["sex"][name] = sexes[0]
    measured = {
        "tone": {name: row["tone"] for name, row in looks.items() if name in of_patient},
        "age": {name: row["age"] for name, row in looks.items() if name in of_patient},
        "sex": {name: "F" if row["female"] else "M" for name, row in looks.items() if name in of_patient},
    }
    return {
        trait: {"source": "recorded", "of": recorded[trait]}
        if recorded.get(trait)
        else {"source": "measured", "of": measured[trait]}
        for trait in TITLES
    }


def _members(classes: Mapping[str, Any]) -> list[tuple[list, list[str]]]:
    members = defaultdict(list)
    for name, value in classes.items():
        members[value].append(name)
    return [([value], sorted(members[value])) for value in sorted(members)]


def _joined(groups: list[tuple[list, list[str]]], ordered: bool) -> list[tuple[list, list[str]]]:
    """Join groups of fewer than :data:`FEWEST` patients: with the smaller neighbour, or where there is no order all."""
    groups = list(groups)
    while len(groups) > 1:
        at = min(range(len(groups)), key=lambda k: len(groups[k][1]))
        if len(groups[at][1]) >= FEWEST:
            break
        beside = (at - 1, at + 1) if ordered else range(len(groups))
        near = [k for k in beside if 0 <= k < len(groups) and k != at]
        other = min(near, key=lambda k: len(groups[k][1]))
        first, second = sorted((at, other))
        groups[first] = (groups[first][0] + groups[second][0], groups[first][1] + groups[second][1])
        del groups[second]
    return groups


def _counted(trait: str, classes: Sequence, members: Sequence[Member], verified: Sequence[Mapping]) -> dict:
    released = sum(one.released for one in members)
    drawn = {one.photo_id for one in members if one.drawn}
    passed = [one.passed_first for one in members if one.passed_first is not None]
    return {
        "name": _name(trait, classes),
        "patients": len({one.patient_id for one in members}),
        "photographs": len(members),
        "released": released,
        "held_back": len(members) - released,
        "new_faces": len(passed),
        "passed_first": sum(passed),
        "verified": {
            row["recogniser"]: {
                "hits": len(drawn.intersection(row["verified"])),
                "trials": len(drawn.difference(row["untried"])),
            }
            for row in verified
        },
    }


def _name(trait: str, classes: Sequence) -> str:
    if trait == "age":
        low, high = min(classes), max(classes) + 9
        return f"{low} to {high} years" if high < 90 else f"{low} years and more"
    if trait == "tone":
        first, last = TONES[min(classes)], TONES[max(classes)]
        return first if first == last else f"{first} to {last}"
    return ", ".join(_SEXES[name] for name in classes)
