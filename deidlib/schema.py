"""Checks settings against a JSON schema: fills in defaults, and reports every fault with its key, value and remedy.

The schemas in workflow/schemas are the only place that defines keys, types, limits and meanings.
"""

from __future__ import annotations

import copy
import difflib
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping

import jsonschema
import yaml

from deidlib import distribution
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


@functools.cache
def load_schema(name: str) -> dict:
    """JSON schema ``config``, ``preset``, ``samples`` or ``panel``."""
    file = distribution.folder() / "workflow" / "schemas" / f"{name}.schema.yaml"
    if not file.is_file():
        raise InputError(f"{file.name} is not part of this installation; install deidlib again")
    return distribution.read_yaml(file)


def filled(given: dict, schema: Mapping) -> dict:
    """Fill the schema's defaults into ``given``, which is changed; a block that is empty (null) counts as missing."""
    for name, rule in schema.get("properties", {}).items():
        if "properties" in rule:
            if given.get(name) is None:
                given[name] = {}
            if isinstance(given[name], dict):
                given[name] = filled(given[name], rule)
        elif name not in given and "default" in rule:
            given[name] = copy.deepcopy(rule["default"])
    return given


def merged(base: Mapping, over: Mapping, schema: Mapping) -> dict:
    """Values of ``over`` in place of those of ``base``; blocks of the schema are merged key by key."""
    result = dict(base)
    for key, value in over.items():
        inner = schema.get("properties", {}).get(key, {})
        mergeable = "properties" in inner and isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value, inner) if mergeable else value
    return result


def from_text(given, rule: Mapping):
    """Copy in which text is read as YAML wherever no text is allowed."""
    kinds = _kinds(rule)
    if isinstance(given, str) and kinds and ("string" not in kinds or (given in ("null", "~") and "null" in kinds)):
        read = _yaml_value(given)
        if not isinstance(read, str):
            given = read
    if isinstance(given, dict):
        inner, other = rule.get("properties", {}), rule.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        return {name: from_text(part, inner.get(name, other)) for name, part in given.items()}
    if isinstance(given, list):
        return [from_text(part, rule.get("items", {})) for part in given]
    return given


def whole_numbers(given, rule: Mapping):
    """Copy in which a whole number written as 40.0 is 40."""
    if isinstance(given, dict):
        inner = rule.get("properties", {})
        other = rule.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        return {name: whole_numbers(value, inner.get(name, other)) for name, value in given.items()}
    whole = isinstance(given, float) and "integer" in _kinds(rule)
    return int(given) if whole else given


def faults(given: Mapping, schema: Mapping, elsewhere: Iterable[str] = (), where: str = "") -> list[str]:
    """Every fault of ``given``: key, value, what is allowed, the default.

    Parameters
    ----------
    given, schema
        What is checked, and by which schema.
    elsewhere : iterable of str
        Dotted keys that belong to another file, for the message about an unknown one.
    where : str
        Prefix of the keys in the messages, for example ``preset.``.
    """
    validator = jsonschema.Draft202012Validator(schema)
    elsewhere = tuple(elsewhere)
    found = [_fault(error, schema, elsewhere) for error in sorted(validator.iter_errors(dict(given)), key=_place)]
    found += [
        f"{key}: {value} is no number to compare with; write a finite number" for key, value in _not_finite(given)
    ]
    return [where + one for one in found]


def _yaml_value(text: str):
    try:
        return float(text) if re.fullmatch(r"[-+]?[0-9.]+e[-+]?[0-9]+", text, re.IGNORECASE) else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text


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


def _fault(error: jsonschema.ValidationError, schema: Mapping, elsewhere: tuple[str, ...]) -> str:
    where = _place(error)
    prefix = f"{where}." if where else ""
    if error.validator == "additionalProperties":
        known = set(error.schema.get("properties", {}))
        unknown = sorted(str(name) for name in error.instance if name not in known)
        return "; ".join(f"{prefix}{n}: no such key; {_nearest(n, prefix, known, schema, elsewhere)}" for n in unknown)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        rules = error.schema.get("properties", {})
        return "; ".join(f"{prefix}{name}: missing; {_allowed(rules.get(name, {}))}" for name in missing)
    if "propertyNames" in error.absolute_schema_path:
        return f"{prefix}{error.instance}: this column identifies people and is never released; remove the key"
    shown = "what is written here" if where == "key_file" else _shown(error.instance)  # it may be the key itself
    return f"{where}: {shown} is not allowed; {_allowed(error.schema)}"


def _shown(value) -> str:
    text = repr(value) if isinstance(value, str) else "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _nearest(name: str, prefix: str, known: set[str], schema: Mapping, elsewhere: tuple[str, ...]) -> str:
    if any(other == prefix + name or other.startswith(f"{prefix}{name}.") for other in elsewhere):
        return "the generator's preset has it; write it into a preset of your own, and name that in `preset`"
    close = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    blocks = schema["properties"]
    homes = [f"{block}.{name}" for block, rule in blocks.items() if name in rule.get("properties", {})]
    homes += [name] if name in blocks else []
    homes += [f"preset.{other}" for other in elsewhere if other.endswith(f".{name}")]
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
