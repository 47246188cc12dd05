"""Progress of a run, from its results folder alone: decided photographs, finished stages, the stage at work.

Nothing is written, and a run may go on meanwhile. ``deidlib status`` and ``deidlib run`` both use this module.
:mod:`deidlib.running.pace` estimates pace and end.
"""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deidlib.errors import DeidlibError
from deidlib.logs import last_progress
from deidlib.release.layout import SUMS_FILE
from deidlib.review.effect import review_numbers
from deidlib.review.verdicts import OPTIONAL
from deidlib.review.workflow import made_attempts
from deidlib.running.shard import ATTEMPT_STAGES, LAST_STAGES, STAGES, Shard, Step, read_shard, states, steps
from deidlib.storage.results import Results, stage_table

#: Over the whole cohort, in their order, after the shards.
LATER_STAGES = ("sweep", "attacks", "release", "report")
DONE, OUTDATED, NOT_YET, HELD_BACK = "done", "outdated", "not yet", "held back"
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Under:
    """A step that is at work: photographs that its log reports as finished, and all of its photographs."""

    step: Step
    through: int
    photos: int


@dataclass
class Status:
    """What :class:`Reader` found.

    Attributes
    ----------
    photos, attempts : int
        Photographs of the plan; attempts of the configuration, above which are those that reviewers asked for.
    shards : list of Shard
        By the plan's order.
    running : bool or None
        Whether a run is going on; None where the file system cannot tell.
    begun : float or None
        When the last run began (seconds since 1970).
    under : list of Under
        What goes on, a step of a shard each.
    later, later_times : dict
        State and time of each of :data:`LATER_STAGES` (time: of those that are done).
    versions : list of str
        Versions that are released.
    sweep_photos : int
        Photographs of the sweep.
    review : dict or str
        What reviewers did (:func:`deidlib.review.effect.review_numbers`), of the shards with outcomes; or why it is
        not known.
    """

    photos: int = 0
    attempts: int = 1
    shards: list[Shard] = field(default_factory=list)
    running: bool | None = None
    begun: float | None = None
    under: list[Under] = field(default_factory=list)
    later: dict[str, str] = field(default_factory=dict)
    later_times: dict[str, float] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    sweep_photos: int = 0
    review: dict | str = field(default_factory=dict)

    @property
    def passed(self) -> int:
        """Photographs that would be released."""
        return sum(shard.passed for shard in self.shards)

    @property
    def reasons(self) -> Counter:
        """Photographs that are held back for good, by reason code."""
        return sum((shard.reasons for shard in self.shards), Counter())

    @property
    def decided(self) -> int:
        """Photographs whose result is known."""
        return self.passed + self.reasons.total()

    @property
    def damaged(self) -> list[str]:
        """Tables that are not what was written."""
        return [name for shard in self.shards for name in shard.damaged]

    @property
    def finished(self) -> bool:
        """Whether the run has nothing more to do."""
        return self.later.get("report") == DONE and self.later.get("release") in (DONE, HELD_BACK)

    @property
    def steps(self) -> list[Step]:
        """All steps that a shard has."""
        return steps(max([self.attempts, *(shard.attempts for shard in self.shards)]))

    def shards_with(self, step: Step) -> int:
        """Shards that have this step at all."""
        return sum(step.attempt < shard.attempts for shard in self.shards)

    def through(self, step: Step) -> list:
        """Results of a step, of each shard that has finished it."""
        return [shard.done[step] for shard in self.shards if step in shard.done]

    def now(self) -> tuple[str, int | None, int | None]:
        """Name of the stage that goes on, and where its logs count photographs, those that are through and all of it.

        Of several the one furthest on; where no log counts, the first that is not through.
        """
        order = {step: place for place, step in enumerate(self.steps)}
        if self.under:
            step = max((one.step for one in self.under), key=order.__getitem__)
            here = [one for one in self.under if one.step == step]
            before = sum(one.photos for one in self.through(step))
            if not before + sum(one.photos for one in here):  # its logs do not count yet
                return step.title, None, None
            return step.title, before + sum(one.through for one in here), before + sum(one.photos for one in here)
        for step in order:
            if len(self.through(step)) < self.shards_with(step):
                return step.title, None, None
        for name in LATER_STAGES:
            if self.later[name] in (NOT_YET, OUTDATED):
                return name, None, None
        return "finished", None, None


