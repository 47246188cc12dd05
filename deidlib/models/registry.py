"""The model registry: which models there are, and where their files and companions lie.

``config/models.yaml`` names every file with its SHA-256. A generator or a recogniser of the user's own is registered in
a file of theirs by path and SHA-256 (``$DEIDLIB_MODELS_FILE``); it stays where it is.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Collection, Mapping
from importlib.metadata import version as package_version
from pathlib import Path, PurePosixPath

import yaml

from deidlib import distribution
from deidlib.errors import DeidlibError

REGISTRY_PATH = distribution.folder() / "config" / "models.yaml"
DATA_FOLDER = Path(__file__).resolve().parents[1] / "data"
SHIPPED_PATH = DATA_FOLDER / "models.yaml"
TEXT_FIELDS = ("task", "package", "version", "licence", "citation", "use")
OWN_TEXT_FIELDS = ("task", "path", "licence", "citation", "use")
OWN_GENERATORS = ("stylegan2",)
#: Texts that an entry's block ``recogniser`` must have.
RECOGNISER_FIELDS = ("name", "title", "role", "published_accuracy")
ROLES = ("identity_loss", "judge")


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
        The file is missing, or an entry lacks a field, or its checksum is no SHA-256.
    """
    own = None if path else os.environ.get("DEIDLIB_MODELS_FILE")
    path = Path(path or REGISTRY_PATH)
    if not path.is_file():
        raise ModelError(f"no model registry at {path}; install deidlib again")
    registry = _validated(distribution.read_yaml(path) or {}, path)
    return registry | _own_registry(Path(own).expanduser(), set(registry)) if own else registry


def _own_registry(path: Path, shipped: set[str]) -> dict[str, dict]:
    """The user's own file. It may add a generator and recognisers; it cannot replace a model that judges releases."""
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
    entry = entry_of(registry or load_registry(), generator)
    if "path" not in entry:
        return DATA_FOLDER / f"{kind}-{generator}{suffix}"
    (checksum,) = entry["members"].values()
    return Path(entry["path"]).with_name(f"{kind}-{checksum[:12]}{suffix}")


def used_models(config: Mapping, registry: dict[str, dict] | None = None) -> list[dict]:
    """Entries, each with its ``name``, of all models that a run uses: of the registry, and shipped ones.

    An entry with ``routes: generate`` is used only for photographs with a generated face. One with ``attacks: true`` is
    used by the attacks.

    Parameters
    ----------
    config : mapping
        The whole configuration: ``generator``, ``preset``, ``reid.recognisers``.
    registry
        From :func:`load_registry`, by default read from its files.

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
        From :func:`load_registry`, by default read from its files.
    """
    places = {"donor_bank": bank_file, "preview": preview_file}
    entries = []
    for name, entry in distribution.read_yaml(SHIPPED_PATH).items():
        if led_by is not None and "led_by" in entry and entry["led_by"] not in led_by:
            continue
        shown = entry["file"].format(generator=generator)
        path = places[name](generator, registry) if name in places else DATA_FOLDER / shown
        if not path.is_file():
            continue  # a file of the user's own generator that was not built was not used
        entries.append({"name": name, **entry, "package": "deidlib", "members": {shown: sha256_of(path)}})
    return [entry | {"version": package_version("deidlib")} for entry in entries]


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


def entry_of(registry: dict[str, dict], name: str) -> dict:
    """Entry of a model; a ModelError if it is not registered."""
    if name not in registry and name in OWN_GENERATORS:
        raise ModelError(
            f"generator: {name} needs a checkpoint of yours. Register it in a file of your own and name that in "
            "models_file of the configuration, or in DEIDLIB_MODELS_FILE (config/README.md shows how)"
        )
    if name not in registry:
        raise ModelError(f"no model called {name!r}; the registry holds {', '.join(sorted(registry))}")
    return registry[name]


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file, computed once for each state of the file in this process."""
    stat = path.stat()
    return _sha256_of_version(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.cache
def _sha256_of_version(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
