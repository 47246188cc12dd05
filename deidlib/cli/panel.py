"""Commands of the panel study: design, analyse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.common import add, group
from deidlib.errors import InputError
from deidlib.logs import progress, say
from deidlib.storage.results import PRIVATE, Results
from deidlib.storage.stage import open_private

panel_app = group("Let clinicians judge a release blind: draw a study, hand it to raters, analyse what they send back.")


def design(
    release: Annotated[
        Path,
        typer.Argument(
            help="Folder of a finished release, or the results folder of a run whose release is pending.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The study's folder, below private/; by default private/panel/VERSION.", show_default=False),
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="Study file (YAML); docs/panel-study.md explains it.", show_default=False)
    ] = None,
    private: Annotated[
        Path | None,
        typer.Option(
            help="Private folder of the run that made the release; by default that beside it.", show_default=False
        ),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            help="Private folder of another cohort whose originals are the real photographs of the arm realism.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw a blinded, balanced study from a release: its plan, the key to it, and a folder for each rater.

    Example:
      deidlib panel design results/release/1.0.0 --study study.yaml
      deidlib panel design results/ --study study.yaml    (while reviewers are still to decide)
    """
    from deidlib.panel.design import RATERS_FOLDER, design_study
    from deidlib.panel.settings import read_settings
    from deidlib.panel.source import pending_version

    settings = read_settings(study)
    pending = Results.of_folder(release).plan.is_file()
    private = private or Results.of_folder(release if pending else release.resolve().parent.parent).private
    version = pending_version(Results(private)) if pending else release.resolve().name
    out = out or Results(private).panel / version
    if PRIVATE not in out.absolute().parent.parts:
        raise InputError("a study holds its key and originals: name a folder below the results' private folder (--out)")
    open_private(out)
    with progress("panel design", 0, "pictures") as step:
        finished, known = None if pending else release, private if private.is_dir() else None
        drawn = design_study(settings, finished, known, real, out, step)
    for note in drawn.notes:
        say(note)
    holding = sum(drawn.shows_originals(rater.name) for rater in drawn.raters)
    say(f"{len(drawn.raters)} folders in {RATERS_FOLDER}/, one a rater; {holding} hold originals of patients")
    say("read plan.html before you hand them out")


def analyse(
    study: Annotated[Path, typer.Argument(help="Folder that `deidlib panel design` wrote.", show_default=False)],
    answers: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files that raters exported; by default all of answers/ in that folder.", show_default=False
        ),
    ] = None,
) -> None:
    """Analyse the raters' answers: report.html, report.pdf, and summary.json, which the next audit takes.

    Example:
      deidlib panel analyse results/private/panel/1.0.0
    """
    from deidlib.panel.analysis import analyse as analyse_study
    from deidlib.panel.answers import read_answers
    from deidlib.panel.design import ANSWERS_FOLDER
    from deidlib.panel.report import write_panel_report
    from deidlib.panel.study import read_study

    os.umask(0o077)
    drawn = read_study(study)
    results = analyse_study(drawn, read_answers(drawn, answers or (study / ANSWERS_FOLDER).glob("*.json")))
    path = write_panel_report(results, study)
    for row in results["raters"]:
        for flag in row["flags"]:
            say(f"{row['rater']} {flag}")
    if results["simulated"]:
        say("SIMULATED raters: this is no result, and no audit takes it")
    say(f"{len(results['raters'])} of {len(drawn.raters)} raters: report.html, report.pdf, {path.name}")


add(panel_app, "design", design)
add(panel_app, "analyse", analyse)
