"""Progress of one shard from its tables: finished stages, numbers of photographs, and outcomes.

A table counts if it is not older than the one before it, since the workflow makes it again otherwise. No image is read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.contract.checks import WITHOUT_FACE
from deidlib.outcomes.attempts import GROUP_COLUMN, failing, released_attempts, with_their_group
from deidlib.outcomes.outcomes import PASSED
from deidlib.storage import sealed, tables
from deidlib.storage.results import Results, stage_table

#: Before the attempts, and within each: table → name of its stage.
STAGES = {"photos": "intake", "landmarks": "landmarks", "regions": "regions"}
ATTEMPT_STAGES = {"donors": "donors", "faces": "inversion", "blended": "blending", "checks": "checks"}
LAST_STAGES = {"outcomes": "outcomes", "embeddings": "embeddings"}
_NAMES = STAGES | ATTEMPT_STAGES | LAST_STAGES
_ID = "release_photo_id"
_COUNTS = "steps before"
_COLUMNS = {
    "photos": (tables.PHOTOS, [_ID, "release_patient_id", "status", "reason"]),
    "landmarks": (tables.LANDMARKS, [_ID, "status", "reason"]),
    "regions": (tables.REGIONS, [_ID, "status", "reason"]),
    "donors": (tables.DONORS, [_ID, "status", "reason"]),
    "faces": (tables.FACES, [_ID, "status", "reason"]),
    "blended": (tables.BLENDED, [_ID, "status", "reason"]),
    "checks": (tables.CHECKS, [_ID, "donor_id", "route", "passed"]),
    "outcomes": (tables.OUTCOMES, ["status", "reason"]),
}


@dataclass(frozen=True)
class Step:
    """One table of a shard: a stage, of one attempt where it has attempts (else -1)."""

    table: str
    attempt: int = -1

    @property
    def title(self) -> str:
        """Name of the stage, with the attempt counted from 0 as everywhere."""
        name = _NAMES[self.table]
        return name if self.attempt < 0 else f"{name}, attempt {self.attempt}"

    def file(self, shard: Path) -> Path:
        """Its table in a shard's folder."""
        return stage_table(shard, self.table, None if self.attempt < 0 else self.attempt)

    def log(self, results: Results, shard: str) -> Path:
        """Log of its job on a shard."""
        return results.stage_log(_NAMES[self.table], shard, None if self.attempt < 0 else self.attempt)


@dataclass(frozen=True)
class Done:
    """A step that is through: photographs in its table, those it held back, and when (seconds since 1970)."""

    photos: int
    stopped: int
    time: float


@dataclass
class Shard:
    """What :func:`read_shard` found.

    Attributes
    ----------
    attempts : int
        Its attempts: the configuration's, and those that reviewers asked for.
    done : dict
        What is through, by :class:`Step`, in the order of the stages and without a gap.
    photos : int or None
        Photographs of the shard; None before intake.
    passed : int
        Photographs that would be released.
    reasons : Counter
        Photographs that are held back for good, by reason code.
    damaged : list of str
        Tables that are not what was written.
    """

    attempts: int = 1
    done: dict[Step, Done] = field(default_factory=dict)
    photos: int | None = None
    passed: int = 0
    reasons: Counter = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)

    def handled(self, attempt: int) -> int | None:
        """Photographs that an attempt handles; None as long as its donors are not chosen."""
        found = self.done.get(Step("donors", attempt))
        return None if found is None else found.photos


def steps(attempts: int) -> list[Step]:
    """All steps of a shard, in their order."""
    of_attempts = [Step(table, attempt) for attempt in range(attempts) for table in ATTEMPT_STAGES]
    return [*map(Step, STAGES), *of_attempts, *map(Step, LAST_STAGES)]


def states(folder: Path, attempts: int) -> tuple[tuple[int, int] | None, ...]:
    """Time (ns) and size of the sheet's part and of every table of a shard, None where there is none."""
    files = [stage_table(folder, "cohort"), *(step.file(folder) for step in steps(attempts))]
    return tuple(_state(file) for file in files)


def read_shard(folder: Path, attempts: int, configured: int, identity: str, since: Mapping[str, float]) -> Shard:
    """Read a shard's tables as far as they count.

    Parameters
    ----------
    folder : Path
        The shard's folder.
    attempts : int
        Attempts of the shard.
    configured : int
        Attempts of the configuration; those above are made because reviewers asked for them.
    identity : str
        ``per_patient`` or ``per_photo``: which photographs are released at one attempt.
    since : mapping
        Table → time (seconds since 1970): an older one counts as not made yet.
    """
    shard, found = Shard(attempts), {}
    times = _times(folder, attempts, since)
    known = _counted_before(folder, attempts) if Step("outcomes") in times else {}
    for step, time in times.items():
        if step.table == "embeddings":
            shard.done[step] = Done(shard.passed, 0, time)
        elif step in known:
            shard.done[step] = Done(*known[step], time)
        else:
            table = _read(step, folder, shard)
            if table is None:
                break
            found[step] = table
            shard.done[step] = Done(table.num_rows, table.num_rows - _kept(step, table), time)
            if step.table == "outcomes":
                _add_outcomes(shard, table)
    if Step("photos") in shard.done:
        shard.photos = shard.done[Step("photos")].photos
        if Step("outcomes") not in found and Step("photos") in found:
            _add_decided(shard, found, configured, identity)
    return shard


