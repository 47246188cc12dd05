"""How far a run has come, from its results folder alone: what is decided, how fast, when it will end.

A shard's photographs are decided one by one as stages hold them back, and all of them once its last attempt is
checked. The pace is that of inversion, which takes nearly all of the time: photographs that its finished tables
handled, of all attempts, by the tables' times, in the last day of work. What is left of it is the first attempt of the
shards that wait, and of each later attempt the share of photographs that went to it so far. Attempts for which
reviewers asked come on top, in the shards that they asked for. Stages after the attempts count as done when their files
exist; their duration is not estimated.
"""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc

from deidlib.errors import DeidlibError
from deidlib.outcomes.attempts import GROUP_COLUMN, released_attempts
from deidlib.outcomes.outcomes import read_outcomes
from deidlib.review.effect import review_numbers
from deidlib.review.verdicts import DISAGREEMENT, OFF, OPTIONAL, UNDECIDED
from deidlib.review.workflow import made_attempts
from deidlib.storage import sealed, tables
from deidlib.storage.results import Results, stage_table

STAGES = ("photos", "landmarks", "regions")
ATTEMPT_STAGES = ("donors", "faces", "blended", "checks")
#: Over the whole cohort, in their order, after the shards' attempts and embeddings.
LATER_STAGES = ("sweep", "attacks", "release", "report")
_TITLES = dict(
    zip(
        (*STAGES, *ATTEMPT_STAGES),
        ("intake", "landmarks", "regions", "donors", "inversion", "blending", "checks"),
        strict=True,
    )
)
_SCHEMAS = {
    "photos": tables.PHOTOS,
    "landmarks": tables.LANDMARKS,
    "regions": tables.REGIONS,
    "donors": tables.DONORS,
    "faces": tables.FACES,
    "blended": tables.BLENDED,
    "checks": tables.CHECKS,
}
_WINDOW = 24 * 3600.0


@dataclass
class Stage:
    """One stage, of one attempt where it has attempts: finished shards, photographs in them, those it held back.

    ``of`` is the number of shards that have this stage at all.
    """

    of: int = 0
    shards: int = 0
    photos: int = 0
    stopped: int = 0


@dataclass(frozen=True)
class Inversion:
    """Inversion of one shard in one attempt.

    Attributes
    ----------
    attempt : int
        From 0.
    photos : int
        Photographs of the shard.
    handled : int or None
        Those that the attempt handles; None as long as its donors are not chosen.
    done : float or None
        When its table was written (seconds since 1970); None: not yet.
    """

    attempt: int
    photos: int
    handled: int | None
    done: float | None


@dataclass
class Status:
    """What :func:`read_status` found.

    ``attempts`` is the configuration's number; ``stages`` has those that reviewers asked for, too. ``finished`` counts
    the shards whose last attempt is checked. ``review`` is what :func:`deidlib.review.effect.review_numbers` gives, of
    the shards with outcomes, or a sentence that says why it cannot be told. ``inversions`` has an entry for each
    attempt of each shard whose photographs are decoded, ``embedded`` counts the shards with embeddings, and ``later``
    says of each of :data:`LATER_STAGES` whether its files are there.
    """

    photos: int = 0
    shards: int = 0
    attempts: int = 1
    running: bool | None = None
    passed: int = 0
    reasons: Counter = field(default_factory=Counter)
    stages: dict[str, Stage] = field(default_factory=dict)
    inversions: list[Inversion] = field(default_factory=list)
    finished: int = 0
    embedded: int = 0
    review: dict | str = field(default_factory=dict)
    later: dict[str, bool] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    begun: float | None = None

    @property
    def quarantined(self) -> int:
        """Photographs that are held back for good."""
        return sum(self.reasons.values())

    @property
    def decided(self) -> int:
        """Photographs whose fate is known."""
        return self.passed + self.quarantined

    def shares(self) -> list[float | None]:
        """Share of the photographs that each attempt handles, over the shards that tell; None: none does yet."""
        shares = []
        for attempt in range(self.attempts):
            told = [one for one in self.inversions if one.attempt == attempt and one.handled is not None]
            photos = sum(one.photos for one in told)
            shares.append(sum(one.handled for one in told) / photos if photos else None)
        return shares

    def ahead(self) -> float:
        """Inversions that are still to be done, in the attempts whose share is known; expected, not counted."""
        ahead = 0.0
        for attempt, share in enumerate(self.shares()):
            if share is None:
                continue
            here = [one for one in self.inversions if one.attempt == attempt]
            ahead += share * (self.photos - sum(one.photos for one in here))
            waiting = [one for one in here if one.done is None]
            ahead += sum(share * one.photos if one.handled is None else one.handled for one in waiting)
        asked = [one for one in self.inversions if one.attempt >= self.attempts and one.done is None]
        return ahead + sum(one.handled or 0 for one in asked)

    def per_hour(self) -> float | None:
        """Inversions per hour in the last day of work, of all attempts; None: too little to tell."""
        done = [(one.done, one.handled or 0) for one in self.inversions if one.done is not None]
        if not done or self.begun is None:
            return None
        last = max(time for time, _ in done)
        since = max(self.begun, last - _WINDOW)
        counted = sum(handled for time, handled in done if time > since)
        return counted / (last - since) * 3600 if last > since and counted else None


