"""A rater's folder: one page that works from disk, and pictures under random names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from deidlib.pages import templates
from deidlib.panel.questions import TEXTS, block_questions
from deidlib.panel.study import ACQUAINTED, Rater, Study

PAGE_FILE, PICTURES_FOLDER, NOTICE_FILE = "index.html", "pictures", "NOTICE.txt"
#: All files of a rater's folder have this modification time, so that it does not show the order of writing.
_TIME = 946684800  # 2000-01-01 UTC

_HOLDS_ORIGINALS = """\
THIS FOLDER HOLDS ORIGINAL PHOTOGRAPHS OF PATIENTS.

It belongs to one rater of a panel study, and to nobody else. Keep it on an encrypted, protected disk. Do not copy,
mail, print or photograph it. Delete it when the study is over, or when you are asked to because a patient
withdrew consent. Open index.html in a browser. Nothing leaves this computer but the answers that you export yourself.
"""
_HOLDS_RESULTS = """\
This folder belongs to one rater of a panel study. It holds de-identified pictures and no original of a patient.
Do not pass it on: a person who has seen it can no longer be a rater. Delete it when the study is over.
Open index.html in a browser. Nothing leaves this computer but the answers that you export yourself.
"""


def page_data(study: Study, rater: Rater) -> dict:
    """Data of a rater's page: questions, and the picture files in their order.

    They do not show which pictures are repeats, originals or right choices.
    """
    trials = study.of(rater.name)
    acquainted = rater.group == ACQUAINTED
    sessions = []
    for session in rater.sessions:
        blocks = []
        for name in session.blocks:
            mine = [trial for trial in trials if trial.session == session.number and trial.block == name]
            title, text = TEXTS[name]
            shown = [
                {"id": trial.id, "practice": trial.training, "pictures": [picture.file for picture in trial.pictures]}
                for trial in mine
            ]
            asked = [
                {key: question[key] for key in ("name", "text", "answers", "cannot")}
                for question in block_questions(name, study.settings, acquainted)
            ]
            blocks.append({"name": name, "title": title, "text": text, "questions": asked, "trials": shown})
        sessions.append({"number": session.number, "wait_days": session.wait_days, "blocks": blocks})
    return {
        "study": study.id,
        "rater": rater.name,
        "title": study.settings["title"],
        "contact": study.settings["contact"],
        "originals": study.shows_originals(rater.name),
        "sessions": sessions,
    }


def write_rater_folder(study: Study, rater: Rater, folder: Path) -> None:
    """Write a rater's page and notice, and make the folder of the pictures that :func:`picture_paths` names."""
    folder = Path(folder)
    (folder / PICTURES_FOLDER).mkdir(parents=True, exist_ok=True)
    data = page_data(study, rater)
    notice = _HOLDS_ORIGINALS if data["originals"] else _HOLDS_RESULTS
    (folder / NOTICE_FILE).write_text(notice, encoding="utf-8")
    html = templates.render("panel/rater.html.j2", data=data, title=data["title"], rater=rater.name)
    (folder / PAGE_FILE).write_text(html, encoding="utf-8")


def picture_paths(study: Study, root: Path) -> Mapping[tuple[str, str], list[Path]]:
    """Files that show a photograph in a version: (photo, version) → paths below ``root``, over all raters."""
    paths: dict[tuple[str, str], list[Path]] = {}
    for trial in study.trials:
        for picture in trial.pictures:
            place = Path(root) / trial.rater / PICTURES_FOLDER / picture.file
            paths.setdefault((picture.photo, picture.version), []).append(place)
    return paths


def close_folder(folder: Path) -> None:
    """Keep everybody but the owner out (0700, files 0600), and give all files one modification time."""
    for path in [*_below(folder), Path(folder)]:
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (_TIME, _TIME))


def _below(folder: Path) -> Iterator[Path]:
    yield from Path(folder).rglob("*")
