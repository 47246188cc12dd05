"""Finds the files that come with deidlib besides its code: workflow, schemas, templates, registry of models."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder() -> Path:
    """Folder that holds ``workflow``, ``config``, ``reports`` and ``envs``.

    It is the root of the repository in a checkout, and ``share`` inside the package where a wheel is installed
    (pyproject.toml puts them there).
    """
    share = _PACKAGE / "share"
    return share if share.is_dir() else _PACKAGE.parent


def snakefile() -> Path:
    """The workflow's Snakefile."""
    return folder() / "workflow" / "Snakefile"


def code() -> dict[str, Path]:
    """Files that decide a result, by their path in the repository: modules, templates, workflow."""
    found = {f"deidlib/{file.relative_to(_PACKAGE).as_posix()}": file for file in _PACKAGE.rglob("*.py")}
    for pattern in ("reports/**/*.j2", "reports/**/*.css", "workflow/Snakefile", "workflow/rules/*.smk"):
        found |= {file.relative_to(folder()).as_posix(): file for file in folder().glob(pattern)}
    return found
