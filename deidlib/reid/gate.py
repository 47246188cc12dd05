"""The release gate: the criteria on the attacks' results without which no release is written. Missing results fail.

The gate judges what the new faces give away beyond the area that the clinician chose to share. The searches among the
originals are judged in :mod:`deidlib.reid.searches`, everything else here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy.stats import binom

from deidlib.reid.attack import Attack
from deidlib.reid.comparison import ALPHA
from deidlib.reid.searches import LEARNED, search_criteria
from deidlib.reid.verdicts import NOT_APPLICABLE, NOT_JUDGED, criterion, verdict_of

#: Attacks that must not find the patient; the interval's upper end is judged as well where the cohort is large enough.
VERIFICATION = ("verification_same_photo", "verification_other_photo")
_NO_FACES = "Not applicable: no released photograph has a generated face."
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
        *(_of_faces(one, evidence) for one in search_criteria(attacks, recognisers, options["seed"])),
        _of_faces(_upper_ends(attacks, evidence, options), evidence),
        _of_faces(_donors(evidence), evidence),
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


def _of_faces(one: dict, evidence: Mapping) -> dict:
    """A criterion on new faces: not applicable where something is released and none of it has a generated face.

    If ``evidence`` does not say how many have one, the criterion is judged.
    """
    if not evidence["photographs"] or evidence.get("generated") != 0:
        return one
    return one | {"verdict": NOT_APPLICABLE, "passed": None, "small": False, "note": _NO_FACES}


def _something(evidence: Mapping) -> dict:
    n = evidence["photographs"]
    return criterion("photographs", "There was at least one photograph to attack", n, 1, n, n is not None and n >= 1)


def _measured(evidence: Mapping, recognisers: list[str]) -> dict:
    value = evidence["unmeasured"]
    found = criterion(
        "all_measured",
        "Every recogniser could compare every new face with its original, and every look could be measured",
        value,
        0,
        (evidence["photographs"] or 0) * len(recognisers),
        bool(recognisers) and value == 0,
        "The number counts photographs in which no face was found or that gave no finite score, once for each "
        "recogniser and once for looks. An attack that cannot be tried proves nothing.",
    )
    return _of_faces(found, evidence) if recognisers else found


def _verified(attacks: Sequence[Attack], recognisers: list[str], evidence: Mapping) -> dict:
    tried = _named(attacks, VERIFICATION)
    whole = all(_trials(_named(tried, VERIFICATION[:1], name)) for name in recognisers)
    hits = sum(attack.hits for attack in tried)
    worst = "; ".join(
        f"{attack.recogniser}: {attack.hits} of {attack.trials} ({attack.title})" for attack in tried if attack.hits
    )
    found = criterion(
        "no_verified_reidentification",
        "No recogniser takes a released photograph for the patient, compared with any photograph of the patient",
        hits if whole else None,
        0,
        max((attack.trials for attack in tried), default=0),
        whole and hits == 0,
        worst
        and f"{worst}. Stricter checks on single photographs (checks.sface_max, checks.dlib_min) try other donors.",
    )
    return found if hits else _of_faces(found, evidence)


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
        value == 0,
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
        "Somebody who holds the originals cannot match them to the index by the numbers that it publishes",
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
