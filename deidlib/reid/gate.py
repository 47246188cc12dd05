"""The release gate: what must hold of the attacks' results for a release to be written. What is missing fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy.stats import binom

from deidlib.reid.attack import Attack

#: Attacks that must not find the patient; the interval's upper end is judged as well where the cohort is large enough.
VERIFICATION = ("verification_same_photo", "verification_other_photo")
RANK1 = "identification_rank1"
RANK1_ORIGINALS = "identification_rank1_originals"
LEARNED = ("parrot_linear", "parrot_mlp", "reversal")


def release_gate(
    attacks: Sequence[Attack], recognisers: Iterable[str], evidence: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge the suite's results.

    Parameters
    ----------
    attacks : sequence of Attack
        All results.
    recognisers : iterable of str
        Recognisers that have to have attacked.
    evidence : mapping
        ``patients`` and ``photographs`` that would be released; ``unmeasured``: how many embeddings of released
        photographs and their originals are missing; ``generated``: released photographs with a generated face
        (where there is none, criteria on faces are not applicable); ``shared_donors``: donors that two patients share;
        ``table``: what :func:`deidlib.columns.table_risk.table_risk` gave.
    options : mapping
        The configuration's block ``reid``.

    Returns
    -------
    dict
        ``{"passed": …, "criteria": [{name, statement, value, bound, n, passed, note}, …]}``.
    """
    recognisers = list(recognisers)
    criteria = [
        _something(evidence),
        _measured(evidence, recognisers),
        _verified(attacks, recognisers),
        _rank1(attacks, recognisers),
        _rank1_originals(attacks, recognisers, options),
        _learned_rank1(attacks, recognisers, options),
        _upper_ends(attacks, evidence, options),
        _donors(evidence),
        _metadata(attacks),
        _table(evidence),
    ]
    if evidence.get("generated") == 0:
        criteria = [_without_faces(criterion, evidence) for criterion in criteria]
    return {"passed": all(criterion["passed"] is True for criterion in criteria), "criteria": criteria}


#: Criteria on faces, which have no meaning where no released photograph has a generated one.
ON_FACES = (
    "all_measured",
    "no_verified_reidentification",
    "rank1_within_chance",
    "rank1_originals_within_chance",
    "learned_rank1_within_chance",
    "interval_upper_ends",
    "distinct_donors",
)


def _without_faces(criterion: dict, evidence: Mapping) -> dict:
    """State, and do not judge, a criterion on faces: nothing but the preserved area is released, and no face is made.

    What recognisers make of that area is the price of sharing it; the checks on single photographs hold back what one
    finds a face in and recognises.
    """
    if criterion["name"] not in ON_FACES or not evidence["photographs"]:
        return criterion
    note = "Not applicable: no released photograph has a generated face."
    if criterion["value"] is not None:
        note += " The number is what the preserved area, aligned by the original's face, gives away by itself."
    return {**criterion, "bound": None, "passed": True, "applicable": False, "note": note}


def _criterion(name: str, statement: str, value: Any, bound: Any, n: int, passed: bool, note: str = "") -> dict:
    return {
        "name": name,
        "statement": statement,
        "value": value,
        "bound": bound,
        "n": n,
        "passed": bool(passed),
        "note": note,
    }


def _named(attacks: Iterable[Attack], names: Sequence[str], recogniser: str | None = None) -> list[Attack]:
    return [
        attack
        for attack in attacks
        if attack.name in names and attack.region == "whole" and recogniser in (None, attack.recogniser)
    ]


def _something(evidence: Mapping) -> dict:
    n = evidence["photographs"]
    return _criterion("photographs", "There was at least one photograph to attack", n, 1, n, n is not None and n >= 1)


def _measured(evidence: Mapping, recognisers: list[str]) -> dict:
    value = evidence["unmeasured"]
    return _criterion(
        "all_measured",
        "Every recogniser could compare every photograph that would be released with its original",
        value,
        0,
        (evidence["photographs"] or 0) * len(recognisers),
        value == 0 and bool(recognisers),
        "Counted are photographs, once a recogniser, in which no face was found: an attack that cannot be tried "
        "proves nothing.",
    )


def _verified(attacks: Sequence[Attack], recognisers: list[str]) -> dict:
    tried = _named(attacks, VERIFICATION)
    whole = all(_trials(_named(tried, VERIFICATION[:1], name)) for name in recognisers)
    hits = sum(attack.hits for attack in tried)
    worst = "; ".join(
        f"{attack.recogniser}: {attack.hits} of {attack.trials} ({attack.title})" for attack in tried if attack.hits
    )
    return _criterion(
        "no_verified_reidentification",
        "No recogniser takes a released photograph for the patient, compared with any photograph of the patient",
        hits if whole else None,
        0,
        max((attack.trials for attack in tried), default=0),
        whole and hits == 0,
        worst
        and f"{worst}. Stricter checks on single photographs (checks.sface_max, checks.dlib_min) try other donors.",
    )


def _rank1(attacks: Sequence[Attack], recognisers: list[str]) -> dict:
    beyond, tried, complete = _beyond_chance(attacks, recognisers, RANK1)
    return _criterion(
        "rank1_within_chance",
        "In a search among all originals and the distractors, the patient comes first no more often than by chance",
        len(beyond) if complete else None,
        0,
        tried,
        complete and not beyond,
        "; ".join(beyond) or "Counted are recognisers whose hits exceed the 97.5 % quantile of pure chance.",
    )


