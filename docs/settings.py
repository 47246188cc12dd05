"""Make the tables of settings in config/README.md from the schemas and the presets.

.venv/bin/python docs/settings.py            writes them
.venv/bin/python docs/settings.py --check    ends with 1 where they are not current

A table stands between `<!-- settings BLOCK -->` and `<!-- end -->`; without BLOCK it has the keys that are in no block.
The table of `<!-- preset -->` has all keys of a preset.
"""

import json
import re
import sys
from pathlib import Path

from deidlib.config import complete_config
from deidlib.schema import load_schema

README = Path(__file__).resolve().parents[1] / "config" / "README.md"
_TABLE = re.compile(r"<!-- (settings|preset) ?(\w*) -->\n.*?<!-- end -->", re.S)


def with_tables(text: str) -> str:
    """The README with its tables written again."""

    def table(found: re.Match) -> str:
        rows = _preset() if found[1] == "preset" else _settings(found[2])
        return "\n".join([found[0].splitlines()[0], "", *rows, "", "<!-- end -->"])

    return _TABLE.sub(table, text)


def _settings(block: str) -> list[str]:
    rules = load_schema("config")["properties"]
    rules = rules[block]["properties"] if block else rules
    keys = {name: rule for name, rule in rules.items() if "properties" not in rule}
    rows = [_row(f"{block}.{name}" if block else name, rule.get("default"), rule) for name, rule in keys.items()]
    return ["| key | default | meaning |", "|---|---|---|", *rows]


def _preset() -> list[str]:
    preset = complete_config({"cohort": "samples.tsv"})["preset"]
    rows = [f"| key | value in `{preset['name']}` | meaning |", "|---|---|---|"]
    for name, rule in load_schema("preset")["properties"].items():
        inner = rule.get("properties", {})
        rows += [_row(f"{name}.{key}", preset[name][key], of_key) for key, of_key in inner.items()]
        rows += [] if inner else [_row(name, preset[name], rule)]
    return rows


def _row(key: str, value, rule: dict) -> str:
    return f"| `{key}` | {_shown(value)} | {rule['description'].strip()} |"


def _shown(value) -> str:
    """A value as one writes it in YAML; nothing is a dash."""
    if value is None or value == "":
        return "–"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value).replace(chr(34), '')}`"


if __name__ == "__main__":
    before = README.read_text(encoding="utf-8")
    after = with_tables(before)
    if sys.argv[1:] == ["--check"]:
        if after != before:
            sys.exit("config/README.md: the tables of settings are not those of the schemas; run `make tables`")
    else:
        README.write_text(after, encoding="utf-8")
