"""Finds and reads what comes with deidlib besides its code: workflow, schemas, templates, registry of models."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

#: libyaml's parser is ten times as fast as PyYAML's own; every job reads schemas and registry.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

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


def read_yaml(path: Path) -> Any:
    """Content of a YAML file; a text is parsed once a process."""
    return copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))


@functools.cache
def _parsed(text: str) -> Any:
    return yaml.load(text, _LOADER)  # a SafeLoader
