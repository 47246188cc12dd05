"""The configuration: read, completed with defaults and the generator's preset, and checked before any job.

workflow/schemas/config.schema.yaml and preset.schema.yaml say which keys there are. How the method works with a
generator (weights, limits, bounds of quality) is that generator's preset, config/presets/GENERATOR.yaml; the setting
``preset`` names a file whose values replace some of them.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from deidlib import distribution, schema
from deidlib.errors import InputError
from deidlib.schema import load_schema

_PRESETS = distribution.folder() / "config" / "presets"
#: Fields of the block ``study`` that the audit states and a release does not: they name people of the institution.
AUDIT_ONLY = ("key_custodian", "responsible")
#: Name of a preset that changes the generator's and gives itself no name.
_OWN = "own"
#: The setting ``generator`` where no face is drawn, and the generator by whose faces attacks then calibrate.
NO_GENERATOR, _CALIBRATES = "none", "mobilestylegan"
_GENERATE, _REGION_ONLY = "generate", "region_only"  # routes, as the schema of `views` names them


class ConfigError(InputError):
    """The configuration is wrong; the message names each key, its value and the mend."""


def load_config(path: Path | str | None = None, overrides: Mapping | None = None) -> dict:
    """Read a configuration from a YAML file and overrides; complete and check it.

    Parameters
    ----------
    path : path or None
        A YAML file; None reads no file.
    overrides : mapping or None
        Values that win over the file's; blocks are merged key by key (release.columns is replaced whole).

    Raises
    ------
    ConfigError
        The file cannot be read, or :func:`complete_config` refuses it.
    """
    cfg = {} if path is None else _read_yaml(Path(path), "`cohort: folder/samples.tsv`")
    return complete_config(schema.merged(cfg, overrides or {}, load_schema("config")))


def nested(given: Iterable[str]) -> dict:
    """Settings written as ``key=value``, where a dot leads into a block: ``release.k=3``. Values are YAML.

    Raises
    ------
    ConfigError
        One has no ``=``, or its value is not YAML.
    """
    found: dict = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"{text}: not a setting; write key=value, for example version=1.1.0")
        *blocks, key = name.split(".")
        block = found
        for one in blocks:
            block = block.setdefault(one, {})
            if not isinstance(block, dict):
                raise ConfigError(f"{name}: {one} was given as a value and as a block")
        try:
            block[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{name}: the value is not YAML; put text with special characters in quotes") from None
    return found


def complete_config(cfg: Mapping) -> dict:
    """Copy of a configuration with the default of every missing key and the whole preset, checked.

    A block that is empty (null) counts as missing, a whole number written as 40.0 becomes 40, and where no text is
    allowed text is read as YAML: Snakemake gives the numbers inside ``--config reid="{fmr: 0.01}"`` as text. ``preset``
    may be null, the path of a YAML file, or a mapping; in the copy it is a mapping with all values and its ``name``.
    With ``generator: none`` no view of the copy is generated, and its generator is the one by which attacks calibrate.

    Raises
    ------
    ConfigError
        Lists every fault: key, value, what is allowed, the default.
    """
    rules = load_schema("config")
    completed = schema.from_text(schema.filled(copy.deepcopy(dict(cfg)), rules), rules)
    own = completed["preset"]
    # The keys of a preset are checked by its own schema.
    checked = completed | {"preset": {}} if isinstance(own, dict) else completed
    faults = schema.faults(checked, rules, elsewhere=_keys_of_presets())
    without_faces = completed["generator"] == NO_GENERATOR
    if without_faces:
        faults += _draw_no_face(completed, cfg.get("views") or {})
    if not any(fault.startswith(("preset:", "generator:")) for fault in faults):
        completed["preset"], more = _preset(own, completed["generator"])
        faults += more
        if without_faces and completed["preset"]["name"] == _CALIBRATES:
            completed["preset"]["name"] = NO_GENERATOR  # its values for landmarks, regions and checks hold all the same
    if faults:
        raise ConfigError("the configuration is wrong (config/README.md explains every key):\n  " + "\n  ".join(faults))
    return schema.whole_numbers(completed, rules)


def _draw_no_face(completed: dict, given: Mapping) -> list[str]:
    """Replace ``generator: none`` and the default route; the faults of views for which a face is asked all the same."""
    completed["generator"] = _CALIBRATES
    asked = [view for view, route in given.items() if route == _GENERATE] if isinstance(given, Mapping) else []
    if isinstance(completed["views"], dict):
        routes = completed["views"].items()
        completed["views"] = {view: _REGION_ONLY if route == _GENERATE else route for view, route in routes}
    return [
        f"views.{view}: generate draws a face, but generator is none; write region_only, intraoral or refuse"
        for view in asked
    ]


def draws_faces(cfg: Mapping) -> bool:
    """Whether a completed configuration has a view for which a face is generated."""
    return _GENERATE in (cfg.get("views") or {"": _GENERATE}).values()


def stage_options(cfg: Mapping, stage: str) -> dict:
    """A stage's options: a copy of its block of a completed config and of that of the preset.

    For example ``stage_options(cfg, "checks")``: the bounds of the gate.
    """
    blocks = _blocks()
    if stage not in blocks:
        raise ConfigError(f"{stage} has no block in the configuration; blocks are {', '.join(blocks)}")
    return copy.deepcopy({**cfg.get(stage, {}), **cfg["preset"].get(stage, {})})


def complete_options(stage: str, given: Mapping, generator: str | None = None) -> dict:
    """A stage's options, completed with defaults and checked, if no other part of the config is known.

    Parameters
    ----------
    stage : str
        See :func:`stage_options`.
    given : mapping
        Options of the configuration's block and of the preset's, as :func:`stage_options` gives them.
    generator : str, optional
        Whose preset completes them; by default that of the default generator.

    Raises
    ------
    ConfigError
        See :func:`complete_config`.
    """
    settings = load_schema("config")["properties"].get(stage, {}).get("properties", {})
    of_preset = load_schema("preset")["properties"].get(stage, {}).get("properties", {})
    in_preset = {name: value for name, value in given.items() if name in of_preset or not settings}
    cfg = {"cohort": "samples.tsv", "preset": {stage: in_preset} if of_preset else {}}
    if settings:
        cfg[stage] = {name: value for name, value in given.items() if name not in in_preset}
    if generator is not None:
        cfg["generator"] = generator
    return stage_options(complete_config(cfg), stage)


def key_file(cfg: Mapping, environment: Mapping[str, str] | None = None) -> Path:
    """Return the secret key's path: ``key_file`` of the configuration, else ``DEIDLIB_KEY_FILE``.

    Raises
    ------
    ConfigError
        Neither is set.
    """
    environment = os.environ if environment is None else environment
    named = cfg.get("key_file") or environment.get("DEIDLIB_KEY_FILE")
    if not named:
        raise ConfigError(
            "key_file: no key is named, and without one nothing runs. Make one with `deidlib keygen FILE`, "
            "keep it outside the results, and name it in key_file or in the environment: DEIDLIB_KEY_FILE"
        )
    return at_home(named, "key_file")


def at_home(path: str, key: str) -> Path:
    """Path with ``~`` replaced by the home folder.

    Raises
    ------
    ConfigError
        The path begins with a ``~`` that names no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}: begins with ~ and no name that has a home here; write the whole path") from None


