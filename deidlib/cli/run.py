"""The command that runs the whole workflow."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from deidlib.logs import say


def run(
    context: typer.Context,
    sheet: Annotated[
        Path,
        typer.Argument(help="Sample sheet (TSV, CSV, Excel) in the folder of its photographs.", show_default=False),
    ],
    key: Annotated[
        Path | None,
        typer.Option(help="Secret key file, made by `deidlib keygen`; else DEIDLIB_KEY_FILE.", show_default=False),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for everything that is made; by default results.", show_default=False)
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            metavar="KEY=VALUE...",
            help="Settings, for example version=1.1.0 release.k=3.",
            show_default=False,
        ),
    ] = None,
    configfile: Annotated[
        Path | None, typer.Option(help="Your settings as a YAML file.", exists=True, show_default=False)
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores; by default all.", show_default=False)] = None,
    profile: Annotated[str, typer.Option(help="default, slurm, or a folder with a Snakemake profile.")] = "default",
) -> None:
    """De-identify a cohort: from a sample sheet to a release and its audit. The one command that most people need.

    It checks the sheet first, then shows one bar; everything else goes into logs/run.log of the results. Ctrl-C stops
    it, and the same command goes on. The exit code is 0 for a release, and 1 where there is none.

    Example:
      deidlib run cohort/samples.tsv --key ~/deidlib.key
      deidlib run cohort/samples.tsv --config version=1.1.0 preserve=teeth --cores 8
    """
    from deidlib import config
    from deidlib.running import follow
    from deidlib.running.ending import ending
    from deidlib.running.preview import check_settings, check_sheet, write_settings
    from deidlib.running.status import read_status
    from deidlib.storage.results import Results

    options = {"cohort": str(sheet)} | ({"results": os.path.normpath(results)} if results else {})
    overrides = config.nested([*(given or []), *context.args]) | options
    cfg = config.load_config(configfile, overrides)
    key_file = check_settings(cfg, key)
    out = Path(cfg["results"])
    say(check_sheet(sheet, out, cfg["release"]["columns"]))
    log, mine = Results.of_folder(out).run_log, write_settings(overrides, out)
    say(f"settings are right; the workflow starts at {datetime.now():%H:%M}, its full log is {log}")
    cores = cores or (len(os.sched_getaffinity(0)) if profile == "default" else None)
    line = follow.command(profile, cores, [*([configfile] if configfile else []), mine])
    code, stopped, said = follow.run(line, out, log, key_file)
    if refused := follow.refusal(said):
        say(refused)
    else:
        try:
            found = read_status(out)
        except FileNotFoundError:
            found = None
        for last in ending(out, cfg["version"], found, stopped, log):
            say(last)
    raise typer.Exit(code if code >= 0 else 1)
