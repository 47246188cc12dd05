"""Redacts a run's settings (paths and keys removed) and models for publication."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from deidlib.config import AUDIT_ONLY
from deidlib.contract.routes import GENERATE

_PRIVATE_KEYS = re.compile(r"^cohort$|(^|_)(results|key|file|folder|path|dir|sheet|gallery)$")
_LIKE_A_PATH = re.compile(r"^(~|\.{0,2}/|[A-Za-z]:[\\/]|\\\\)|\.(tsv|csv|key|parquet|ya?ml|png|jpe?g)$")


def public_config(config: Mapping) -> dict:
    """Keep the settings that a reader needs: no path, no key file, no column that is not released.

    Left out: ``cohort``, ``results``, ``key_file``, every key that names a file or folder, every text that
    is a path, the rules of dropped columns (except view and timepoint, which would otherwise be released), and what the
    block ``study`` states for the audit alone.
    """
    public = _without_paths(config)
    for name in AUDIT_ONLY:
        public.get("study", {}).pop(name, None)
    rules = public.get("release", {}).get("columns")
    if rules:
        public["release"]["columns"] = {
            name: rule
            for name, rule in rules.items()
            if name in ("view", "timepoint") or (rule.get("rule") if isinstance(rule, dict) else rule) != "drop"
        }
    return public


def _without_paths(value):
    if not isinstance(value, Mapping):
        return [_without_paths(v) for v in value] if isinstance(value, list) else value
    return {
        key: _without_paths(item)
        for key, item in value.items()
        if not _PRIVATE_KEYS.search(key) and not (isinstance(item, str) and _LIKE_A_PATH.search(item))
    }


def config_digest(config: Mapping) -> str:
    """SHA-256 of the public settings as canonical JSON: two runs with one digest used the same settings."""
    text = json.dumps(public_config(config), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def flat_config(config: Mapping) -> list[tuple[str, str]]:
    """List the public settings as (dotted key, value as JSON), sorted by key."""
    rows: list[tuple[str, str]] = []

    def walk(prefix: str, value) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else key, item)
        else:
            rows.append((prefix, json.dumps(value, ensure_ascii=False)))

    walk("", public_config(config))
    return sorted(rows)


def public_models(models: list[dict], with_faces: bool = True, attacked: bool = False) -> list[dict]:
    """Keep what is published of each model: origin, checksums, training data, licence, citation, use; sorted by name.

    ``models`` are entries with their ``name`` (:func:`deidlib.models.used_models`); checksums come from ``sha256s`` or
    from ``members`` (path in the wheel: SHA-256). Where no photograph has a generated face (``with_faces`` is false),
    the models that only such photographs meet are left out, but for those that the attacks use, if it is ``attacked``.
    """
    rows = []
    for entry in models:
        used = with_faces or entry.get("routes") != GENERATE or (attacked and entry.get("attacks"))
        if not used:
            continue
        sums = entry.get("sha256s") or entry.get("members") or {}
        if not isinstance(sums, Mapping):
            sums = {
                f"file {number}": digest for number, digest in enumerate([sums] if isinstance(sums, str) else sums, 1)
            }
        row = {key: str(entry.get(key) or "") for key in ("name", "task", "package", "version", "url")}
        texts = ("licence", "citation", "use", "trained_on")
        row |= {key: " ".join(str(entry.get(key) or "").split()) for key in texts}
        row["files"] = [{"file": name.rsplit("/", 1)[-1], "sha256": str(sums[name])} for name in sorted(sums)]
        rows.append(row)
    return sorted(rows, key=lambda row: row["name"])
