"""Simulated raters: programs that answer a panel study, for tests alone. Their answers say that they are simulated."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from deidlib.panel.material import ORIGINAL
from deidlib.panel.questions import CANNOT, block_questions
from deidlib.panel.study import ACQUAINTED, Rater, Study

_BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)


def simulated_answers(
    study: Study,
    rater: Rater,
    rng: np.random.Generator,
    noticing: float = 0.0,
    shift: float = 0.0,
    finding: float = 0.0,
    random: bool = False,
    waited: float | None = None,
) -> dict:
    """What a simulated rater exports.

    Parameters
    ----------
    noticing : float
        Probability of seeing for certain whether a picture was made; else the simulated rater guesses.
    shift : float
        What the simulated rater adds, in steps, to the true finding on a result.
    finding : float
        Probability of knowing the patient of a whole result; else the simulated rater guesses.
    random : bool
        Answers at random, whatever is shown.
    waited : float, optional
        Days between sessions; by default what the study asks for.
    """
    answers, sessions, at = {}, {}, _BEGIN
    acquainted = rater.group == ACQUAINTED
    guesses: dict = {}
    for session in rater.sessions:
        at += timedelta(days=session.wait_days if waited is None or session.number == 1 else waited)
        began = at
        for trial in (trial for trial in study.of(rater.name) if trial.session == session.number):
            values = {}
            for question in block_questions(trial.block, study.settings, acquainted):
                n = len(question["answers"])
                if random:
                    value = int(rng.integers(n))
                elif question["name"] == "made":
                    guess = guesses.setdefault((trial.photo, trial.version), int(rng.integers(2)))
                    value = int(trial.version != ORIGINAL) if rng.random() < noticing else guess
                elif question["name"] == "pick":
                    value = trial.right if rng.random() < finding else int(rng.integers(n))
                elif question["name"] == "recognised":
                    value = int(rng.integers(n))
                elif trial.block == "usefulness":
                    value = int(np.clip(np.round(rng.normal(3.2, 0.7)), 0, 4))
                else:
                    value = _read(question, trial, shift, rng)
                values[question["name"]] = value
            at += timedelta(seconds=20)
            answers[trial.id] = {
                "values": values,
                "unsure": bool(rng.random() < 0.1),
                "seconds": float(0.4 if random else 14 + rng.random()),
                "at": at.isoformat(),
                "changes": 0,
            }
        sessions[session.number] = {"started": began.isoformat(), "finished": at.isoformat()}
    return {
        "format": "deidlib panel answers 1",
        "study": study.id,
        "rater": rater.name,
        "simulated": True,
        "exported": at.isoformat(),
        "sessions": sessions,
        "answers": answers,
    }


def _read(question: dict, trial, shift: float, rng: np.random.Generator):
    """The photograph's true finding, read with a little noise."""
    n = len(question["answers"])
    if rng.random() < 0.03:
        return CANNOT
    true = np.random.default_rng([*trial.photo.encode(), *question["name"].encode()]).uniform(0, n - 1)
    moved = shift if trial.version != ORIGINAL else 0.0
    return int(np.clip(np.round(true + moved + rng.normal(0, 0.35)), 0, n - 1))


def write_answers(study: Study, folder: Path, seed: int = 1, **how) -> list[Path]:
    """Write an answers file of every rater of a study; ``how`` as for :func:`simulated_answers`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, rater in enumerate(study.raters):
        given = simulated_answers(study, rater, np.random.default_rng([seed, number]), **how)
        paths.append(folder / f"answers-{rater.name}.json")
        paths[-1].write_text(json.dumps(given))
    return paths
