"""The attack suite in the audit: its gate decides, its numbers are shown, and what is missing is said to be."""

from __future__ import annotations

import copy
import json
import re
from html import unescape

import pytest
from shard_tables import CONFIG, MODELS, write_private
from test_report import SPECS, SUITE, Page, run, verdicts

from deidlib.release import ReleaseError
from deidlib.report import attacks
from deidlib.report.page import build_audit
from deidlib.storage.reasons import REASONS

KNOWN = ("whole", "region_only", "context_only")


def attack(name: str, recogniser: str | None, hits: int, trials: int, **more) -> dict:
    rate = hits / trials if trials else None
    entry = {"name": name, "title": f"Title of {name}", "recogniser": recogniser, "region": "whole", "rate": rate}
    entry |= {"hits": hits, "trials": trials, "chance": 0.001, "ci95": [0.0, 0.25], "threshold": 0.363, "fmr": 0.001}
    return entry | {"intended": False, "explanation": f"How {name} was done."} | more


def scores(recogniser: str, kind: str, bins: list) -> dict:
    ends = {"min": bins[0][0], "median": bins[0][0], "max": bins[-1][0]}
    return {"recogniser": recogniser, "kind": kind, "n": sum(n for _, n in bins), "width": 0.02, "bins": bins} | ends


COMPARED = {
    "attack": "verification_same_photo", "recogniser": "one", "photographs": 3, "patients": 3, "whole": 1, "area": 2,
    "look": 1, "look_expected": 0.6, "p_area": 0.9, "p_look": 0.4, "p_adjusted": 0.9,
}  # fmt: skip

#: Made-up results in the form of ``attacks.json``: input to render, nothing that was measured.
FULL = {
    "gate": {
        "passed": True,
        "criteria": [
            {"name": "verified", "statement": "Nobody verified", "value": 0, "bound": 0, "n": 3, "passed": True},
            {"name": "stated", "statement": "Stated only", "value": 0.3, "bound": None, "n": 3, "passed": None}
            | {"verdict": "not judged", "note": "Three are few."},
            {"name": "found", "statement": "Found no more", "value": 0, "bound": 0, "n": 3, "passed": True}
            | {"verdict": "passed", "comparisons": [COMPARED]},
        ],
    },
    "recognisers": [
        {"name": "one", "title": "Judge One", "role": "judge", "measure": "distance", "same_above": False},
        {
            "name": "sface",
            "title": "SFace",
            "role": "identity_loss",
            "measure": "cosine similarity",
            "same_above": True,
        },
    ],
    "calibration": [
        {"recogniser": "sface", "source": "cohort", "fmr": 0.001, "threshold": 0.35, "impostor_pairs": 90}
        | {"genuine_pairs": 4, "fnmr": 0.2, "det": [[0.0005, 0.5], [0.001, 0.2], [0.05, 0.1], [1.0, 0.0]]},
        {"recogniser": "one", "source": "published", "fmr": None, "threshold": 0.6},
    ],
    "attacks": [
        attack("verification_same_photo", "sface", 0, 3),
        attack("verification_same_photo", "one", 1, 3, region="region_only"),
        attack("linkage_same_patient", "sface", 2, 2, intended=True),
        attack("reversal", None, 0, 0, chance=None, threshold=None, fmr=None),
    ],
    "scores": [
        scores("sface", "impostor", [[-0.1, 3], [0.0, 8], [0.12, 1]]),
        scores("sface", "released_same_photo", [[0.1, 2], [0.3, 1]]),
        scores("one", "genuine", [[0.4, 2]]),
    ],
    "ranks": [
        {"recogniser": "sface", "region": region, "gallery": 50, "probes": 3}
        | {"cmc": [[1, 0.0], [10, 1 / 3], [50, 1.0]], "chance": [[1, 0.02], [10, 0.2], [50, 1.0]]}
        for region in KNOWN
    ],
    "tradeoff": [
        {
            "preserve": area,
            "identity_weight": 1.0,
            "preserved_share": share,
            "recogniser": "sface",
            "rate": 0.0,
            "hits": 0,
        }
        | {"trials": 3, "ci95": [0.0, 0.7], "mean_score": 0.1, "operating_point": area == "mouth"}
        for area, share in (("teeth", 0.01), ("mouth", 0.02), ("lower_face", 0.2))
    ],
    "price": [
        {"preserve": area, "recogniser": "sface", "region": region, "own": area == "mouth", "chance": 1 / 3}
        | {kind: {"hits": 1, "trials": 3, "ci95": [0.01, 0.9]} for kind in ("rank1", "verified")}
        for area in ("teeth", "mouth")
        for region in KNOWN
    ],
    "table_risk": {"quasi_identifiers": ["age", "sex"], "k": 2, "k_required": 5, "unique_patients": 0, "patients": 3}
    | {"prosecutor_max": 0.5, "changes": [{"column": "age", "change": "generalised", "cells": 3}]},
    "seeds": {"bootstrap": 2307},
    "inputs": {"bank": "ab" * 32},
    "words": ["Three patients show next to nothing."],
}
PARTS = [name for name in FULL if name != "gate"]


