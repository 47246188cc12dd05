"""Writes a study: its plan, the key to it, and a folder for each rater."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from deidlib.panel import material, pages, plan
from deidlib.panel.draw import draw_study
from deidlib.panel.errors import PanelError
from deidlib.panel.study import STUDY_FILE, Study, to_json
from deidlib.release.layout import content_digest
from deidlib.release.reading import listed_sums

RATERS_FOLDER, ANSWERS_FOLDER, NOTICE_FILE = "raters", "answers", "NOTICE.txt"

_NOTICE = """\
This is a panel study. {file} says which picture shows what: it is the key. Raters must not see it, nor the plan.

raters/       a folder for each rater; hand each to its rater alone.{originals}
answers/      put here what raters export, a file each.
{file}    the key.
plan.html     protocol, sample size and power, for the investigator and the review board.

When a patient withdraws consent, remove this folder and every copy of the raters' folders, and design a new study.
"""
_WITH_ORIGINALS = """
              THEY HOLD ORIGINAL PHOTOGRAPHS OF PATIENTS. Move them by encrypted means alone, and have them deleted
              when the study is over."""


def design_study(
    settings: Mapping,
    release: Path,
    private: Path | None,
    others: Path | None,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Draw a study and write it into a new folder of mode 0700; it appears whole or not at all.

    Parameters
    ----------
    settings : mapping
        From :func:`deidlib.panel.settings.read_settings`.
    release : Path
        Folder of the release.
    private : Path or None
        Private folder of the run that made it; None where no arm needs originals.
    others : Path or None
        Private folder of another cohort, whose originals are the real photographs of the arm realism.
    out : Path
        The study's folder; it must not exist.
    progress : callable, optional
        Called once a picture with how many are written, and of how many.

    Raises
    ------
    PanelError
        The folder exists, or the study cannot be drawn.
    """
    out = Path(out)
    if out.exists():
        raise PanelError(
            "the study's folder exists, and a study that raters may have begun is never overwritten; name a new one"
        )
    consent = settings["consent_column"], settings["consent_reference"]
    released = material.released_photos(release, settings["views"])
    shown = material.originals(private, *consent) if private else {}
    foreign = material.originals(others, *consent) if others else None
    if others and not foreign:
        raise PanelError(
            "the other cohort has no photograph whose patient's consent to be shown is known (consent_column)"
        )
    look = material.looks(private, shown) if "identity" in settings["arms"] and shown else None
    try:
        digest = content_digest(listed_sums(release))
    except ValueError as error:
        raise PanelError(f"the release cannot be used: {error}") from None
    stated = {
        "version": Path(release).resolve().name,
        "content_sha256": digest,
        "real_of_another_cohort": bool(foreign),
    }
    study = draw_study(settings, stated, released, shown, look, foreign)
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        _write(study, aside, release, private, others, released, shown, foreign or {}, progress)
        os.replace(aside, out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return study


def _write(study, folder, release, private, others, released, shown, foreign, progress) -> None:
    (folder / ANSWERS_FOLDER).mkdir()
    (folder / STUDY_FILE).write_text(to_json(study), encoding="utf-8")
    plan.write_plan(study, folder)
    for rater in study.raters:
        pages.write_rater_folder(study, rater, folder / RATERS_FOLDER / rater.name)
    paths = pages.picture_paths(study, folder / RATERS_FOLDER)
    boxes = {name: one.box for name, one in {**foreign, **shown}.items()}
    by_name = {one.photo: one for one in released}
    done, total = 0, sum(map(len, paths.values()))
    side, missing = study.settings["picture_side"], set(paths)
    own = {(photo, version) for photo, version in paths if version != material.ORIGINAL or photo in shown}
    for source, wanted in ((private, own), (others, set(paths) - own)):
        for photo, version, picture in material.pictures(release, source, by_name, boxes, wanted, side):
            data = material.as_file(picture)
            for path in paths[photo, version]:
                path.write_bytes(data)
                done += 1
                if progress:
                    progress(done, total)
            missing.discard((photo, version))
    if missing:
        raise PanelError(
            "some photographs are gone from the private folder; run the workflow to its end, then design again"
        )
    originals = any(study.shows_originals(rater.name) for rater in study.raters)
    notice = _NOTICE.format(file=STUDY_FILE, originals=_WITH_ORIGINALS if originals else "")
    (folder / NOTICE_FILE).write_text(notice, encoding="utf-8")
    pages.close_folder(folder)
