"""Cases to review: every photograph of the sheet by patient, with the results of checks and reviewers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deidlib.config import complete_config, stage_options
from deidlib.errors import InputError
from deidlib.outcomes.outcomes import Outcome, read_outcomes
from deidlib.review.decisions import Decision, by_photo, decisions_file, read_decisions
from deidlib.review.pictures import Pictures
from deidlib.review.remarks import failures, near_misses
from deidlib.review.verdicts import Verdict, verdict
from deidlib.run_lock import last_run
from deidlib.storage.reasons import text_of
from deidlib.storage.results import Results, stage_table


@dataclass(frozen=True)
class Settings:
    """The part of a run's configuration that the page needs.

    Attributes
    ----------
    checks : mapping
        Bounds of the checks, for words of caution.
    reviewers : int
        1 or 2.
    """

    checks: Mapping
    reviewers: int


@dataclass(frozen=True)
class Case:
    """One photograph.

    Attributes
    ----------
    shard : str
        Its shard.
    outcome : Outcome
        Its outcome.
    attempt : int or None
        The attempt whose image is shown: the one that would be released if reviewers agree, else the last one with an
        image.
    """

    shard: str
    outcome: Outcome
    attempt: int | None

    @property
    def photo(self) -> str:
        """Its ``release_photo_id``."""
        return self.outcome.photo_id

    @property
    def passed(self) -> bool:
        """Whether it passed the checks, so that reviewers decide on its release."""
        return self.outcome.attempt is not None or self.outcome.candidate is not None

    @property
    def patient(self) -> str:
        """Its ``release_patient_id``."""
        return self.outcome.photo["release_patient_id"]


def read_settings(results: Path) -> Settings:
    """Settings of the run that last worked in a results folder.

    Raises
    ------
    InputError
        No run worked there.
    """
    run = last_run(Results.of_folder(results))
    defaults = complete_config({"cohort": "samples.tsv"})
    checks = run.get("checks") or stage_options(defaults, "checks")
    return Settings(checks, run.get("reviewers", defaults["reviewers"]))


def read_cases(private: Path, shard: str) -> list[Case]:
    """Photographs of one shard, in the sheet's order."""
    return [Case(shard, outcome, _shown(outcome)) for outcome in read_outcomes(private, shard)]


def _shown(outcome: Outcome) -> int | None:
    made = [row["attempt"] for row in outcome.tries if row["sha256"] is not None]
    return next((one for one in (outcome.attempt, outcome.candidate, *reversed(made)) if one is not None), None)


class Cohort:
    """All cases of a results folder; what changes on the disk is read again."""

    def __init__(self, results: Path, shards: list[str] | None = None):
        self.private = Results.of_folder(results).private
        self.pictures = Pictures(self.private)
        self._lock = threading.RLock()
        self._cases: dict[str, tuple[tuple, list[Case]]] = {}
        self._decisions: dict[str, tuple[tuple, list[Decision], dict[str, list[Decision]]]] = {}
        self.settings = read_settings(results)
        self.shards = _planned(self.private, shards)
        self._places = {case.photo: case.shard for shard in self.shards for case in self.cases(shard)}

    def cases(self, shard: str) -> list[Case]:
        """Cases of a shard as its tables are now."""
        with self._lock:
            stamp = _file_stamp(stage_table(Results(self.private).shard(shard), "outcomes"))
            known = self._cases.get(shard)
            if known is None or known[0] != stamp:
                known = stamp, read_cases(self.private, shard)
                self._cases[shard] = known
            return known[1]

    def decisions(self, shard: str) -> list[Decision]:
        """Decisions of a shard as they are on the disk now."""
        return self._decided(shard)[1]

    def case(self, photo: str) -> Case:
        """The case of a photograph.

        Raises
        ------
        InputError
            There is none.
        """
        shard = self._places.get(photo)
        found = next((case for case in self.cases(shard) if case.photo == photo), None) if shard else None
        if found is None:
            raise InputError("this photograph is not part of the review")
        return found

    def digest(self, case: Case) -> str | None:
        """SHA-256 of the image that is shown; None where there is none."""
        return None if case.attempt is None else self.pictures.digest(case.shard, case.attempt, case.photo)

    def verdict(self, case: Case) -> Verdict:
        """The reviewers' verdict on the image that is shown. Images on which nobody decided are not read."""
        mine = self._decided(case.shard)[2].get(case.photo, [])
        return verdict(mine, self.digest(case) if mine else None, self.settings.reviewers)

    def patients(self) -> dict[str, list[Case]]:
        """Cases by patient: of all shards, patients in the order of the sheet."""
        found: dict[str, list[Case]] = {}
        for case in sorted(
            (case for shard in self.shards for case in self.cases(shard)), key=lambda case: case.outcome.photo["row"]
        ):
            found.setdefault(case.patient, []).append(case)
        return found

    def remarks(self, case: Case) -> list[str]:
        """Remarks on what to look at, in plain words."""
        row = next((row for row in case.outcome.tries if row["attempt"] == case.attempt), None)
        if row is None:
            return []
        return failures(row["failed"] or []) or near_misses(row, self.settings.checks)

    def _decided(self, shard: str) -> tuple[tuple, list[Decision], dict[str, list[Decision]]]:
        with self._lock:
            stamp = _file_stamp(decisions_file(self.private, shard))
            known = self._decisions.get(shard)
            if known is None or known[0] != stamp:
                made = read_decisions(self.private, shard)
                known = stamp, made, by_photo(made)
                self._decisions[shard] = known
            return known


def held_back_because(case: Case) -> str | None:
    """Meaning of a quarantined photograph's reason."""
    reason = case.outcome.reason
    return None if reason is None else text_of(reason)


def _planned(private: Path, asked: list[str] | None) -> list[str]:
    try:
        planned = json.loads(Results(private).plan.read_text(encoding="utf-8"))["shards"]
    except (OSError, ValueError, KeyError):
        raise InputError("nothing is planned in this folder; name the results folder of a run") from None
    if unknown := set(asked or ()) - set(planned):
        raise InputError(f"no shard is called {sorted(unknown)[0][:20]}; the plan has {planned[0]} to {planned[-1]}")
    return [shard for shard in planned if shard in (asked or planned)]


def _file_stamp(path: Path) -> tuple:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size