def read_status(results: Path) -> Status:
    """Read the tables of a results folder; nothing is written, and a run may go on meanwhile.

    Raises
    ------
    FileNotFoundError
        Nothing was planned here yet.
    """
    here = Results.of_folder(results)
    plan = json.loads(here.plan.read_text(encoding="utf-8"))
    run, running = _run(here.run_file)
    status = Status(plan["n_photos"], len(plan["shards"]), running=running)
    status.attempts = run.get("attempts") or _attempts_seen(here, plan["shards"])
    status.begun = here.pinned.stat().st_mtime
    mode = {"review": run.get("review", OPTIONAL), "reviewers": run.get("reviewers", 1)}
    made = {shard: _made(here.private, shard, mode | {"attempts": status.attempts}) for shard in plan["shards"]}
    names = [*STAGES, *(f"{stage} {n}" for n in range(max(made.values(), default=1)) for stage in ATTEMPT_STAGES)]
    status.stages = {name: Stage(_shards_with(name, made)) for name in names}
    for shard in plan["shards"]:
        _add_shard(status, here, shard, made[shard], run.get("identity") or "per_patient")
    status.review = _review(here, plan["shards"], mode)
    status.versions = sorted(file.parent.name for file in here.releases.glob("*/SHA256SUMS"))
    version = run.get("version") or "*"
    found = (
        here.sweep.is_file(),
        here.attacks.is_file(),
        any(here.releases.glob(f"{version}/SHA256SUMS")),
        any(here.reports.glob(f"{version}/audit.html")),
    )
    status.later = dict(zip(LATER_STAGES, found, strict=True))
    return status


def page(status: Status, now: datetime) -> str:
    """Tell the status on one page of plain text."""
    left = status.photos - status.decided
    lines = [
        _line("photographs", status.photos, f"in {status.shards:,} shards"),
        _line("passed", status.passed, _share(status.passed, status.photos)),
        _line("in quarantine", status.quarantined, _share(status.quarantined, status.photos)),
        *(_line(f"  {reason}", count, "") for reason, count in status.reasons.most_common()),
        _line("under way or waiting", left, _share(left, status.photos)),
        "",
        *_pace(status, now),
        "",
        f"{'stage':24}{'shards':>12}{'photographs':>14}{'held back':>12}",
    ]
    for name, stage in status.stages.items():
        title, _, attempt = name.partition(" ")
        shown = _TITLES[title] + (f", attempt {attempt}" if attempt else "")
        asked = "  asked by reviewers" if attempt and int(attempt) >= status.attempts else ""
        done = f"{stage.shards:,}/{stage.of:,}"
        lines.append(f"{shown:24}{done:>12}{stage.photos:>14,}{stage.stopped:>12,}{asked}")
    lines += _after_the_attempts(status)
    lines += ["", *_review_lines(status.review)]
    lines += ["", f"releases: {', '.join(status.versions) or 'none yet'}"]
    if status.damaged:
        lines.append(f"damaged (start the workflow again, which makes them anew): {', '.join(status.damaged)}")
    return "\n".join(line.rstrip() for line in lines)


