"""The release gate: the criteria on the attacks' results without which no release is written. Missing results fail.

The gate judges what the new faces give away beyond the area that the clinician chose to share. Every attack that
searches for the patient among the originals is compared with the same attack on the preserved area alone, and with
chance among people of the same look (:mod:`deidlib.reid.comparison`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from deidlib.reid.attack import Attack
from deidlib.reid.comparison import (
    ALPHA,
    Comparison,
    compare,
    fewest_patients,
    fewest_to_fail,
    holm,
)
from deidlib.reid.face_attacks import AREA_IN_SAME_SEARCH, FLOOR, RANK1_ORIGINALS, SAME_LOOK
from deidlib.reid.soft_biometrics import FUSED
from deidlib.reid.verdicts import NOT_APPLICABLE, NOT_JUDGED, PASSED, criterion, verdict_of

#: Attacks that must not find the patient; the interval's upper end is judged as well where the cohort is large enough.
VERIFICATION = ("verification_same_photo", "verification_other_photo")
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
NO_FACES = "Not applicable: no released photograph has a generated face."
#: Quantile of pure chance that a side channel may reach.
_LUCK = 0.999


def release_gate(
    attacks: Sequence[Attack], recognisers: Iterable[str], evidence: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge the suite's results.

    Parameters
    ----------
    attacks : sequence of Attack
        All results; those that are compared with the single tries.
    recognisers : iterable of str
        Recognisers that have to have attacked.
    evidence : mapping
        ``patients`` and ``photographs`` that would be released, ``generated``: those with a new face; ``unmeasured``:
        how many embeddings and looks of these and of their originals are missing; ``shared_donors``: donors that two
        patients share; ``table``: what :func:`deidlib.columns.table_risk.table_risk` gave.
    options : mapping
        The configuration's block ``reid``.

    Returns
    -------
    dict
        As :func:`deidlib.reid.verdicts.verdict_of` gives it, and ``alpha``.
    """
    recognisers = list(recognisers)
    criteria = [
        _something(evidence),
        _measured(evidence, recognisers),
        _verified(attacks, recognisers, evidence),
        *_searches(attacks, recognisers, evidence, options),
        _upper_ends(attacks, evidence, options),
        _donors(evidence),
        _metadata(attacks),
        _numbers(attacks),
        _table(evidence),
    ]
    return verdict_of(criteria, options["small_cohort"]) | {"alpha": ALPHA}


def _named(
    attacks: Iterable[Attack], names: Sequence[str], recogniser: str | None = None, region: str = "whole"
) -> list[Attack]:
    return [
        attack
        for attack in attacks
        if attack.name in names and attack.region == region and recogniser in (None, attack.recogniser)
    ]


def _no_faces(evidence: Mapping) -> bool:
    """Whether something is released and none of it has a generated face; False if ``evidence`` does not say."""
    return bool(evidence["photographs"]) and evidence.get("generated") == 0


def _something(evidence: Mapping) -> dict:
    n = evidence["photographs"]
    return criterion("photographs", "There was at least one photograph to attack", n, 1, n, n is not None and n >= 1)


def _measured(evidence: Mapping, recognisers: list[str]) -> dict:
    value = evidence["unmeasured"]
    return criterion(
        "all_measured",
        "Every recogniser could compare every new face with its original, and every look could be measured",
        value,
        0,
        (evidence["photographs"] or 0) * len(recognisers),
        (NOT_APPLICABLE if _no_faces(evidence) else value == 0) if recognisers else False,
        "The number counts photographs in which no face was found or that gave no finite score, once for each "
        "recogniser and once for looks. An attack that cannot be tried proves nothing."
        if not _no_faces(evidence)
        else NO_FACES,
    )


def _verified(attacks: Sequence[Attack], recognisers: list[str], evidence: Mapping) -> dict:
    tried = _named(attacks, VERIFICATION)
    whole = all(_trials(_named(tried, VERIFICATION[:1], name)) for name in recognisers)
    hits = sum(attack.hits for attack in tried)
    worst = "; ".join(
        f"{attack.recogniser}: {attack.hits} of {attack.trials} ({attack.title})" for attack in tried if attack.hits
    )
    nothing = _no_faces(evidence) and not hits
    return criterion(
        "no_verified_reidentification",
        "No recogniser takes a released photograph for the patient, compared with any photograph of the patient",
        hits if whole else None,
        0,
        max((attack.trials for attack in tried), default=0),
        NOT_APPLICABLE if nothing else whole and hits == 0,
        NO_FACES
        if nothing
        else worst
        and f"{worst}. Stricter checks on single photographs (checks.sface_max, checks.dlib_min) try other donors.",
    )


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


def _nothing(like):
    return type(like)(like.photos[:0], like.patients[:0], like.hits[:0], np.zeros(0))


