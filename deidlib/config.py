"""The configuration: read, completed with defaults, and checked before any job.

workflow/schemas/config.schema.yaml is the one place where keys, types, limits, defaults and their meaning
stand.
"""

from __future__ import annotations

import copy
import difflib
import functools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jsonschema
import yaml

from deidlib.errors import InputError

_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text (in quotes)",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of keys",
    "null": "null",
}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}


class ConfigError(InputError):
    """The configuration is wrong; the message names each key, its value and the mend."""


@functools.cache
def load_schema(name: str) -> dict:
    """JSON schema ``config`` or ``samples``, from the repository or from inside the installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "workflow" / "schemas", package / "schemas"):
        file = folder / f"{name}.schema.yaml"
        if file.is_file():
            return yaml.safe_load(file.read_text(encoding="utf-8"))
    raise InputError(f"{name}.schema.yaml is not part of this installation; install deidlib again")


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
        The file cannot be read, or :func:`validate_config` refuses it.
    """
    cfg: dict = {}
    if path is not None:
        name = Path(path).name
        try:
            cfg = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"{name}: cannot be read ({error.strerror}); name an existing YAML file") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise ConfigError(f"{name}{where}: not YAML; check indentation, colons and quotes") from None
        if not isinstance(cfg, dict):
            raise ConfigError(f"{name}: holds no keys; write lines such as `cohort: folder/samples.tsv`")
    return complete_config(_merged(cfg, overrides or {}, load_schema("config")))


def complete_config(cfg: Mapping) -> dict:
    """Copy of a configuration with the default of every missing key, checked.

    A block that is empty (null) counts as missing, and a whole number written as 40.0 becomes 40.

    Raises
    ------
    ConfigError
        See :func:`validate_config`.
    """
    completed = _filled(copy.deepcopy(dict(cfg)), load_schema("config"))
    validate_config(completed)
    return _whole_numbers(completed, load_schema("config"))


def validate_config(cfg: Mapping) -> None:
    """Check a completed configuration against the schema.

    Raises
    ------
    ConfigError
        Lists every fault: key, value, what is allowed, the default.
    """
    schema = load_schema("config")
    validator = jsonschema.Draft202012Validator(schema)
    faults = [_fault(error, schema) for error in sorted(validator.iter_errors(dict(cfg)), key=_place)]
    faults += [f"{key}: {value} is no number to compare with; write a finite number" for key, value in _not_finite(cfg)]
    if not faults and cfg["donors"]["mix"] > cfg["donors"]["pool"]:
        faults = [f"donors.mix: {cfg['donors']['mix']} is more than donors.pool; mix at most what the pool holds"]
    if faults:
        raise ConfigError("the configuration is wrong (config/README.md explains every key):\n  " + "\n  ".join(faults))


def stage_options(cfg: Mapping, stage: str) -> dict:
    """Return what a stage alone needs, a copy of its block: for example ``stage_options(cfg, "intake")``."""
    rules = load_schema("config")["properties"]
    blocks = [name for name in rules if "properties" in rules[name]]
    if stage not in blocks:
        raise ConfigError(f"{stage} has no block in the configuration; blocks are {', '.join(blocks)}")
    return copy.deepcopy(dict(cfg[stage]))


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
    return Path(named).expanduser()


def models_file(cfg: Mapping, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the user's own model registry: ``models_file``, else ``DEIDLIB_MODELS_FILE``, else None."""
    environment = os.environ if environment is None else environment
    named = cfg.get("models_file") or environment.get("DEIDLIB_MODELS_FILE")
    return Path(named).expanduser() if named else None


def _merged(base: Mapping, over: Mapping, rule: Mapping) -> dict:
    result = dict(base)
    for key, value in over.items():
        inner = rule.get("properties", {}).get(key, {})
        mergeable = "properties" in inner and isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value, inner) if mergeable else value
    return result


def _filled(cfg: dict, schema: Mapping) -> dict:
    for name, rule in schema.get("properties", {}).items():
        if "properties" in rule:
            if cfg.get(name) is None:
                cfg[name] = {}
            if isinstance(cfg[name], dict):
                cfg[name] = _filled(cfg[name], rule)
        elif name not in cfg and "default" in rule:
            cfg[name] = copy.deepcopy(rule["default"])
    return cfg


def _whole_numbers(cfg, rule: Mapping):
    if isinstance(cfg, dict):
        inner = rule.get("properties", {})
        other = rule.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        return {name: _whole_numbers(value, inner.get(name, other)) for name, value in cfg.items()}
    whole = isinstance(cfg, float) and "integer" in _kinds(rule)
    return int(cfg) if whole else cfg


def _not_finite(value, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _not_finite(inner, key)
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, value


def _kinds(rule: Mapping) -> list[str]:
    kinds = rule.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _place(error: jsonschema.ValidationError) -> str:
    return ".".join(map(str, error.absolute_path))


def _fault(error: jsonschema.ValidationError, schema: Mapping) -> str:
    where = _place(error)
    prefix = f"{where}." if where else ""
    if error.validator == "additionalProperties":
        known = set(error.schema.get("properties", {}))
        unknown = sorted(str(name) for name in error.instance if name not in known)
        return "; ".join(f"{prefix}{name}: no such key; {_nearest(name, known, schema)}" for name in unknown)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        rules = error.schema.get("properties", {})
        return "; ".join(f"{prefix}{name}: missing; {_allowed(rules.get(name, {}))}" for name in missing)
    if "propertyNames" in error.absolute_schema_path:
        return f"{prefix}{error.instance}: this column identifies people and is never released; remove the key"
    return f"{where}: {_shown(error.instance)} is not allowed; {_allowed(error.schema)}"


def _shown(value) -> str:
    text = repr(value) if isinstance(value, str) else "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _nearest(name: str, known: set[str], schema: Mapping) -> str:
    close = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    blocks = schema["properties"]
    homes = [f"{block}.{name}" for block, rule in blocks.items() if name in rule.get("properties", {})]
    homes += [name] if name in blocks else []
    if homes:
        return f"did you mean {' or '.join(homes)}?"
    return f"keys here are {', '.join(sorted(known))}" if known else "this block has no keys; remove the line"


def _allowed(rule: Mapping) -> str:
    if "mend" in rule:
        text = rule["mend"]
    elif "enum" in rule:
        text = "use one of " + ", ".join("null" if value is None else str(value) for value in rule["enum"])
    else:
        kinds = [_KINDS[kind] for kind in _kinds(rule)]
        limits = [words.format(rule[word]) for word, words in _LIMITS.items() if word in rule]
        text = "write " + " or ".join(kinds) + (", " if limits else "") + " and ".join(limits)
        if "items" in rule:
            text += f" in which each entry is right: {_allowed(rule['items'])}"
    if "default" in rule:
        default = rule["default"]
        text += f" (default {'null' if default is None else default})"
    return text
