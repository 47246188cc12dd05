"""Verdicts from decisions: on an image, on the attempts that are still to be made, and on what may be released."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deidlib.review.decisions import AGAINST, ANOTHER_FACE, AREA_WRONG, RELEASE, REOPEN, WITHHOLD, Decision, by_photo

OFF, OPTIONAL, REQUIRED = "off", "optional", "required"

UNDECIDED, DISAGREEMENT = "undecided", "disagreement"

#: Verdict → reason code (reasons.REASONS) of a photograph that it keeps out of the release.
REASON_OF = {
    WITHHOLD: "withheld_by_reviewer",
    ANOTHER_FACE: "another_face_asked",
    AREA_WRONG: "area_wrong",
    DISAGREEMENT: "reviewers_disagree",
    UNDECIDED: "review_pending",
}


@dataclass(frozen=True)
class Verdict:
    """The reviewers' verdict on one image.

    Attributes
    ----------
    state : str
        ``release``, ``withhold``, ``another_face``, ``area_wrong``, ``disagreement`` or ``undecided``.
    decisions : tuple of Decision
        The decision in force of each reviewer who looked at this image.
    against_before : bool
        The last decision on an earlier image of this photograph was against it.
    """

    state: str
    decisions: tuple[Decision, ...] = ()
    against_before: bool = False

    @property
    def holds_back(self) -> bool:
        """Whether the image stays out of a release that no review is required for.

        An image whose predecessor was turned down waits for a decision of its own, and so does one that the first of
        two reviewers turned down.
        """
        if self.state == UNDECIDED:
            return self.against_before or any(decision.decision in AGAINST for decision in self.decisions)
        return self.state != RELEASE


def verdict(decisions: Iterable[Decision], sha256: str | None, reviewers: int = 1) -> Verdict:
    """Verdict on the image with this digest.

    Parameters
    ----------
    decisions : iterable of Decision
        Of one photograph, in their order.
    sha256 : str or None
        Digest of the image; None: there is none.
    reviewers : int
        1: the last decision counts, whoever made it. 2: both have to make the same decision.
    """
    standing: dict[tuple[str, int], Decision] = {}
    for decision in decisions:
        standing.pop((decision.sha256, decision.reviewer), None)  # the newest comes last
        if decision.decision != REOPEN:
            standing[decision.sha256, decision.reviewer] = decision
    mine = tuple(one for one in standing.values() if one.sha256 == sha256)
    before = [one for one in standing.values() if one.sha256 != sha256]
    against_before = bool(before) and before[-1].decision in AGAINST
    if len(mine) < reviewers:
        return Verdict(UNDECIDED, mine, against_before)
    if reviewers == 1:
        return Verdict(mine[-1].decision, mine, against_before)
    kinds = {decision.decision for decision in mine}
    return Verdict(kinds.pop() if len(kinds) == 1 else DISAGREEMENT, mine, against_before)


def next_attempt(shown: int, attempts: int) -> int:
    """The attempt that answers a request for another face: the first after those that the configuration gives.

    A request on an image of such a further attempt is answered by the attempt after it.
    """
    return max(shown + 1, attempts)


def requests(decisions: Iterable[Decision], attempts: int, reviewers: int = 1) -> dict[int, set[str]]:
    """Photographs for which another face was asked, by the attempt that makes it.

    Parameters
    ----------
    decisions : iterable of Decision
        Of one shard.
    attempts : int
        Number of attempts of the configuration.
    reviewers : int
        See :func:`verdict`.
    """
    wanted: dict[int, set[str]] = {}
    for photo, mine in by_photo(list(decisions)).items():
        for sha256, shown in sorted({(one.sha256, one.attempt) for one in mine}):
            if verdict(mine, sha256, reviewers).state == ANOTHER_FACE:
                wanted.setdefault(next_attempt(shown, attempts), set()).add(photo)
    return wanted


def attempts_needed(decisions: Iterable[Decision], attempts: int, reviewers: int = 1) -> int:
    """Number of attempts of a shard: the configuration's, and one for each round of requests."""
    return max([attempts, *(number + 1 for number in requests(decisions, attempts, reviewers))])


def turned_down(decisions: Iterable[Decision], reviewers: int = 1) -> dict[str, int]:
    """Highest attempt of each photograph at which another face was asked for; only a later one may be released.

    A request is about the face that this attempt gives the patient. So it also counts where the attempt's image has
    changed since, for example because a mask was drawn: the face that was turned down must not come back.
    """
    highest: dict[str, int] = {}
    for photo, mine in by_photo(list(decisions)).items():
        for sha256, shown in {(one.sha256, one.attempt) for one in mine}:
            if verdict(mine, sha256, reviewers).state == ANOTHER_FACE:
                highest[photo] = max(highest.get(photo, -1), shown)
    return highest


def effect_digest(decisions: Sequence[Decision]) -> str:
    """SHA-256 of the decisions that can keep something out of a release, or let it in again.

    Decisions on photographs that were never held back do not count: nothing has to run again for them.
    """
    weighty = {one.photo for one in decisions if one.decision in AGAINST}
    ours = [one for one in decisions if one.photo in weighty]
    kept = [(one.photo, one.sha256, one.attempt, one.decision, one.reviewer) for one in ours]
    return hashlib.sha256(repr(kept).encode()).hexdigest() if kept else "none"


def count_verdicts(verdicts: Mapping[str, Verdict], unseen: int = 0) -> dict:
    """Counts for audit, data card and RO-Crate: photographs by verdict, and by role of those who looked.

    ``verdicts`` are those on the images that would be released or that only reviewers hold back;
    ``unseen`` is the number of further ones on which there is no decision.
    """
    states = Counter(one.state for one in verdicts.values()) + Counter({UNDECIDED: unseen})
    roles: dict[str, int] = {}
    for one in verdicts.values():
        for role in {decision.role for decision in one.decisions}:
            roles[role] = roles.get(role, 0) + 1
    return {
        "photographs": states.total(),
        "looked_at": sum(bool(one.decisions) for one in verdicts.values()),
        "verdicts": dict(sorted(states.items())),
        "roles": dict(sorted(roles.items())),
    }
