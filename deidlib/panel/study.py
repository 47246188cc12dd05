"""A study: raters, sessions, and every trial with its key, which only the study's owner has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deidlib.panel.errors import PanelError

FORMAT = "deidlib panel study 1"
STUDY_FILE = "study.json"
PANEL, ACQUAINTED = "panel", "acquainted"


@dataclass(frozen=True)
class Picture:
    """A picture file of a rater's folder, and what it shows, which that folder does not say."""

    file: str
    photo: str
    version: str


@dataclass(frozen=True)
class Trial:
    """One question page of one rater.

    ``pictures`` is the picture to judge, then the choices of a line-up; ``right`` is the number of the right choice.
    """

    id: str
    rater: str
    session: int
    block: str
    training: bool
    repeat_of: str | None
    photo: str
    patient: str
    version: str
    pictures: list[Picture]
    right: int | None = None
    same_photo: bool | None = None


@dataclass(frozen=True)
class Session:
    """A sitting: its parts, and how many days after the session before it may begin."""

    number: int
    blocks: list[str]
    wait_days: int


@dataclass(frozen=True)
class Rater:
    """A rater under a number; ``group`` is panel, or acquainted (knows the patients)."""

    name: str
    group: str
    sessions: list[Session]


@dataclass(frozen=True)
class Study:
    """A study without its pictures. It holds the right answers, so it stays with the study's owner."""

    id: str
    settings: dict
    release: dict
    raters: list[Rater]
    trials: list[Trial]
    notes: list[str] = field(default_factory=list)

    def of(self, rater: str) -> list[Trial]:
        """Trials of a rater, in the order in which they are shown."""
        return [trial for trial in self.trials if trial.rater == rater]

    def shows_originals(self, rater: str) -> bool:
        """Whether this rater's folder holds photographs of patients."""
        return any(picture.version == "original" for trial in self.of(rater) for picture in trial.pictures)


def to_json(study: Study) -> str:
    """Write a study as the text of :data:`STUDY_FILE`."""
    return json.dumps({"format": FORMAT, **asdict(study)}, indent=1, ensure_ascii=False) + "\n"


def read_study(folder: Path) -> Study:
    """Read the study of a folder that ``deidlib panel design`` wrote.

    Raises
    ------
    PanelError
        There is none, or it is damaged or of another version.
    """
    try:
        given = json.loads((Path(folder) / STUDY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PanelError(
            f"this folder holds no {STUDY_FILE}; name the folder that `deidlib panel design` wrote"
        ) from None
    except (OSError, ValueError):
        raise PanelError(f"{STUDY_FILE} is damaged; take it from a backup, or design the study again") from None
    if not isinstance(given, Mapping) or given.get("format") != FORMAT:
        raise PanelError(f"{STUDY_FILE} is from another version of deidlib; use that version")
    try:
        raters = [
            Rater(one["name"], one["group"], [Session(**session) for session in one["sessions"]])
            for one in given["raters"]
        ]
        trials = [
            Trial(**(trial | {"pictures": [Picture(**picture) for picture in trial["pictures"]]}))
            for trial in given["trials"]
        ]
        return Study(given["id"], given["settings"], given["release"], raters, trials, given["notes"])
    except (KeyError, TypeError):
        raise PanelError(f"{STUDY_FILE} is damaged; take it from a backup, or design the study again") from None
