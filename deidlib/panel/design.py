"""Writes a study: its plan, the key to it, and a folder for each rater."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from deidlib.panel import material, pages, plan
from deidlib.panel.draw import draw_study
from deidlib.panel.errors import PanelError
from deidlib.panel.material import ORIGINAL
from deidlib.panel.source import Source, finished_release, pending_release
from deidlib.panel.study import STUDY_FILE, Study, to_json

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
    release: Path | None,
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
    release : Path or None
        Folder of the release; None: the pending release of ``private``.
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
    if release is not None:
        source = finished_release(release, settings["views"])
    elif private is not None:
        source = pending_release(private, settings["views"])
    else:
        raise PanelError("name a release, or the private folder of a run whose release is pending")
    shown = material.originals(private, *consent) if private else {}
    foreign = material.originals(others, *consent) if others else None
    if others and not foreign:
        raise PanelError(
            "the other cohort has no photograph whose patient's consent to be shown is known (consent_column)"
        )
    look = material.looks(private, shown) if "identity" in settings["arms"] and shown else None
    stated = {
        "version": source.version,
        "content_sha256": source.content_sha256,
        "real_of_another_cohort": bool(foreign),
    }
    study = _with_judged(draw_study(settings, stated, source.photos, shown, look, foreign), source)
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        _write(study, aside, source, private, others, shown, foreign or {}, progress)
        os.replace(aside, out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return study


def _with_judged(study: Study, source: Source) -> Study:
    """The study of a pending release with the digests of the images it shows: what a release has to hold to count."""
    if source.content_sha256 is not None:
        return study
    digests = {one.photo: one.sha256 for one in source.photos}
    judged = {picture.photo for trial in study.trials for picture in trial.pictures if picture.version != ORIGINAL}
    return replace(study, release=study.release | {"judged_sha256": sorted(digests[photo] for photo in judged)})


def _write(study, folder, source, private, others, shown, foreign, progress) -> None:
    (folder / ANSWERS_FOLDER).mkdir()
    (folder / STUDY_FILE).write_text(to_json(study), encoding="utf-8")
    plan.write_plan(study, folder)
    for rater in study.raters:
        pages.write_rater_folder(study, rater, folder / RATERS_FOLDER / rater.name)
    paths = pages.picture_paths(study, folder / RATERS_FOLDER)
    boxes = {name: one.box for name, one in {**foreign, **shown}.items()}
    done, total = 0, sum(map(len, paths.values()))
    side, missing = study.settings["picture_side"], set(paths)
    own = {(photo, version) for photo, version in paths if version != material.ORIGINAL or photo in shown}
    for taken_from, wanted in ((private, own), (others, set(paths) - own)):
        for photo, version, picture in material.pictures(source, taken_from, boxes, wanted, side):
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