def _rank1_originals(attacks: Sequence[Attack], recognisers: list[str], options: Mapping) -> dict:
    """The same among the originals alone; judged where the configuration asks for it."""
    beyond, tried, complete = _beyond_chance(attacks, recognisers, RANK1_ORIGINALS)
    judged = options["rank1_originals"]
    note = "; ".join(beyond)
    if beyond:
        note += (
            ". New faces keep the patient's apparent age, sex, skin tone, pose and light on purpose, and these "
            "alone narrow down a small group of known people: who knows that somebody is one of these patients "
            "guesses better than by chance."
        )
    if not judged:
        note = f"Not judged (reid.rank1_originals is false). {note}".rstrip()
    return _criterion(
        "rank1_originals_within_chance",
        "In a search among the originals alone, the patient comes first no more often than by chance",
        len(beyond) if complete else None,
        0 if judged else None,
        tried,
        not judged or (complete and not beyond),
        note,
    )


def _learned_rank1(attacks: Sequence[Attack], recognisers: list[str], options: Mapping) -> dict:
    """The same by attackers who learned from other patients; what could not be tried is no fault."""
    beyond, tried = [], 0
    for name in LEARNED:
        found, n, _ = _beyond_chance(attacks, recognisers, f"{name}_rank1")
        beyond += [f"{words} ({name})" for words in found]
        tried = max(tried, n)
    judged = options["rank1_originals"]
    return _criterion(
        "learned_rank1_within_chance",
        "An attacker who learned from other patients and searches among the originals alone finds the patient no more "
        "often than by chance",
        len(beyond) if tried else None,
        0 if judged else None,
        tried,
        not judged or not beyond,
        ("" if judged else "Not judged (reid.rank1_originals is false). ")
        + ("; ".join(beyond) if tried else "Too few patients to learn from, or switched off."),
    )


def _beyond_chance(attacks: Sequence[Attack], recognisers: list[str], name: str) -> tuple[list[str], int, bool]:
    """What exceeds chance, in words; tries; whether every recogniser was tried and has a chance level."""
    beyond, tried, complete = [], 0, bool(recognisers)
    for recogniser in recognisers:
        found = _named(attacks, (name,), recogniser)
        complete &= _trials(found) > 0 and all(attack.chance is not None for attack in found)
        for attack in found:
            tried = max(tried, attack.trials)
            if attack.chance is not None and attack.hits > chance_limit(attack):
                allowed = f"chance allows {chance_limit(attack)}"
                beyond.append(f"{recogniser} finds {attack.hits} of {attack.trials}, {allowed}")
    return beyond, tried, complete


def chance_limit(attack: Attack) -> int:
    """Most hits that pure chance explains: the 97.5 % quantile of the binomial distribution at the chance level."""
    return int(binom.ppf(0.975, attack.trials, attack.chance)) if attack.trials else 0


def _upper_ends(attacks: Sequence[Attack], evidence: Mapping, options: Mapping) -> dict:
    judged = [
        attack
        for attack in attacks
        if attack.region == "whole"
        and not attack.intended
        and attack.trials
        and attack.name in (*VERIFICATION, RANK1, *LEARNED)
    ]
    patients, enough = evidence["patients"] or 0, options["interval_patients"]
    small = sorted({attack.title for attack in judged if attack.patients < enough})
    if patients >= enough:
        judged = [attack for attack in judged if attack.patients >= enough]
    highest = max(judged, key=lambda attack: attack.ci95[1], default=None)
    value = highest.ci95[1] if highest else None
    statement = "The upper end of each attack's 95 % interval stays below the bound"
    if patients < enough:
        words = (
            "no rate was measured" if value is None else f"rates up to {value:.0%} are compatible with these results"
        )
        return _criterion(
            "interval_upper_ends",
            f"{statement} (judged from {enough} patients on)",
            value,
            None,
            patients,
            True,
            f"Not judged: with {patients} patients {words}. This release rests on the counts alone, and so few "
            "patients can show little; it is no evidence that re-identification is rare.",
        )
    return _criterion(
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
    """What the same attack finds with the preserved area alone, and what to do about it; nothing where not tried."""
    alone = [
        other
        for other in attacks
        if (other.name, other.recogniser, other.region) == (attack.name, attack.recogniser, "region_only")
    ]
    if not _trials(alone):
        return ""
    return (
        f" It succeeded on {attack.hits:,} of {attack.trials:,}; with the preserved area alone, without any new face, "
        f"on {alone[0].hits:,} of {alone[0].trials:,}. That share comes with the area: a smaller one (teeth "
        "instead of mouth, say) gives away less."
    )


def _donors(evidence: Mapping) -> dict:
    value = evidence["shared_donors"]
    return _criterion(
        "distinct_donors", "No two patients share a new person", value, 0, evidence["patients"] or 0, value == 0
    )


def _metadata(attacks: Sequence[Attack]) -> dict:
    found = _named(attacks, ("side_channel_metadata",))
    hits, n = sum(attack.hits for attack in found), _trials(found)
    return _criterion(
        "no_metadata", "No image file holds anything besides pixels", hits if n else None, 0, n, n > 0 and hits == 0
    )


def _table(evidence: Mapping) -> dict:
    risk = evidence.get("table") or {}
    return _criterion(
        "k_anonymity",
        "The released columns leave every patient among as many others as the configured k asks for",
        risk.get("k"),
        risk.get("k_required"),
        risk.get("patients") or 0,
        risk.get("kept") is True,
        risk.get("note", "The columns were not measured."),
    )


def _trials(attacks: Iterable[Attack]) -> int:
    return sum(attack.trials for attack in attacks)