def failing() -> dict:
    suite = copy.deepcopy(FULL)
    suite["gate"]["passed"] = False
    suite["gate"]["criteria"][0] |= {"value": 2, "passed": False, "note": "Recogniser One found two."}
    return suite


def withheld(folder, suite: dict) -> tuple[dict, str]:
    """The audit of a cohort that passed every check on single photographs, where the release was not written."""
    shards = write_private(folder / "private", SPECS)
    (folder / "attacks.json").write_text(json.dumps(suite))
    return build_audit(folder / "private", None, shards, 2, "1.0.0", CONFIG, MODELS, folder / "attacks.json")


def test_audit_takes_over_every_part_and_shows_its_numbers(tmp_path):
    audit, html = run(tmp_path, suite=FULL)
    assert audit["gate"]["passed"] is True
    for part in set(PARTS) - {"seeds"}:
        assert audit[part] == FULL[part], part
    assert audit["seeds"]["bootstrap"] == 2307
    page = Page(html)
    labels = [figure["aria-label"] for figure in page.all("svg")]
    for title in (
        "Success of the attacks: finding",
        "Error trade-off",
        "Scores of SFace",
        "Rank curves",
    ):
        assert [label for label in labels if label.startswith(title)], title
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    for shown in (
        "Title of verification_same_photo How verification_same_photo was done.",
        "Judge One – 1 of 3 (0 to 25 %) – under 1",
        "intended by the release",
        "no photograph or patient of this cohort allows it: Title of reversal.",
        "Three patients show next to nothing.",
        "2 (required: 5)",
    ):
        assert shown in text, shown


def test_a_criterion_without_a_bound_is_not_judged(tmp_path):
    audit, _ = run(tmp_path, suite=FULL)
    assert verdicts(audit)["verified"] == "pass"
    assert verdicts(audit)["stated"] == "not judged"


def test_what_too_few_patients_allow_is_named_in_the_first_box_and_is_no_pass(tmp_path):
    suite = copy.deepcopy(FULL)
    suite["gate"]["criteria"][1]["small"] = True
    audit, html = run(tmp_path, suite=suite)
    assert (audit["conclusion"]["verdict"], audit["conclusion"]["passed"]) == ("not judged", None)
    box = html[html.index('class="verdict') : html.index("<dl")]
    assert "Stated only" in box
    assert "Not judged in full: too few patients. Your judgement is needed" in box
    assert "Passed the automatic checks" not in html
    suite["gate"]["passed"] = False  # the configuration withholds it
    audit, _ = withheld(tmp_path / "withheld", suite)
    assert audit["conclusion"]["verdict"] == "failed"


def test_comparisons_and_prices_are_shown_in_words(tmp_path):
    _, html = run(tmp_path, suite=FULL)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "Title of verification_same_photo Judge One 1 of 3 2 1 (about 1) 0.90 ✓ pass" in text
    assert "Mouth (this release): first SFace 1 of 3 (1 to 90 %)" in text


def test_a_failed_gate_fails_the_audit_of_a_release_that_is_there(tmp_path):
    audit, html = run(tmp_path, suite=failing())
    assert audit["gate"]["passed"] is False
    assert "Do not share this release" in html


def test_a_failed_gate_without_a_release_says_what_failed_and_shows_no_image(tmp_path):
    audit, html = withheld(tmp_path, failing())
    assert audit["gate"]["passed"] is False
    assert (audit["cohort"]["passed"], audit["cohort"]["released"]) == (3, 0)
    assert [name for name, verdict in verdicts(audit).items() if verdict == "fail"] == ["verified"]
    assert "Nothing was released: 3 photographs" in html
    assert html.count("Recogniser One found two.") == 2  # in the summary and in the table of criteria
    assert "<img" not in html
    Page(html)


@pytest.mark.parametrize("criteria", ["as they are", "none"])
def test_a_gate_that_says_failed_fails_whatever_its_criteria_say(tmp_path, criteria):
    suite = copy.deepcopy(FULL)
    suite["gate"]["passed"] = False
    if criteria == "none":
        suite["gate"]["criteria"] = []
    audit, _ = run(tmp_path, suite=suite)
    assert audit["gate"]["passed"] is False
    assert verdicts(audit)["attack_suite"] == "fail"