def _made(private: Path, shard: str, config: dict) -> int:
    """Number of attempts of a shard; that of the configuration where its decisions are damaged."""
    try:
        return made_attempts(private, shard, config)
    except DeidlibError:
        return config["attempts"]


def _shards_with(stage: str, made: dict[str, int]) -> int:
    attempt = stage.partition(" ")[2]
    return sum(not attempt or int(attempt) < number for number in made.values())


def _review(results: Results, shards: list[str], mode: dict) -> dict | str:
    known = [shard for shard in shards if stage_table(results.shard(shard), "outcomes").is_file()]
    try:
        return review_numbers(results.private, known, mode)
    except DeidlibError as error:
        return str(error)


def _review_lines(review: dict | str) -> list[str]:
    """Who decided what before the release, of the photographs that passed the checks so far."""
    if isinstance(review, str):
        return [f"review: cannot be told: {review}"]
    if review["mode"] == OFF:
        return ["review: off"]
    people = "two people have to decide alike" if review["reviewers"] > 1 else "one person decides"
    told = {UNDECIDED: "to be decided", DISAGREEMENT: "reviewers disagree"}
    verdicts = {UNDECIDED: 0} | review["verdicts"]
    return [
        f"review: {review['mode']}, {people}; {review['photographs']:,} photographs passed the checks, "
        f"{review['looked_at']:,} were looked at",
        *(_line(f"  {told.get(state, state.replace('_', ' '))}", count, "") for state, count in verdicts.items()),
    ]


def _add_shard(status: Status, results: Results, shard: str, attempts: int, identity: str) -> None:
    folder = results.shard(shard)
    stopped: dict[str, str] = {}
    photos = _known(status, stage_table(folder, "photos"), "photos", ["release_photo_id", "release_patient_id"])
    for stage in STAGES:
        table = _known(status, stage_table(folder, stage), stage, ["release_photo_id", "status", "reason"])
        if table is None:
            continue
        gone = table.filter(pc.not_equal(table["status"], tables.OK)).to_pylist()
        _count(status.stages[stage], table.num_rows, len(gone))
        stopped |= {row["release_photo_id"]: row["reason"] or "gate_failed" for row in gone}
    passed: dict[str, set[int]] = {}
    finished = False
    for attempt in range(attempts):
        handled = done = None
        for stage in ATTEMPT_STAGES:
            path = stage_table(folder, stage, attempt)
            kept = "passed" if stage == "checks" else "status"
            table = _known(status, path, stage, ["release_photo_id", kept] if stage == "checks" else [kept])
            if table is None:
                continue
            good = [value in (True, tables.OK) for value in table[kept].to_pylist()]
            _count(status.stages[f"{stage} {attempt}"], table.num_rows, good.count(False))
            if stage == "checks":
                for photo_id, ok in zip(table["release_photo_id"].to_pylist(), good, strict=True):
                    passed.setdefault(photo_id, set()).update({attempt} if ok else ())
                finished = attempt == attempts - 1
            elif stage in ("donors", "faces"):
                handled = table.num_rows
                done = path.stat().st_mtime if stage == "faces" else None
        if photos is not None:
            status.inversions.append(Inversion(attempt, photos.num_rows, handled, done))
    status.embedded += stage_table(folder, "embeddings").is_file()
    status.finished += finished
    outcomes = _outcomes(results, shard) if finished else None
    if outcomes is not None:
        status.passed += sum(one.attempt is not None for one in outcomes)
        status.reasons.update(one.reason for one in outcomes if one.attempt is None)
        return
    status.reasons.update(stopped.values())
    if not finished or photos is None:
        return
    members = list(
        zip(*(photos[name].to_pylist() for name in ("release_photo_id", GROUP_COLUMN[identity])), strict=True)
    )
    chosen = released_attempts(members, passed)
    released = sum(chosen.get(group) in passed.get(photo_id, ()) for photo_id, group in members)
    status.passed += released
    status.reasons.update({"gate_failed": len(members) - released - len(stopped)})
    status.reasons += Counter()  # without zeros


