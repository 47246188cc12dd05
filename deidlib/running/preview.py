"""Checks before a run: settings, key and sheet, and a short summary of the sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from deidlib import config, keys
from deidlib.errors import InputError
from deidlib.intake import contents
from deidlib.intake.cohort import open_sheet, read_sheet
from deidlib.intake.preview import in_words, preview
from deidlib.intake.sheet import CohortError
from deidlib.storage.atomic import write_file
from deidlib.storage.results import Results
from deidlib.storage.stage import open_private


def check_settings(cfg: dict, key: Path | None) -> Path:
    """See that the run can begin: the sheet is there, there is a key, and Snakemake knows of what was made before.

    Parameters
    ----------
    cfg : dict
        The completed configuration.
    key : Path or None
        The key file, where one is named beside the configuration.

    Returns
    -------
    Path
        The key file.

    Raises
    ------
    InputError
        What is missing, and the mend.
    """
    if not Path(cfg["cohort"]).is_file():
        raise InputError("there is no sample sheet of this name; `config/README.md` explains what to write into one")
    if Results.of_folder(Path(cfg["results"])).plan.is_file() and not Path(".snakemake", "metadata").is_dir():
        raise InputError(
            "these results were begun from another folder. Start from that folder (it holds a folder .snakemake): its "
            "records are needed to notice changed settings"
        )
    if key and cfg.get("key_file"):
        raise InputError("two key files are named: with --key, and in key_file of the settings. Leave one out")
    key_file = key or config.key_file(cfg)
    keys.read_key(key_file)
    config.refuse_key_inside(key_file, cfg["results"])
    return key_file


def write_settings(overrides: dict, results: Path) -> Path:
    """Write what was given on the command line to a private file, since Snakemake's log holds its command line."""
    file = Results.of_folder(results).private / "command.yaml"
    with _private_files():
        open_private(file)
        write_file(file, yaml.safe_dump(overrides).encode())
    return file


def check_sheet(
    sheet: Path, results: Path, rules: Mapping[str, Mapping], progress: Callable[[], object] | None = None
) -> str:
    """Check the sheet as the plan will, and say what a run would make of it.

    What is read of the photographs is kept for the plan, so that it does not read them again.

    Parameters
    ----------
    sheet : Path
        The sample sheet.
    results : Path
        Results folder; its private folder is made.
    rules : mapping
        ``release.columns`` of the configuration.
    progress : callable, optional
        Called once a file that is read.

    Returns
    -------
    str
        The preview (:func:`deidlib.intake.preview.in_words`), without the content of any cell.

    Raises
    ------
    CohortError
        The sheet is wrong: nothing may start.
    """
    opened = open_sheet(sheet, rules)
    found = preview(opened)
    if found.stops:
        raise CohortError(in_words(found))
    seen = Results.of_folder(results).contents
    known = contents.read_known(seen)
    read_sheet(opened, known, progress)
    results.mkdir(parents=True, exist_ok=True)
    with _private_files():
        open_private(seen)
        contents.write_known(known, seen)
    return in_words(found)


@contextmanager
def _private_files() -> Iterator[None]:
    """Keep the umask, which :func:`open_private` narrows, from the files that are made to be shared."""
    mask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(mask)