class Reader:
    """Reads a results folder again and again: of the tables, only those that changed since the last time.

    Parameters
    ----------
    results : Path
        Results folder.
    """

    def __init__(self, results: Path):
        self._results = Results.of_folder(Path(results))
        self._known: dict[str, tuple[tuple, Shard]] = {}

    def status(self) -> Status:
        """Read how far the run has come.

        Raises
        ------
        FileNotFoundError
            Nothing was planned here yet.
        """
        results = self._results
        plan = json.loads(results.plan.read_text(encoding="utf-8"))
        about, running, begun = _run(results)
        status = Status(plan["n_photos"], running=running, begun=begun)
        status.attempts = about.get("attempts") or _attempts_seen(results, plan["shards"])
        status.sweep_photos = about.get("sweep_photos", 0)
        identity = about.get("identity") or "per_patient"
        mode = {"review": about.get("review", OPTIONAL), "reviewers": about.get("reviewers", 1)}
        config = mode | {"attempts": status.attempts}
        made = sum(_made(results.private, shard, config) for shard in plan["shards"])
        since = _since(about.get("jobs") or {}, len(plan["shards"]), made, begun)
        status.shards = [self._shard(name, config, identity, since) for name in plan["shards"]]
        status.review = _review(results, plan["shards"], mode)
        if running is not False and begun is not None:
            status.under = _under_way(results, plan["shards"], status)
        status.versions = sorted(file.parent.name for file in results.releases.glob(f"*/{SUMS_FILE}"))
        _add_later(results, status, about.get("version"))
        return status

    def _shard(self, name: str, config: Mapping, identity: str, since: Mapping[str, float]) -> Shard:
        folder, configured = self._results.shard(name), config["attempts"]
        attempts = _made(self._results.private, name, config)
        state = (attempts, configured, identity, tuple(since.items()), states(folder, attempts))
        known = self._known.get(name)
        if known is None or known[0] != state:
            self._known[name] = known = (state, read_shard(folder, attempts, configured, identity, since))
        return known[1]


def read_status(results: Path) -> Status:
    """Read a results folder once; see :meth:`Reader.status`."""
    return Reader(results).status()


def _run(results: Results) -> tuple[dict, bool | None, float | None]:
    """Record of the last run, whether it is going on (None: not known), and when it began."""
    try:
        with open(results.run_file, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                running = False
            except BlockingIOError:
                running = True
            except OSError:
                running = None
            return json.loads(file.read() or "{}"), running, results.run_file.stat().st_mtime
    except (OSError, ValueError):
        return {}, None, None


def _made(private: Path, shard: str, config: Mapping) -> int:
    """Number of attempts of a shard; that of the configuration where its decisions are damaged."""
    try:
        return made_attempts(private, shard, config)
    except DeidlibError:
        return config["attempts"]


def _review(results: Results, shards: list[str], mode: Mapping) -> dict | str:
    known = [shard for shard in shards if stage_table(results.shard(shard), "outcomes").is_file()]
    try:
        return review_numbers(results.private, known, mode)
    except DeidlibError as error:
        return str(error)


def _attempts_seen(results: Results, shards: list[str]) -> int:
    return max((len(results.attempts(shard)) for shard in shards), default=1) or 1


def _since(jobs: Mapping[str, int], shards: int, attempts: int, begun: float | None) -> dict[str, float]:
    """Tables that the run makes again for every shard: what is older than the run does not count.

    ``attempts`` are those of all shards together, with those that reviewers asked for: a run that makes such an attempt
    alone leaves the tables of the others as they are.
    """
    if begun is None or not shards:
        return {}
    tables = [(table, rule, shards) for table, rule in (STAGES | LAST_STAGES).items()]
    tables += [(table, rule, attempts) for table, rule in ATTEMPT_STAGES.items()]
    return {table: begun for table, rule, number in tables if jobs.get(rule, 0) >= number}


def _under_way(results: Results, shards: list[str], status: Status) -> list[Under]:
    """The next step of each shard, where its log says that it goes on."""
    found = []
    for name, shard in zip(shards, status.shards, strict=True):
        step = next((step for step in steps(shard.attempts) if step not in shard.done), None)
        reported = _reported(step.log(results, name), status.begun) if step else None
        if reported:
            found.append(Under(step, *reported))
    return found


def _reported(log: Path, begun: float) -> tuple[int, int] | None:
    try:
        if log.stat().st_mtime < begun:  # of an earlier run
            return None
        with open(log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return last_progress(file.read().decode(errors="replace"))
    except OSError:
        return None


def _add_later(results: Results, status: Status, version: str | None) -> None:
    """State of the stages over the whole cohort: a file that is older than what it is made from is outdated."""
    files = {
        "sweep": [results.sweep],
        "attacks": [results.attacks],
        "release": list(results.releases.glob(f"{version or '*'}/{SUMS_FILE}")),
        "report": results.audits(version),
    }
    last = status.steps[-1]
    whole = bool(status.shards) and all(last in shard.done for shard in status.shards)
    newest = max((shard.done[last].time for shard in status.shards), default=0.0) if whole else 0.0
    for name in LATER_STAGES:
        times = [file.stat().st_mtime for file in files[name] if file.is_file()]
        if name == "release" and whole and _held_back(results, newest):
            status.later[name] = HELD_BACK
        elif not times:
            status.later[name], whole = NOT_YET, False
        elif not whole or max(times) < newest:
            status.later[name], whole = OUTDATED, False
        else:
            status.later[name], newest = DONE, max(times)
            status.later_times[name] = newest


def _held_back(results: Results, since: float) -> bool:
    """Whether the decision, taken after the attacks, is against a release."""
    try:
        decision = results.decision
        return decision.stat().st_mtime >= since and not json.loads(decision.read_text(encoding="utf-8"))["release"]
    except (OSError, ValueError, KeyError):
        return False
