"""Outcomes as later stages read them: whole, or with the parts of the checks that a stage needs."""

from __future__ import annotations

import dataclasses

from shard_tables import CONFIG, Spec, write_private

from deidlib.outcomes.outcomes import all_outcomes, of_check, of_tries
from deidlib.outcomes.selection import NEEDED, selection

SPECS = [
    Spec("P", "one", checks=({"sface_cosine": 0.4, "failed": ["sface_cosine"]}, {"sface_cosine": 0.1})),
    Spec("Q", "two", checks=({"failed": ["seam"]}, {"failed": ["seam"]})),
    Spec("R", "three", stopped=("intake", "file_missing")),
]


def test_parts_of_the_checks_are_those_of_the_whole(tmp_path):
    shards = write_private(tmp_path, SPECS)
    whole = [*all_outcomes(tmp_path, shards)]
    some = [*all_outcomes(tmp_path, shards, (*of_check("seam"), *of_tries("failed", "attempt")))]
    none = [*all_outcomes(tmp_path, shards, ())]
    for outcome, part, bare in zip(whole, some, none, strict=True):
        tries = tuple({name: row[name] for name in ("attempt", "failed")} for row in outcome.tries)
        check = outcome.check and {"seam": outcome.check["seam"]}
        assert part == dataclasses.replace(outcome, check=check, tries=tries)
        assert bare == dataclasses.replace(outcome, check=None, tries=())


def test_selection_needs_no_more_than_it_names(tmp_path):
    shards = write_private(tmp_path, SPECS)
    found = selection(all_outcomes(tmp_path, shards, NEEDED), CONFIG["checks"])
    assert found == selection(all_outcomes(tmp_path, shards), CONFIG["checks"])
    assert (found["photographs"], found["passed_first"], found["made_again"], found["against_judge"]) == (2, 0, 2, 1)