def _times(folder: Path, attempts: int, since: Mapping[str, float]) -> dict[Step, float]:
    """Steps whose tables count, and when each was written, by the files' times alone."""
    before, *found = states(folder, attempts)
    last, times = before[0] if before else 0, {}
    for step, state in zip(steps(attempts), found, strict=True):
        if state is None or state[0] < last or state[0] / 1e9 < since.get(step.table, 0):
            break
        last = state[0]
        times[step] = last / 1e9
    return times


def counts_of_steps(folder: Path, attempts: int) -> dict[str, str]:
    """Notes for a shard's outcomes: how many photographs each step before had and held back.

    With them, progress is known of the outcomes alone, and no other table of a shard that is through has to be read.
    """
    shard, counts = Shard(attempts), []
    for step in steps(attempts):
        if step.table not in LAST_STAGES:
            table = _read(step, folder, shard)
            if table is not None:
                counts.append([step.table, step.attempt, table.num_rows, table.num_rows - _kept(step, table)])
    return {_COUNTS: json.dumps(counts)}


def _counted_before(folder: Path, attempts: int) -> dict[Step, tuple[int, int]]:
    """What :func:`counts_of_steps` noted; empty where the outcomes hold no such notes of all these steps."""
    try:
        with sealed.opened(Step("outcomes").file(folder)) as file:
            noted = json.loads(file.notes.get(_COUNTS, "[]"))
    except (OSError, sealed.Damaged):  # reading it tells
        return {}
    found = {Step(table, attempt): (photos, stopped) for table, attempt, photos, stopped in noted}
    wanted = {step for step in steps(attempts) if step.table not in LAST_STAGES}
    return found if found.keys() == wanted else {}


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(step: Step, folder: Path, shard: Shard) -> pa.Table | None:
    try:
        return tables.read(step.file(folder), *_COLUMNS[step.table])
    except FileNotFoundError:  # removed at this moment, to be made again
        return None
    except (sealed.Damaged, ValueError):
        shard.damaged.append(str(step.file(folder).relative_to(folder.parent)))
        return None


def _kept(step: Step, table: pa.Table) -> int:
    if step.table == "checks":
        return pc.sum(table["passed"]).as_py() or 0
    return pc.sum(pc.equal(table["status"], PASSED if step.table == "outcomes" else tables.OK)).as_py() or 0


def _add_outcomes(shard: Shard, table: pa.Table) -> None:
    gone = table.filter(pc.not_equal(table["status"], PASSED))
    shard.passed = table.num_rows - gone.num_rows
    shard.reasons.update(reason or "gate_failed" for reason in gone["reason"].to_pylist())


def _add_decided(shard: Shard, found: Mapping[Step, pa.Table], configured: int, identity: str) -> None:
    """Count what is decided before the shard's outcomes are: what a stage held back, and what no attempt follows."""
    stopped = {}
    for table in STAGES:
        stopped |= _stopped(found.get(Step(table)))
    shard.reasons.update(stopped.values())
    verdicts = [found[step] for step in found if step.table == "checks"]
    if not verdicts:
        return
    if configured <= len(verdicts) < shard.attempts:  # what reviewers asked for is still to be made
        return
    photos = found[Step("photos")].select([_ID, "release_patient_id"])
    waiting = [] if len(verdicts) == shard.attempts else failing(verdicts[-1])[_ID].to_pylist()
    passed: dict[str, dict[int, str | None]] = {}
    alone = set()
    for attempt, table in enumerate(verdicts):
        for row in table.to_pylist():
            if row["passed"] is True:
                passed.setdefault(row[_ID], {})[attempt] = row["donor_id"]
            if row["route"] in WITHOUT_FACE:
                alone.add(row[_ID])
    group = GROUP_COLUMN[identity]
    members = {row[_ID]: row[_ID] if row[_ID] in alone else row[group] for row in photos.to_pylist()}
    again = with_their_group(waiting, photos, identity) - alone  # the others may still get a new donor
    chosen = released_attempts(members.items(), passed)
    lost = {}
    for step, table in found.items():
        lost |= _stopped(table) if step.table in ("donors", "faces", "blended") else {}
    for photo_id in members:
        if photo_id in stopped or photo_id in again:
            continue
        if photo_id in chosen:
            shard.passed += 1
        elif passed.get(photo_id):
            shard.reasons["passed_with_another_face"] += 1
        else:
            shard.reasons[lost.get(photo_id, "gate_failed")] += 1


def _stopped(table: pa.Table | None) -> dict[str, str]:
    if table is None:
        return {}
    gone = table.filter(pc.not_equal(table["status"], tables.OK))
    return {row[_ID]: row["reason"] or "gate_failed" for row in gone.to_pylist()}
