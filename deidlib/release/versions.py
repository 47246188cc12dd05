"""Version numbers of releases: Semantic Versioning 2.0.0 (semver.org) without build metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from deidlib.errors import ReleaseError

_NUMBER = r"(?:0|[1-9][0-9]*)"
_MARK = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_MARK}(?:\.{_MARK})*))?", re.ASCII)


def is_version(text: str) -> bool:
    """Whether ``text`` is a version such as 1.0.0 or 2.1.0-beta.2."""
    return _VERSION.fullmatch(text) is not None


def precedence(version: str) -> tuple:
    """Sort key of a version, by clause 11 of Semantic Versioning: 1.0.0-alpha < 1.0.0-alpha.1 < 1.0.0 < 1.0.1.

    Raises
    ------
    ReleaseError
        ``version`` is none.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ReleaseError(
            f"version {version!r} is not a semantic version and cannot name a folder; write three numbers and perhaps "
            'a suffix, in quotes: "1.0.0" or "2.1.0-beta"'
        )
    major, minor, patch, marks = match.groups()
    suffix = [(0, int(mark), "") if mark.isdigit() else (1, 0, mark) for mark in marks.split(".")] if marks else []
    return int(major), int(minor), int(patch), marks is None, suffix


def versions_in(release_root: Path) -> list[str]:
    """Versions whose folders lie in ``release_root``, lowest first; empty folders and other entries do not count."""
    root = Path(release_root)
    folders = [path for path in root.iterdir() if path.is_dir() and is_version(path.name)] if root.is_dir() else []
    return sorted((folder.name for folder in folders if any(folder.iterdir())), key=precedence)


def refuse_backwards(version: str, existing: Iterable[str]) -> None:
    """Refuse a new version that is not above every existing one.

    Raises
    ------
    ReleaseError
        ``version`` is none, or a higher one exists; the message names it and versions that may follow it.
    """
    mine = precedence(version)
    highest = max((other for other in existing if other != version), key=precedence, default=None)
    if highest is not None and precedence(highest) > mine:
        major, minor, patch = precedence(highest)[:3]
        raise ReleaseError(
            f"version {version} goes backwards: {highest} is released already. Set `version` to one above it, for "
            f"example {major}.{minor}.{patch + 1} (corrections), {major}.{minor + 1}.0 (photographs added) or "
            f"{major + 1}.0.0 (photographs changed or withdrawn)"
        )
