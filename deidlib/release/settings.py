"""The settings that a finished release was made with, as its documents state them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deidlib.config import ConfigError, complete_config
from deidlib.errors import InputError
from deidlib.release import redact
from deidlib.release.layout import SETTINGS_FILE
from deidlib.release.reading import read_json


def settings_of_release(release: Path, reid: Mapping | None = None) -> dict:
    """Read the configuration of a finished release, the preset's values included.

    Parameters
    ----------
    release : Path
        The release's folder.
    reid : mapping, optional
        Values of the block ``reid`` that take the place of the release's: how it is attacked now.

    Returns
    -------
    dict
        The whole configuration, completed and checked. Paths are never part of a release, so they have their defaults.

    Raises
    ------
    InputError
        The release states no settings, or this version of deidlib does not know them.
    """
    stated = read_json(release, SETTINGS_FILE)
    if not isinstance(stated, Mapping) or not isinstance(stated.get("preset"), Mapping):
        raise InputError(f"{SETTINGS_FILE}: states no preset; check the release with `deidlib verify`")
    stated = redact.public_config(stated)  # a path in it was not written by deidlib, and is not followed
    try:
        made_with = complete_config({"cohort": "samples.tsv", **stated})
        return complete_config({**made_with, "reid": {**made_with["reid"], **(reid or {})}})
    except ConfigError as error:
        raise InputError(f"{SETTINGS_FILE} of the release: {error}") from None