def _searches(attacks: Sequence[Attack], recognisers: list[str], evidence: Mapping, options: Mapping) -> list[dict]:
    """The criteria of :data:`SEARCHES`; Holm's correction is over the comparisons of all of them."""
    made = comparisons(attacks, options["seed"])
    adjusted = holm([one.p for one in made])
    fewest = fewest_patients(len(made)), fewest_to_fail(len(made))
    criteria = []
    for name, (statement, of_criterion, required) in SEARCHES.items():
        mine = [(one, float(p)) for one, p in zip(made, adjusted, strict=True) if one.attack in of_criterion]
        lacking = [r for r in recognisers if r not in {one.recogniser for one, _ in mine}]
        criteria.append(_search_criterion(name, statement, mine, lacking if required else [], fewest, evidence))
    return criteria


def _search_criterion(
    name: str,
    statement: str,
    made: list[tuple[Comparison, float]],
    lacking: list[str],
    fewest: tuple[int, int],
    evidence: Mapping,
) -> dict:
    beyond = [(one, p) for one, p in made if p <= ALPHA]
    patients = min((one.patients for one, _ in made), default=0)
    small, verdict, note = False, PASSED, ""
    if _no_faces(evidence):
        verdict, note = NOT_APPLICABLE, NO_FACES
    elif beyond:
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


def _upper_ends(attacks: Sequence[Attack], evidence: Mapping, options: Mapping) -> dict:
    judged = [
        attack
        for attack in attacks
        if attack.region == "whole"
        and not attack.intended
        and attack.trials
        and attack.name in (*VERIFICATION, *LEARNED)
    ]
    patients, enough = evidence["patients"] or 0, options["interval_patients"]
    small = sorted({attack.title for attack in judged if attack.patients < enough})
    if patients >= enough:
        judged = [attack for attack in judged if attack.patients >= enough]
    highest = max(judged, key=lambda attack: attack.ci95[1], default=None)
    value = highest.ci95[1] if highest else None
    statement = "The upper end of each attack's 95 % interval stays below the bound"
    if _no_faces(evidence):
        return criterion("interval_upper_ends", statement, value, None, patients, NOT_APPLICABLE, NO_FACES)
    if patients < enough:
        words = (
            "no rate was measured" if value is None else f"rates up to {value:.0%} are compatible with these results"
        )
        return criterion(
            "interval_upper_ends",
            f"{statement} (judged from {enough} patients on)",
            value,
            None,
            patients,
            NOT_JUDGED,
            f"Not judged: with {patients} patients {words}. So few patients can show little; it is no evidence that "
            "re-identification is rare.",
            small=True,
        )
    return criterion(
        "interval_upper_ends",
        statement,
        value,
        options["interval_upper"],
        patients,
        value is not None and value < options["interval_upper"],
        (f"The highest is that of {highest.title} by {highest.recogniser}." if highest else "")
        + (_floor(attacks, highest) if highest and value >= options["interval_upper"] else "")
        + (f" Not judged, because fewer than {enough} patients could be tried: {'; '.join(small)}." if small else ""),
    )


def _floor(attacks: Sequence[Attack], attack: Attack) -> str:
    """Describe what the same attack finds with the preserved area alone, and the remedy; empty where not tried."""
    alone = _named(attacks, (attack.name,), attack.recogniser, "region_only")
    if not _trials(alone):
        return ""
    return (
        f" It succeeded on {attack.hits:,} of {attack.trials:,}; with the preserved area alone, without any new face, "
        f"on {alone[0].hits:,} of {alone[0].trials:,}. This share comes from the area: a smaller one (for "
        "example teeth instead of mouth) gives away less."
    )


def _donors(evidence: Mapping) -> dict:
    value = evidence["shared_donors"]
    return criterion(
        "distinct_donors",
        "No two patients share a new person",
        value,
        0,
        evidence["patients"] or 0,
        NOT_APPLICABLE if _no_faces(evidence) else value == 0,
        NO_FACES if _no_faces(evidence) else "",
    )


def _metadata(attacks: Sequence[Attack]) -> dict:
    found = _named(attacks, ("side_channel_metadata",))
    hits, n = sum(attack.hits for attack in found), _trials(found)
    return criterion(
        "no_metadata", "No image file holds anything besides pixels", hits if n else None, 0, n, n > 0 and hits == 0
    )


def _numbers(attacks: Sequence[Attack]) -> dict:
    found = _named(attacks, ("side_channel_numbers",))
    hits, n = sum(attack.hits for attack in found), _trials(found)
    allowed = int(binom.ppf(_LUCK, n, found[0].chance)) if n else 0
    return criterion(
        "published_numbers",
        "Who holds the originals cannot match them to the index by the numbers that it publishes",
        hits if n else None,
        allowed,
        n,
        n > 0 and hits <= allowed,
        f"Chance explains up to {allowed} of {n}." if n and hits <= allowed else found[0].explanation if n else "",
    )


def _table(evidence: Mapping) -> dict:
    risk = evidence.get("table") or {}
    kept = risk.get("kept")
    return criterion(
        "k_anonymity",
        "The released columns leave every patient among as many others as the configured k asks for",
        risk.get("k"),
        risk.get("k_required"),
        risk.get("patients") or 0,
        NOT_JUDGED if risk and kept is None else kept is True,
        risk.get("note", "The columns were not measured."),
    )


def _trials(attacks: Iterable[Attack]) -> int:
    return sum(attack.trials for attack in attacks)
