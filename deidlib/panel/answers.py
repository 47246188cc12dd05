"""Answers that raters export, read and checked against the study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deidlib.panel.errors import PanelError
from deidlib.panel.questions import CANNOT, block_questions
from deidlib.panel.study import ACQUAINTED, Study, Trial

FORMAT = "deidlib panel answers 1"


@dataclass(frozen=True)
class Answer:
    """Answers to one trial: question → number of the answer, or None where the rater said that it cannot be judged."""

    trial: Trial
    values: dict[str, int | None]
    unsure: bool
    seconds: float
    at: str


@dataclass(frozen=True)
class Returned:
    """All answers of one rater.

    ``began`` and ``ended`` are the times of the sessions by number. ``simulated``: a program answered, no person.
    """

    rater: str
    simulated: bool
    answers: dict[str, Answer]
    began: dict[int, datetime]
    ended: dict[int, datetime]


def read_answers(study: Study, paths: Iterable[Path]) -> list[Returned]:
    """Read the exported files of a study; several of one rater are merged, the later answer to a trial counts.

    Raises
    ------
    PanelError
        There is no file, or one is damaged, of another study, or holds what the study did not ask. The message names
        the file by its name, which the rater's page gave.
    """
    raters = {rater.name: rater for rater in study.raters}
    found: dict[str, Returned] = {}
    paths = sorted(Path(path) for path in paths)
    for path in paths:
        given = _read(path)
        if given.get("study") != study.id:
            raise PanelError(f"{path.name}: the answers are of another study; leave the file out")
        name = given.get("rater")
        if name not in raters:
            raise PanelError(f"{path.name}: the study has no such rater; leave the file out")
        try:
            one = _returned(study, name, raters[name].group == ACQUAINTED, given)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PanelError(f"{path.name}: is damaged or was changed; ask the rater to export it again") from None
        found[name] = _merged(found[name], one) if name in found else one
    if not found:
        raise PanelError("no answers: put the files that raters exported into the study's folder answers/")
    return [found[name] for name in raters if name in found]


def _read(path: Path) -> Mapping:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        given = None
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise PanelError(
            f"{path.name}: holds no answers as the raters' pages export them; ask the rater to export again"
        )
    return given


def _returned(study: Study, name: str, acquainted: bool, given: Mapping) -> Returned:
    trials = {trial.id: trial for trial in study.of(name)}
    questions = {
        block: block_questions(block, study.settings, acquainted) for block in {t.block for t in trials.values()}
    }
    answers = {}
    for trial_id, answer in given["answers"].items():
        trial = trials[trial_id]
        values = {one["name"]: _value(answer["values"], one) for one in questions[trial.block]}
        if set(answer["values"]) - set(values):
            raise ValueError("an answer to a question that was not asked")
        seconds = float(answer["seconds"])
        answers[trial_id] = Answer(trial, values, answer["unsure"] is True, seconds, str(answer["at"]))
    times = {int(number): one for number, one in given["sessions"].items()}
    began = {number: datetime.fromisoformat(one["started"]) for number, one in times.items() if one.get("started")}
    ended = {number: datetime.fromisoformat(one["finished"]) for number, one in times.items() if one.get("finished")}
    return Returned(name, given["simulated"] is not False, answers, began, ended)


def _value(values: Mapping, question: Mapping) -> int | None:
    value = values[question["name"]]
    if value == CANNOT and question["cannot"]:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(question["answers"]):
        raise ValueError("an answer that the question does not allow")
    return value


def _merged(one: Returned, other: Returned) -> Returned:
    answers = dict(one.answers)
    for name, answer in other.answers.items():
        if name not in answers or answers[name].at <= answer.at:
            answers[name] = answer
    simulated = one.simulated or other.simulated
    return Returned(one.rater, simulated, answers, {**one.began, **other.began}, {**one.ended, **other.ended})