def _outcomes(results: Results, shard: str):
    """What the stage outcomes says, reviewers' decisions included; None where it was not made yet."""
    try:
        return read_outcomes(results.private, shard)
    except DeidlibError:
        return None


def _known(status: Status, path: Path, stage: str, columns: list[str]):
    try:
        return tables.read(path, _SCHEMAS[stage], columns)
    except FileNotFoundError:
        return None
    except (sealed.Damaged, ValueError):
        name = str(path.relative_to(path.parents[2 if path.parent.name.startswith("attempt-") else 1]))
        if name not in status.damaged:
            status.damaged.append(name)
        return None


def _count(stage: Stage, photos: int, stopped: int) -> None:
    stage.shards += 1
    stage.photos += photos
    stage.stopped += stopped


def _run(file: Path) -> tuple[dict, bool | None]:
    """What the last run said of itself, and whether it is going on (None where the file system cannot tell)."""
    try:
        with open(file, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                running = False
            except BlockingIOError:
                running = True
            except OSError:
                running = None
            return json.loads(file.read() or "{}"), running
    except (OSError, ValueError):
        return {}, None


def _attempts_seen(results: Results, shards: list[str]) -> int:
    return max((len(results.attempts(shard)) for shard in shards), default=1) or 1


def _pace(status: Status, now: datetime) -> list[str]:
    doing = {True: "a run is going on", False: "no run is going on"}
    lines = [doing.get(status.running, "this file system cannot tell whether a run is going on")]
    rate = status.per_hour()
    if rate is None:
        return [*lines, "per hour and expected end: known when the first shard is through inversion"]
    shares = status.shares()
    each = sum(share or 0 for share in shares)
    lines.append(
        f"{rate / each:,.0f} photographs per hour in the last day of work: "
        f"{rate:,.0f} inversions, {each:.2f} a photograph"
    )
    ahead = status.ahead()
    if not ahead or status.running is False:
        return lines
    hours = ahead / rate
    of_which = "all attempts" if None not in shares else "the attempts that a shard has reached"
    lines += [
        f"expected end of inversion, {of_which}: {now + timedelta(hours=hours):%Y-%m-%d %H:%M}, in {hours:,.1f} h",
        "  estimated: what waits goes on at this pace, and to later attempts as often as what is done",
    ]
    known = [
        f"{share:.0%} to attempt {attempt}" for attempt, share in enumerate(shares) if attempt and share is not None
    ]
    unknown = [str(attempt) for attempt, share in enumerate(shares) if share is None]
    if known:
        lines.append(f"  so far went {', '.join(known)}")
    if unknown:
        lines.append(f"  not in it, since no shard has reached it: attempt {', '.join(unknown)}")
    return [*lines, f"  after it, not estimated: last blending and checks, embeddings, {', '.join(LATER_STAGES)}"]


def _after_the_attempts(status: Status) -> list[str]:
    lines = [f"{'embeddings':24}{f'{status.embedded:,}/{status.shards:,}':>12}"]
    whole = status.embedded == status.shards == status.finished
    for name, there in status.later.items():
        # What is there before its inputs are is of an earlier run.
        lines.append(f"{name:24}{('done' if whole else 'outdated') if there else 'not yet':>12}")
        whole = whole and there
    return lines


def _line(name: str, count: int, text: str) -> str:
    return f"{name:24}{count:>12,}  {text}"


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""
