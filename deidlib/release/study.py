"""The study behind a dataset, as the configuration's block ``study`` states it: what is published of it, and its check.

The texts are the institution's. The software cannot measure them, so it prints them as they are, after a search for
what the sample sheet says of single patients.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from deidlib.config import AUDIT_ONLY
from deidlib.errors import ReleaseError
from deidlib.intake.screening import CATEGORY_PATIENTS
from deidlib.intake.spelling import Ids, runs
from deidlib.outcomes.outcomes import Outcome


def study_fields(config: Mapping) -> dict[str, str]:
    """Give the published fields of the study: those that are stated, and not for the audit alone (``AUDIT_ONLY``).

    Parameters
    ----------
    config : mapping
        The whole configuration; ``study`` may be missing.

    Returns
    -------
    dict
        Some of ``institution, protocol, funder, contact, licence, data_use_terms, consent, retention``.
    """
    return {name: text for name, text in stated_fields(config).items() if name not in AUDIT_ONLY}


def stated_fields(config: Mapping) -> dict[str, str]:
    """Give every field of the study that is stated, with its text in one line."""
    given = {name: " ".join(str(text or "").split()) for name, text in (config.get("study") or {}).items()}
    return {name: text for name, text in given.items() if text}


def refuse_patients(config: Mapping, outcomes: Iterable[Outcome]) -> None:
    """Refuse a text of the study that says something of a single patient.

    Parameters
    ----------
    config : mapping
        The whole configuration.
    outcomes : iterable of Outcome
        The whole cohort's.

    Raises
    ------
    ReleaseError
        A text holds an id of the sheet, in any spelling, or a cell of several words or with a number in it that fewer
        than :data:`deidlib.intake.screening.CATEGORY_PATIENTS` patients share. The error names the field alone.
    """
    fields = stated_fields(config)
    if not fields:
        return
    ids, carriers = set(), defaultdict(set)
    for outcome in outcomes:
        photo = outcome.photo
        ids.update((photo["patient_id"], photo["photo_id"]))
        for cell in (photo["diagnosis"], *json.loads(photo["columns"] or "{}").values()):
            if cell is not None:
                carriers[str(cell)].add(photo["patient_id"])
    everybody = len(set().union(*carriers.values())) if carriers else 0
    rare = (
        cell
        for cell, who in carriers.items()
        if len(who) < CATEGORY_PATIENTS and not 1 < len(who) == everybody and _of_several_words(cell)
    )
    known = Ids({*ids, *rare})
    for name, text in fields.items():
        if known.within(text):
            raise ReleaseError(
                f"study.{name}: holds an id or a patient's cell of the sample sheet; audit and release print this "
                "text, so write it without them"
            )


def _of_several_words(cell: str) -> bool:
    found = runs(cell)
    return len(found) > 1 or any(run[0].isdecimal() for run in found)
