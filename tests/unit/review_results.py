"""A results folder to review: drawn photographs, as the stages leave them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from shard_tables import BOUNDS, CONFIG, Spec, write_private

SIDE = 240  # px
HOSTILE = "<img src=x onerror=alert(1)>\"'&/../"


def specs() -> list[Spec]:
    """Two patients of two photographs, one of them with a hostile id; one held back by the checks, one by intake."""
    found = [
        Spec("P1", "a"),
        Spec("P1", "b", timepoint="T1"),
        Spec(HOSTILE, f"{HOSTILE}1", timepoint='<b>T"0</b>'),
        Spec(HOSTILE, f"{HOSTILE}2", checks=({"seam": 1.8},)),
        Spec("P3", "a", checks=({"failed": ["seam"], "seam": 5.0}, {"failed": ["realism"], "realism": -9.0})),
        Spec("P4", "a", stopped=("intake", "consent_missing")),
    ]
    return [replace(spec, side=SIDE) for spec in found]


def write_results(folder: Path, photographs: list[Spec] | None = None, **settings) -> Path:
    """Write ``private/`` and what a run says of itself; returns the results folder."""
    shards = write_private(folder / "private", photographs or specs())
    (folder / "private" / "plan.json").write_text(
        json.dumps({"shards": shards, "n_photos": len(photographs or specs())})
    )
    told = {name: CONFIG[name] for name in ("attempts", "identity")} | {"checks": BOUNDS, "reviewers": 1} | settings
    (folder / ".lock").write_text(json.dumps(told))
    return folder
