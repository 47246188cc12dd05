"""Panel studies that still show patients who no longer agree; a person has to remove their folders."""

from __future__ import annotations

from pathlib import Path

from deidlib.panel.material import ORIGINAL, agreed_photos
from deidlib.panel.study import STUDY_FILE, read_study
from deidlib.storage.results import Results


def withdrawn_words(private: Path) -> list[str]:
    """Say of each study of a run that shows such patients what to do; empty where there is none.

    Parameters
    ----------
    private : Path
        The private folder of the run.
    """
    if not any(Results(Path(private)).panel.glob(f"*/{STUDY_FILE}")):
        return []
    return [
        f"the panel study {name} shows {number} photograph{'s' * (number > 1)} without the patient's consent, or "
        "without it any more: have every copy of its raters' folders deleted, and remove its folder from private/panel/"
        for name, number in photographs_without_consent(private, agreed_photos(private)).items()
    ]


def photographs_without_consent(private: Path, agreed: set[str]) -> dict[str, int]:
    """Studies of a run that still show patients who no longer agree: study → number of photographs.

    A result counts as an original does: it holds the patient's own preserved area. Originals of another cohort (the
    real ones of the arm realism) do not count: that cohort's own run knows them.

    Parameters
    ----------
    private : Path
        The private folder of the run.
    agreed : set of str
        Photographs (release ids) whose patients agree.
    """
    found = {}
    for path in sorted(Results(Path(private)).panel.glob(f"*/{STUDY_FILE}")):
        study = read_study(path.parent)
        foreign = study.release.get("real_of_another_cohort", False)
        shown = {
            picture.photo
            for trial in study.trials
            for picture in trial.pictures
            if not (foreign and trial.block == "realism" and picture.version == ORIGINAL)
        }
        if shown - agreed:
            found[path.parent.name] = len(shown - agreed)
    return found