def refuse_key_inside(key_file: Path, results: Path | str) -> None:
    """Refuse a key inside the results: whoever gets a copy of them could test every id.

    Raises
    ------
    ConfigError
        The key lies inside the results.
    """
    if Path(os.path.realpath(key_file)).is_relative_to(os.path.realpath(results)):
        raise ConfigError(
            "key_file: the key lies inside the results folder, with all that it protects; move it elsewhere, for "
            "example to your home folder, and name it there"
        )


def models_file(cfg: Mapping, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the user's own model registry: ``models_file``, else ``DEIDLIB_MODELS_FILE``, else None."""
    environment = os.environ if environment is None else environment
    named = cfg.get("models_file") or environment.get("DEIDLIB_MODELS_FILE")
    return at_home(named, "models_file") if named else None


def _preset(given: str | Mapping | None, generator: str) -> tuple[dict, list[str]]:
    """The generator's preset with the given values in place of its own, and the faults of what was given."""
    rules, shipped = load_schema("preset"), _shipped_preset(generator)
    if isinstance(given, str):
        given = _read_yaml(at_home(given, "preset"), "`inversion:` with a block of keys")
    given = schema.filled(copy.deepcopy(dict(given or {})), rules)  # an empty block counts as missing
    preset = schema.from_text(schema.merged(shipped, given, rules), rules)
    faults = schema.faults(preset, rules, where="preset.")
    if not faults and preset["donors"]["mix"] > preset["donors"]["pool"]:
        faults = [
            f"preset.donors.mix: {preset['donors']['mix']} is more than donors.pool; mix at most what the pool holds"
        ]
    preset = schema.whole_numbers(preset, rules)
    if not faults and preset["name"] == shipped["name"] and preset != shipped:
        preset["name"] = _OWN
    return preset, faults


@functools.cache
def _shipped_preset(generator: str) -> dict:
    file = _PRESETS / f"{generator}.yaml"
    if not file.is_file():
        raise ConfigError(f"config/presets/{file.name} is missing; deidlib runs from a checkout of its repository")
    return distribution.read_yaml(file)


def _read_yaml(path: Path, example: str) -> dict:
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path.name}: cannot be read ({error.strerror}); name an existing YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        mend = "a tab; write blanks instead" if _tab_at(path, mark) else "check indentation, colons and quotes"
        raise ConfigError(f"{path.name}{where}: not YAML; {mend}") from None
    if not isinstance(read, dict):
        raise ConfigError(f"{path.name}: holds no keys; write lines such as {example}")
    return read


def _tab_at(path: Path, mark: yaml.Mark | None) -> bool:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return mark is not None and "\t" in "".join(lines[max(0, mark.line - 1) : mark.line + 1])


def _blocks() -> list[str]:
    """Names of the blocks of the configuration and of a preset."""
    both = [item for kind in ("config", "preset") for item in load_schema(kind)["properties"].items()]
    return list(dict.fromkeys(name for name, rule in both if "properties" in rule))


def _keys_of_presets() -> list[str]:
    """Dotted keys of a preset."""
    blocks = load_schema("preset")["properties"].items()
    return [f"{block}.{name}" for block, rule in blocks for name in rule.get("properties", {})]
