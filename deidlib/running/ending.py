"""The last lines of a run: released, held back, verdict, places of results, next step, and what to remove by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from deidlib.errors import InputError
from deidlib.panel.withdrawn import withdrawn_words
from deidlib.release.decision import GATE, NOTHING, RELEASED, REVIEW, Decision, read_decision
from deidlib.running.status import Status
from deidlib.storage import tables
from deidlib.storage.results import Results


def ending(results: Path, version: str, status: Status | None, stopped: bool, log: Path) -> list[str]:
    """Five lines, and one more for each panel study that shows patients who do not agree any more.

    Parameters
    ----------
    results : Path
        Results folder.
    version : str
        Version of the run.
    status : Status or None
        How far it came; None: nothing was planned.
    stopped : bool
        A person stopped it.
    log : Path
        Where Snakemake's log lies.
    """
    if status is None or not status.finished:
        return _unfinished(status, stopped, log)
    run = Results.of_folder(results)
    try:
        decision = read_decision(run.private)
    except InputError as error:
        return [str(error)]
    crosswalk = tables.read(run.crosswalk, tables.CROSSWALK, ["release_patient_id", "status", "reason"]).to_pylist()
    released = [row for row in crosswalk if row["status"] == RELEASED]
    held = Counter(row["reason"] for row in crosswalk if row["status"] != RELEASED)
    patients = len({row["release_patient_id"] for row in released})
    return [
        f"released:   {len(released):,} of {_counted(len(crosswalk), 'photograph')}, {_counted(patients, 'patient')}"
        + (f", as version {version}" if decision.release else ""),
        f"held back:  {_reasons(held)}",
        f"verdict:    {_verdict(decision)}",
        f"where:      {_places(run, version, decision)}",
        f"next:       {_next(run, version, decision)}",
        *(f"withdrawn:  {words}" for words in withdrawn_words(run.private)),
    ]


def _unfinished(status: Status | None, stopped: bool, log: Path) -> list[str]:
    decided, photos = (status.decided, status.photos) if status else (0, 0)
    return [
        "released:   nothing yet",
        f"held back:  {_reasons(status.reasons) if status else 'none yet'}",
        f"verdict:    none yet; {'the run was stopped' if stopped else 'a stage failed'}, "
        f"{decided:,} of {_counted(photos, 'photograph')} are done and kept",
        f"where:      the log is {log}",
        "next:       start the same command again; it goes on from here"
        + ("" if stopped else ", once what the log names is mended"),
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _reasons(held: Counter) -> str:
    if not held:
        return "none"
    return f"{held.total():,} ({', '.join(f'{number:,} {reason}' for reason, number in held.most_common())})"


def _verdict(decision: Decision) -> str:
    if decision.why == GATE:
        further = len(decision.failed) - 1
        more = f" (and {further} more)" if further > 0 else ""
        return f"the release gate failed: {decision.failed[0]}{more}"
    if decision.why == REVIEW:
        waiting = decision.review["waiting"]
        return f"{_counted(waiting, 'photograph')} {'waits' if waiting == 1 else 'wait'} for a reviewer"
    if decision.why == NOTHING:
        return "no photograph passed its checks"
    looked, few = decision.review["looked_at"], len(decision.not_judged)
    judged = "passed"
    if few:
        criteria = "criterion" if few == 1 else "criteria"
        judged = f"is not judged in full: too few patients for {few:,} {criteria}; no other one failed"
    return f"the release gate {judged}; " + (
        f"a person looked at {_counted(looked, 'photograph')}"
        if looked
        else "no person has looked at the photographs yet"
    )


def _places(run: Results, version: str, decision: Decision) -> str:
    release = f"{run.releases / version}; " if decision.release else ""
    return f"{release}audit {run.audit(version)}; held back {run.quarantine}"


def _next(run: Results, version: str, decision: Decision) -> str:
    if decision.why == GATE:
        return "read the audit with your review board; config/README.md says what each criterion asks"
    if decision.why == REVIEW:
        return f"deidlib review {run.root}, then start the same command again"
    if decision.why == NOTHING:
        return f"mend what {run.quarantine.name} names, then start the same command again"
    return f"look through {run.reviewer}, read the audit, then share the release; recipients run `deidlib verify`"
