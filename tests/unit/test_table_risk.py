"""The released columns: k-anonymity over patients is made, claimed, measured again; changes are counted."""

from __future__ import annotations

import copy
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_tables import CONFIG, MODELS, Spec, write_private, write_release

from deidlib.columns.generalise import class_of
from deidlib.columns.protect import claimed_k, k_problems, measured_k, protect
from deidlib.columns.table_risk import outcomes_risk, table_risk
from deidlib.outcomes.outcomes import read_outcomes
from deidlib.release import ReleaseError, verify_release


def config(k: int = 5, **release) -> dict:
    cfg = copy.deepcopy(CONFIG)
    cfg["release"] |= {"k": k, **release}
    return cfg


def index(patients, ages, sexes, **further) -> pa.Table:
    columns = {"release_patient_id": patients, "route": ["generate"] * len(patients), "age": ages, "sex": sexes}
    columns |= further
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def decade(age: float) -> str:
    return "90+" if age >= 90 else f"{int(age) // 10 * 10}-{int(age) // 10 * 10 + 9}"


def group_sizes(table: pa.Table, names: list[str]) -> Counter:
    """Patients of each record, counted without any of the library's code."""
    cells: dict[str, set] = {}
    for row in table.to_pylist():
        cells.setdefault(row["release_patient_id"], set()).add(tuple(row[name] for name in names))
    records = []
    for sets in cells.values():
        records.append(tuple(frozenset(cell[i] for cell in sets) for i in range(len(names))))
    return Counter(records)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_k_holds_over_patients_whatever_the_cohort(data):
    k = data.draw(st.integers(1, 6))
    people = data.draw(
        st.lists(
            st.tuples(
                st.lists(st.one_of(st.none(), st.floats(0, 125)), min_size=1, max_size=3),
                st.sampled_from(["F", "F", "M", "M", "X", None]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    rows = [
        (f"p{number:03d}", None if age is None else decade(age), sex)
        for number, (ages, sex) in enumerate(people)
        for age in ages
    ]
    before = index(*zip(*rows, strict=True))
    after = protect(before, config(k)).index
    empty = all(after[name].null_count == len(after) for name in ("age", "sex"))
    sizes = group_sizes(after, ["age", "sex"])
    assert empty or min(sizes.values()) >= k
    assert claimed_k(after) == k
    assert not k_problems(after)
    assert measured_k(after) is None if empty else measured_k(after) == min(sizes.values())
    assert after["release_patient_id"].equals(before["release_patient_id"])
    if not empty and k > 1:
        assert min(sizes.values()) <= len(people)


def test_photographs_of_one_patient_do_not_hide_him():
    table = index(["a"] * 9 + ["b"], ["30-39"] * 10, ["F"] * 10)
    assert table_risk(protect(table, config(2)).index, config(2))["k"] == 2
    table = index(["a"] * 9 + ["b"], ["30-39"] * 9 + ["60-69"], ["F"] * 10)
    assert table_risk(protect(table, config(1)).index, config(1))["unique_patients"] == 2


def test_classes_widen_before_cells_are_emptied_and_each_change_is_counted():
    ages = ["20-29", "30-39"] * 5 + ["60-69", "70-79"] * 5
    table = index([f"p{i}" for i in range(20)], ages, ["F", "M", "M", "F"] * 5)
    protected = protect(table, config(4))
    result = table_risk(protected.index, config(4))
    assert (result["k"], result["prosecutor_max"]) == (5, 0.2)
    assert result["changes"] == [{"column": "age", "change": "generalised to classes of 20", "cells": 20}]
    assert protected.before == {"k": 2, "unique_patients": 0}


def test_an_outlier_is_suppressed_with_company():
    """One suppressed patient alone would be known by being the only one: k of them have empty cells, or none."""
    table = index([f"p{i}" for i in range(41)], ["30-39"] * 40 + ["90+"], ["F"] * 41)
    after = protect(table, config(3)).index
    assert Counter(after["age"].to_pylist()) in (Counter({"30-39": 38, None: 3}), Counter({None: 41}))
    assert measured_k(after) in (3, 41)


def test_rare_categories_are_merged():
    values = ["caries"] * 20 + ["class II"] * 20 + ["a", "b", "c", "d", "e"]
    table = index([f"p{i}" for i in range(45)], [None] * 45, [None] * 45, finding=values)
    cfg = config(5, quasi_identifiers=["finding"])
    after = protect(table, cfg).index
    assert Counter(after["finding"].to_pylist()) == {"caries": 20, "class II": 20, "other": 5}
    change = table_risk(after, cfg)["changes"]
    assert change == [{"column": "finding", "change": "categories of few patients merged into 'other'", "cells": 5}]
    assert not any(word in str(after.schema.metadata) for word in ("caries", "class"))


def test_ages_from_90_are_one_class_at_every_width():
    assert [class_of(low, 20, age=True) for low in (60, 80, 90)] == ["60-79", "80+", "80+"]
    assert [class_of(84, 7, age=True), class_of(90, 10, age=True)] == ["84+", "90+"]
    assert class_of(-7, 5) == "-10 to -6"


def test_diversity_and_closeness_against_worked_examples():
    """Two classes of four; in one all share a diagnosis: l = 1, and t is the distance 0.5 of (1, 0) from (½, ½)."""
    table = index(
        [f"p{i}" for i in range(8)],
        ["20-29"] * 4 + ["60-69"] * 4,
        ["F"] * 8,
        diagnosis=["a"] * 4 + ["b"] * 4,
    )
    result = table_risk(protect(table, config(4)).index, config(4))
    assert (result["k"], result["l"], result["t"]) == (4, 1, 0.5)
    assert table_risk(protect(table, config(5)).index, config(5))["k"] == 8


def test_an_index_that_breaks_its_claim_is_found():
    table = index([f"p{i}" for i in range(10)], ["30-39"] * 10, ["F", "M"] * 5)
    after = protect(table, config(5)).index
    sexes = pa.array(["X", *after["sex"].to_pylist()[1:]])
    broken = after.set_column(after.schema.get_field_index("sex"), "sex", sexes)
    assert not k_problems(after)
    assert k_problems(broken) == ["claims 5-anonymity over age, sex, but has k = 1"]
    assert k_problems(after.drop_columns(["age"])) == ["declares the quasi-identifier age, which it does not have"]
    assert k_problems(after.replace_schema_metadata(None)) == ["does not say which k-anonymity it keeps"]


def test_a_misspelt_quasi_identifier_is_refused():
    with pytest.raises(ReleaseError, match="quasi_identifiers: agee is no column"):
        protect(index(["a"], ["30-39"], ["F"]), config(2, quasi_identifiers=["agee"]))


@pytest.fixture
def specs():
    rng = np.random.default_rng(3)
    return [
        Spec(f"patient-{i:02d}", f"photo-{i:02d}", age=float(rng.integers(20, 70)), sex="FM"[i % 2]) for i in range(12)
    ]


def test_release_is_written_generalised_and_verifies(tmp_path, specs):
    cfg = config(3)
    shards = write_private(tmp_path / "private", specs)
    folder = write_release(tmp_path / "private", tmp_path / "release", shards, 2, "1.0.0", cfg, MODELS)
    written = pq.read_table(folder / "index.parquet")
    assert verify_release(folder) == []
    assert min(group_sizes(written, ["age", "sex"]).values()) >= 3
    assert claimed_k(written) == 3
    outcomes = read_outcomes(tmp_path / "private", shards[0])
    before = outcomes_risk(outcomes, cfg)
    assert before["k"] == measured_k(written)
    assert before["changes"] == table_risk(written, cfg)["changes"]
    assert written.schema.field("age").metadata[b"description"].decode().count("k-anonymity") == 1


def test_the_journalist_counts_people_who_were_not_released(tmp_path, specs):
    stopped = [
        Spec(f"absent-{i}", f"absent-{i}", age=spec.age, sex=spec.sex, stopped=("intake", "consent_missing"))
        for i, spec in enumerate(specs)
    ]
    shards = write_private(tmp_path, specs + stopped)
    outcomes = read_outcomes(tmp_path, shards[0])
    result = outcomes_risk(outcomes, config(3))
    assert result["patients"] == 12
    assert result["journalist_max"] == pytest.approx(result["prosecutor_max"] / 2, abs=1e-5)


def test_dates_become_days_or_years(tmp_path):
    further = [{"visit": "2021-03-01"}, {"visit": "2021-09-01"}, {"visit": ""}]
    specs = [Spec("one", f"photo-{i}", further=cells) for i, cells in enumerate(further)]
    specs.append(Spec("two", "photo-9", further={"visit": "2019-12-31"}))
    shards = write_private(tmp_path / "private", specs)
    for rule, expected in (("days", {"0", "184", None}), ("year", {"2021", "2019", None})):
        cfg = config(1)
        cfg["release"]["columns"] = {"visit": {"rule": rule}}
        folder = write_release(tmp_path / "private", tmp_path / rule, shards, 2, "1.0.0", cfg, MODELS)
        assert set(pq.read_table(folder / "index.parquet")["visit"].to_pylist()) == expected
    specs[0].further["visit"] = "March 2021"
    write_private(tmp_path / "private", specs)
    with pytest.raises(ReleaseError, match="column visit, sheet row 2: not a date of the form"):
        write_release(tmp_path / "private", tmp_path / "again", shards, 2, "1.0.0", cfg, MODELS)


def test_without_quasi_identifiers_no_k_is_judged_or_claimed(tmp_path, specs):
    cfg = config(3, quasi_identifiers=[])
    shards = write_private(tmp_path / "private", specs)
    folder = write_release(tmp_path / "private", tmp_path / "release", shards, 2, "1.0.0", cfg, MODELS)
    written = pq.read_table(folder / "index.parquet")
    assert verify_release(folder) == []
    assert (claimed_k(written), measured_k(written)) == (None, None)
    risk = outcomes_risk(read_outcomes(tmp_path / "private", shards[0]), cfg)
    judged = ("k", "k_required", "l", "t", "unique_patients", "prosecutor_max", "prosecutor_mean", "journalist_max")
    assert {name: risk[name] for name in judged} == dict.fromkeys(judged)
    assert risk["before"] == {"k": None, "unique_patients": None}
    assert "not judged" in risk["note"]
    card = (folder / "README.md").read_text()
    assert "k_anonymity: null" in card
    assert "none is claimed" in card
    for name in ("README.md", "datasheet.md", "croissant.json"):
        assert not re.search(r"\d-anonymity", (folder / name).read_text())


def test_what_the_faces_still_show_is_named_and_counted():
    """Of 12 patients one is a man: the table empties cells for his sake, and his face is a man's."""
    people = [f"p{i:02d}" for i in range(12)]
    table = index(people, [None] * 12, ["M"] + ["F"] * 11)
    protected = protect(table, config(3))
    assert measured_k(protected.index) in (None, 3)
    shown = protected.shown
    assert "M" in shown["columns"][0]["classes"]
    assert (shown["columns"][0]["column"], shown["k"], shown["unique_patients"]) == ("sex", 1, 1)
    risk = table_risk(protected.index, config(3), shown=shown)
    assert risk["shown_by_faces"]["prosecutor_max"] == 1.0
    assert "still visible in the face" in risk["note"]
    no_faces = table.set_column(1, "route", pa.array(["region_only"] * 12))
    assert protect(no_faces, config(3)).shown is None
    other = index(people, [None] * 12, ["X"] + ["F"] * 11)
    seen = protect(other, config(3)).shown
    assert seen is None or "X" not in str(seen), "no face is drawn for it, so none shows it"
    assert protect(index(people, [None] * 12, ["F"] * 12), config(3)).shown is None


def test_the_release_says_what_the_faces_show(tmp_path, specs):
    specs = [*specs, Spec("patient-x", "photo-x", age=35.0, sex="M"), Spec("patient-y", "photo-y", age=88.0, sex="F")]
    cfg = config(4)
    shards = write_private(tmp_path / "private", specs)
    folder = write_release(tmp_path / "private", tmp_path / "release", shards, 2, "1.0.0", cfg, MODELS)
    assert verify_release(folder) == []
    for name in ("README.md", "datasheet.md", "croissant.json"):
        assert "still visible in the face" in (folder / name).read_text()
