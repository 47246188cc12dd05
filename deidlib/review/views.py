"""Content of the page as plain values: the list of patients, and one photograph in full."""

from __future__ import annotations

from collections.abc import Mapping

from deidlib.contract.routes import GENERATE
from deidlib.errors import InputError
from deidlib.review.cases import Case, Cohort, held_back_because
from deidlib.review.decisions import (
    AGAINST,
    ANOTHER_FACE,
    AREA_WRONG,
    KINDS,
    RELEASE,
    REOPEN,
    WITHHOLD,
    WITHHOLD_REASONS,
    Decision,
    append_decisions,
    now,
    parse,
)
from deidlib.review.masks import mask_file
from deidlib.review.verdicts import UNDECIDED, Verdict


class Changed(InputError):
    """The image is not the one that was looked at."""


def overview(cohort: Cohort, reviewer: int) -> list[dict]:
    """List patients with their photographs: ``id``, ``state``, ``held`` (by checks), ``mine`` (my decision)."""
    return [
        {"id": patient, "photos": [_entry(cohort, case, reviewer) for case in cases]}
        for patient, cases in cohort.patients().items()
    ]


def detail(cohort: Cohort, case: Case, reviewer: int, original_ids: bool = True) -> dict:
    """Everything about one photograph but its pictures.

    Parameters
    ----------
    cohort : Cohort
        The review.
    case : Case
        The photograph.
    reviewer : int
        Who looks. A second reviewer's decisions are shown to those who have decided themselves.
    original_ids : bool
        Whether ids of the sheet are among it.
    """
    photo, found, known = case.outcome.photo, cohort.verdict(case), len(cohort.decisions(case.shard))
    side = case.outcome.region["crop_side"] if case.outcome.region else None
    size = [photo["width"], photo["height"]] if side is None else [side, side]
    ids = {"photo_id": photo["photo_id"], "patient_id": photo["patient_id"]} if original_ids else {}
    return {
        **_entry(cohort, case, reviewer),
        **ids,
        "row": photo["row"],
        "view": photo["view"],
        "timepoint": photo["timepoint"],
        "attempt": case.attempt,
        "sha256": cohort.digest(case),
        "size": size,
        "original": photo["width"] is not None,
        "outline": cohort.pictures.outline(case.shard, case.photo),
        "remarks": cohort.remarks(case),
        "because": None if case.passed else held_back_because(case),
        "again": found.against_before and not _mine(found, reviewer),
        "allowed": allowed(case),
        "mask": mask_file(cohort.private, case.shard, case.photo).is_file(),
        "decisions": [_decision_json(one) for one in _shown(found, reviewer)],
        "seen": known,
    }


def allowed(case: Case) -> list[str]:
    """Decisions that are possible on a photograph.

    A photograph that failed the checks can't be released by a decision. Another face needs a generated face.
    """
    if case.attempt is None:
        return []
    kinds = [RELEASE, WITHHOLD] if case.passed else []
    if case.outcome.region is not None and case.outcome.region["route"] == GENERATE:
        kinds.append(ANOTHER_FACE)
    return [*kinds, AREA_WRONG, REOPEN]


def decide(cohort: Cohort, given: Mapping, role: str, reviewer: int) -> Case:
    """Write a decision that came from the page.

    Parameters
    ----------
    cohort : Cohort
        The review.
    given : mapping
        ``photo``, ``sha256`` (of the image that was looked at), ``decision``, ``reason``, ``note`` and ``seen`` (number
        of decisions that the page knew).
    role, reviewer
        Who decides.

    Raises
    ------
    Changed
        The image in the tables is another one by now.
    deidlib.review.decisions.Overtaken
        Another window of the same reviewer was faster.
    InputError
        It cannot be decided so.
    """
    case = cohort.case(str(given.get("photo")))
    if case.attempt is None or cohort.digest(case) != given.get("sha256"):
        raise Changed("the picture has changed since you opened it; look at the new one")
    made = parse(
        {
            "photo": case.photo,
            "sha256": given.get("sha256"),
            "attempt": case.attempt,
            "decision": given.get("decision"),
            "reason": given.get("reason"),
            "note": given.get("note") or "",
            "role": role,
            "reviewer": reviewer,
            "time": now(),
        }
    )
    if made.decision not in allowed(case):
        raise InputError("this cannot be decided of this photograph")
    seen = given.get("seen")
    append_decisions(cohort.private, case.shard, [made], seen if isinstance(seen, int) else None)
    return case


def texts() -> dict:
    """Words that the page needs."""
    return {"reasons": WITHHOLD_REASONS, "kinds": list(KINDS), "against": list(AGAINST), "withhold": WITHHOLD}


def _entry(cohort: Cohort, case: Case, reviewer: int) -> dict:
    found = cohort.verdict(case)
    mine = _mine(found, reviewer)
    return {
        "id": case.photo,
        "held": not case.passed,
        "image": case.attempt is not None,
        "mine": mine.decision if mine else None,
        "state": found.state if mine or cohort.settings.reviewers == 1 else UNDECIDED,
    }


def _mine(found: Verdict, reviewer: int) -> Decision | None:
    return next((one for one in found.decisions if one.reviewer == reviewer), None)


def _shown(found: Verdict, reviewer: int) -> list[Decision]:
    mine = _mine(found, reviewer)
    return list(found.decisions) if mine else []


def _decision_json(one: Decision) -> dict:
    return {name: getattr(one, name) for name in ("decision", "reason", "note", "role", "reviewer", "time")}
