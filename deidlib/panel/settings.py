"""The study file: settings of a panel study, read from YAML, completed with defaults and checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import yaml

from deidlib.panel.errors import PanelError
from deidlib.schema import load_schema


def read_settings(path: Path | None) -> dict:
    """Read a study file; None gives the defaults alone.

    Raises
    ------
    PanelError
        It cannot be read, or :func:`complete` refuses it.
    """
    if path is None:
        return complete({})
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise PanelError(f"the study file cannot be read ({error.strerror}); name an existing YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PanelError("the study file is not YAML; check indentation, colons and quotes") from None
    if not isinstance(given, dict):
        raise PanelError("the study file holds no keys; write lines such as `raters: 5`")
    return complete(given)


def complete(given: Mapping) -> dict:
    """Copy of the settings with the default of every missing key, checked.

    Raises
    ------
    PanelError
        Lists every fault: key, and what is allowed (docs/panel-study.md explains every key).
    """
    schema = load_schema("panel")
    settings = _filled(copy.deepcopy(dict(given)), schema)
    faults = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(settings), key=lambda fault: str(fault.json_path)
    )
    wrong = [f"{fault.json_path.removeprefix('$.')}: {fault.message}" for fault in faults]
    if not wrong and settings["consent_column"] and settings["consent_reference"]:
        wrong = ["consent_column, consent_reference: give one of the two"]
    if not wrong:
        names = [item["name"] for item in settings["free_items"]]
        taken = schema["properties"]["findings"]["default"] + ["aesthetic_component"]
        wrong = [
            f"free_items: the name {name} is taken"
            for name in sorted({n for n in names if names.count(n) > 1 or n in taken})
        ]
        wrong += [f"margins.{name}: no such finding" for name in sorted(set(settings["margins"]) - set(taken))]
    if wrong:
        raise PanelError("the study file is wrong (docs/panel-study.md explains every key):\n  " + "\n  ".join(wrong))
    return settings


def _filled(given: dict, schema: Mapping) -> dict:
    for name, rule in schema["properties"].items():
        if "properties" in rule:
            inner = {} if given.get(name) is None else given[name]
            given[name] = _filled(inner, rule) if isinstance(inner, dict) else inner
        elif "default" in rule and given.get(name) is None:
            given[name] = copy.deepcopy(rule["default"])
    for item in given.get("free_items", []) if isinstance(given.get("free_items"), list) else []:
        if isinstance(item, dict):
            item.setdefault("margin", 0.3)
    return given
