"""The status of a run as one page of plain text."""

from __future__ import annotations

from datetime import datetime

from deidlib.review.verdicts import DISAGREEMENT, OFF, UNDECIDED
from deidlib.running.pace import in_words, pace
from deidlib.running.status import LATER_STAGES, Status


def page(status: Status, now: datetime) -> str:
    """Format the status as one page of plain text."""
    held, left = status.reasons.total(), status.photos - status.decided
    lines = [
        _line("photographs", status.photos, f"in {len(status.shards):,} shards"),
        _line("passed", status.passed, _share(status.passed, status.photos)),
        _line("in quarantine", held, _share(held, status.photos)),
        *(_line(f"  {reason}", count, "") for reason, count in status.reasons.most_common()),
        _line("under way or waiting", left, _share(left, status.photos)),
        "",
        *_going_on(status, now),
        "",
        f"{'stage':24}{'shards':>12}{'photographs':>14}{'held back':>12}",
    ]
    for step in status.steps:
        done = status.through(step)
        shards = f"{len(done):,}/{status.shards_with(step):,}"
        photos, stopped = sum(one.photos for one in done), sum(one.stopped for one in done)
        asked = "  asked by reviewers" if step.attempt >= status.attempts else ""
        lines.append(f"{step.title:24}{shards:>12}{photos:>14,}{stopped:>12,}{asked}")
    lines += [f"{name:24}{status.later[name]:>12}" for name in LATER_STAGES]
    lines += ["", *_review_lines(status.review)]
    lines += ["", f"releases: {', '.join(status.versions) or 'none yet'}"]
    if status.damaged:
        lines.append(f"damaged (start the workflow again, which makes them again): {', '.join(status.damaged)}")
    return "\n".join(line.rstrip() for line in lines)


def at_work(status: Status) -> str:
    """Stage at work, with photographs: ``inversion, attempt 0: 8 of 13 photographs``."""
    name, through, photos = status.now()
    return name if through is None else f"{name}: {through:,} of {photos:,} photographs"


def _going_on(status: Status, now: datetime) -> list[str]:
    doing = {True: "a run is going on", False: "no run is going on"}
    lines = [doing.get(status.running, "this file system cannot tell whether a run is going on")]
    if status.running is not False:
        lines.append(f"at work on {at_work(status)}")
    return [*lines, in_words(pace(status, now.timestamp()), now)]


def _review_lines(review: dict | str) -> list[str]:
    """Reviewers' decisions on the photographs that passed the checks so far."""
    if isinstance(review, str):
        return [f"review: cannot be read: {review}"]
    if review["mode"] == OFF:
        return ["review: off"]
    people = "two people have to make the same decision" if review["reviewers"] > 1 else "one person decides"
    names = {UNDECIDED: "to be decided", DISAGREEMENT: "reviewers disagree"}
    verdicts = {UNDECIDED: 0} | review["verdicts"]
    return [
        f"review: {review['mode']}, {people}; {review['photographs']:,} photographs passed the checks, "
        f"{review['looked_at']:,} were looked at",
        *(_line(f"  {names.get(state, state.replace('_', ' '))}", count, "") for state, count in verdicts.items()),
    ]


def _line(name: str, count: int, text: str) -> str:
    return f"{name:24}{count:>12,}  {text}"


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""
