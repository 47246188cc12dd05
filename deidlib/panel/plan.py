"""The plan: protocol, sample size and power of a study, stated before it begins."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from deidlib.pages import templates
from deidlib.pages.pdf import to_pdf
from deidlib.panel import power
from deidlib.panel.questions import N_CHOICES, TEXTS, block_questions
from deidlib.panel.study import ACQUAINTED, PANEL, Study

#: Shares of right answers at which power is stated.
_REALISM_TRUE, _IDENTITY_TRUE = 0.65, 0.35
_WANTED_POWER = 0.8
_SECONDS = {"realism": 10, "usefulness": 12, "reading": 60, "identity": 25}


def plan_numbers(study: Study) -> dict:
    """Numbers of the plan: sizes of the parts, minutes, power and width of intervals; no id of a photograph."""
    settings = study.settings
    parts = {}
    for name in TEXTS:
        counted = [trial for trial in study.trials if trial.block == name and not trial.training]
        if not counted:
            continue
        groups = {group: _group_numbers(study, name, group) for group in (PANEL, ACQUAINTED)}
        parts[name] = {
            "title": TEXTS[name][0],
            "photographs": len({trial.photo for trial in counted}),
            "patients": len({trial.patient for trial in counted}),
            "groups": {group: numbers for group, numbers in groups.items() if numbers["raters"]},
            "power": [row for group in groups.values() if group["raters"] for row in _power(name, group, settings)],
            "questions": [
                {key: question[key] for key in ("name", "text", "answers", "scale", "margin")}
                for question in block_questions(name, settings, settings["acquainted"] > 0)
            ],
        }
    pictures = Counter(trial.rater for trial in study.trials for _ in trial.pictures)
    return {
        "parts": parts,
        "sessions": [
            {"number": one.number, "titles": [TEXTS[block][0] for block in one.blocks], "wait_days": one.wait_days,
             "minutes": _minutes(study, one.number)}
            for one in study.raters[0].sessions
        ],
        "megabytes": round(max(pictures.values()) * settings["picture_side"] ** 2 * 3 / 1e6),
        "originals": any(study.shows_originals(rater.name) for rater in study.raters),
    }  # fmt: skip


def write_plan(study: Study, folder: Path) -> None:
    """Write ``plan.html``, ``plan.pdf`` and ``plan.json``."""
    numbers = plan_numbers(study)
    settings = study.settings
    html = templates.render("panel/plan.html.j2", study=study, plan=numbers, settings=settings)
    shown = {"study": study.id, "release": study.release, "settings": settings, "notes": study.notes, **numbers}
    (Path(folder) / "plan.json").write_text(json.dumps(shown, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (Path(folder) / "plan.html").write_text(html, encoding="utf-8")
    (Path(folder) / "plan.pdf").write_bytes(to_pdf(html))


def _group_numbers(study: Study, block: str, group: str) -> dict:
    raters = [rater.name for rater in study.raters if rater.group == group]
    mine = [trial for trial in study.trials if trial.block == block and trial.rater in raters]
    counted = [trial for trial in mine if not trial.training and trial.repeat_of is None]
    active = {trial.rater for trial in mine}
    return {
        "group": group,
        "raters": len(active),
        "answers": len(counted),
        "patients": len({trial.patient for trial in counted}),
        "a_rater": len(counted) // max(1, len(active)),
        "repeats": sum(trial.repeat_of is not None for trial in mine) // max(1, len(active)),
        "practice": sum(trial.training for trial in mine) // max(1, len(active)),
    }


def _power(block: str, group: Mapping, settings: Mapping) -> list[dict]:
    assumed = settings["assumptions"]
    raters, patients = group["raters"], group["patients"]
    correlations = assumed["rater_correlation"], assumed["patient_correlation"]
    who = "" if group["group"] == PANEL else " (raters who know the patients)"

    def worth(n_patients: int, n_raters: int = raters) -> float:
        return power.effective_answers(n_raters, max(1, n_patients), *correlations)

    if block == "realism":
        margin = settings["realism_margin"]
        found = [
            _row(f"telling real from made is found if {_REALISM_TRUE:.0%} of the answers are right",
                 lambda n: power.power_against_chance(worth(n), 0.5, _REALISM_TRUE), patients, who),
            _row(f"the share of right answers is shown to lie within {margin:.0%} of chance if it is chance",
                 lambda n: power.power_of_chance(worth(n), 0.5, margin), patients, who),
        ]  # fmt: skip
        return [*found, _width(f"share of right answers{who}", power.half_width(worth(patients), 0.5))]
    if block == "identity":
        chance, half = 1 / N_CHOICES, raters / 2  # each condition goes to half of the raters
        return [
            _row(f"finding the patient is noticed if {_IDENTITY_TRUE:.0%} of the choices are right (each condition)",
                 lambda n: power.power_against_chance(worth(n, half), chance, _IDENTITY_TRUE), patients, who),
            _width(f"share of right choices of one condition{who}", power.half_width(worth(patients, half), chance)),
        ]  # fmt: skip
    if block == "usefulness":
        return [_width("share of answers that agree", power.half_width(worth(patients), 0.7)), _icc(group, assumed)]
    rows = []
    margins = {question["margin"] for question in block_questions(block, settings) if question["margin"]}
    for margin in sorted(margins):
        rows.append(
            _row(f"original and result are shown to be read alike within ±{margin:g} steps if they are",
                 lambda n, margin=margin: power.power_of_equivalence(
                     n, raters, assumed["patient_sd"], assumed["reading_sd"], margin), patients, who)
        )  # fmt: skip
    return [*rows, _icc(group, assumed)]


def _row(what: str, power_of, patients: int, who: str) -> dict:
    needed = power.smallest(lambda n: power_of(n) >= _WANTED_POWER, most=400)
    return {"what": what + who, "power": power_of(patients), "needed": needed, "kind": "power"}


def _width(what: str, half: float) -> dict:
    return {"what": what, "half": half, "kind": "share"}


def _icc(group: Mapping, assumed: Mapping) -> dict:
    half = power.icc_half_width(group["patients"], group["raters"], assumed["agreement"])
    return {"what": f"ICC among raters, if it is {assumed['agreement']:g}", "half": half, "kind": "coefficient"}


def _minutes(study: Study, number: int) -> int:
    rater = study.raters[0].name
    seconds = sum(_SECONDS[trial.block] for trial in study.of(rater) if trial.session == number)
    return max(1, round(seconds / 60))