def test_a_release_that_was_not_attacked_fails(tmp_path):
    audit, html = run(tmp_path, suite=None)
    assert audit["gate"]["passed"] is False
    assert verdicts(audit)["attack_suite"] == "fail"
    assert "The attack suite did not run." in html


@pytest.mark.parametrize(
    ("missing", "how"), [*((part, "absent") for part in PARTS), ("all", "absent"), ("all", "empty")]
)
def test_page_is_whole_where_parts_of_the_suite_are_missing(tmp_path, missing, how):
    suite = copy.deepcopy(FULL)
    for part in PARTS if missing == "all" else [missing]:
        if how == "empty":
            suite[part] = type(suite[part])()
        else:
            del suite[part]
    shards = write_private(tmp_path, SPECS[:1])
    (tmp_path / "attacks.json").write_text(json.dumps(suite))
    _, html = build_audit(tmp_path, None, shards, 2, "1.0.0", CONFIG, MODELS, tmp_path / "attacks.json")
    Page(html)
    assert ("Not measured." in html) == (missing in ("table_risk", "all"))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"gate": {}}', '{"gate": {"criteria": []}, "ranks": {"a": 1}}'])
def test_an_unusable_file_is_an_error_with_a_mend(tmp_path, text):
    path = tmp_path / "attacks.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReleaseError, match=r"attacks\.json .*(run|delete)") as error:
        attacks.read_attacks(path)
    assert str(tmp_path) not in str(error.value)


def test_what_is_no_number_becomes_null(tmp_path):
    suite = SUITE | {"calibration": [{"recogniser": "sface", "fnmr": float("nan"), "threshold": float("inf")}]}
    (tmp_path / "attacks.json").write_text(json.dumps(suite))
    (entry,) = attacks.read_attacks(tmp_path / "attacks.json")["calibration"]
    assert (entry["fnmr"], entry["threshold"]) == (None, None)


def test_attacks_without_a_trial_are_named_once_and_tried_ones_by_recogniser():
    rows = [attack("a", "sface", 0, 0), attack("a", "one", 1, 3), attack("b", "sface", 0, 0), attack("b", "one", 0, 0)]
    assert attacks.untried(FULL | {"attacks": rows}) == ["Title of a (SFace)", "Title of b"]
    (group,) = attacks.grouped(FULL | {"attacks": rows})
    assert [row["by"] for row in group["rows"]] == ["Judge One"]


def test_attacks_without_a_recogniser_that_share_an_explanation_are_one_group():
    rows = [
        attack(f"soft_{name}", None, hits, 3, title=f"Soft biometrics, {name}: rank 1", explanation="How.")
        for name, hits in (("skin", 1), ("tone", 2))
    ]
    (group,) = attacks.grouped(FULL | {"attacks": rows})
    assert group["title"] == "Soft biometrics: rank 1"
    assert [(row["by"], row["seen"]["whole"]["hits"]) for row in group["rows"]] == [("skin", 1), ("tone", 2)]


def test_what_is_said_of_every_attack_of_a_name_is_said_once():
    said = "{} compares faces. A hit is a match. Chance is {}."
    rows = [
        attack("a", "sface", 0, 3, explanation=said.format("SFace", "1 of 9")),
        attack("a", "one", 0, 3, explanation=said.format("Judge One", "0 of 9")),
        attack("b", "one", 0, 3, explanation=said.format("Judge One", "0 of 9") + " B is new."),
        attack("b", "sface", 0, 3, explanation=said.format("SFace", "1 of 9") + " B is new."),
    ]
    first, second = attacks.grouped(FULL | {"attacks": rows})
    assert first["explanation"] == "The recogniser compares faces. A hit is a match."
    assert [row["remark"] for row in first["rows"]] == ["Chance is 1 of 9.", "Chance is 0 of 9."]
    assert second["explanation"] == "The recogniser compares faces. A hit is a match. B is new."
    assert [row["remark"] for row in second["rows"]] == ["", ""]


def test_every_reason_of_quarantine_is_explained_in_the_flow(tmp_path):
    audit, html = run(tmp_path)
    flow = {row["step"]: (row["entering"], row["held_back"]) for row in audit["cohort"]["flow"]}
    assert flow == {
        "intake": (6, {"consent_missing": 1}),
        "face": (5, {"several_faces": 1}),
        "gate": (4, {"gate_failed": 1}),
    }
    for reason in ("consent_missing", "several_faces", "gate_failed"):
        assert REASONS[reason].text in unescape(html)
