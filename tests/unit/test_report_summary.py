"""The audit's summary for the board, the study that it states, and the results by groups of patients."""

from __future__ import annotations

import copy
import dataclasses
import json
import re

import numpy as np
import pytest
from shard_tables import CONFIG, MODELS, Spec, outcomes_of, pseudonym, verdict_on, write_private
from test_report import FAILS, SPECS, SUITE, Page, run
from test_report_attacks import FULL, failing, withheld
from test_report_files import inflated

from deidlib.errors import ReleaseError
from deidlib.outcomes.outcomes import all_outcomes
from deidlib.pages.pdf import to_pdf
from deidlib.pages.tables import label_cells
from deidlib.reid.by_group import looks_of_people, verified_photos
from deidlib.reid.calibration import calibrate
from deidlib.reid.embeddings import Faces
from deidlib.reid.face_attacks import Attacker
from deidlib.reid.looks import PeopleLooks
from deidlib.release import decide, redact, write_release
from deidlib.release.study import refuse_patients, study_fields
from deidlib.report.groups import group_results, member
from deidlib.report.page import summary_page
from deidlib.report.summary import summarise
from deidlib.schema import load_schema

STUDY = {
    "institution": "Clinic of Example Town",
    "protocol": "EK 77 of the board of Example Town",
    "consent": "I agree that my photographs are shared for research",
    "key_custodian": "Keeper of Keys, safe 3",
    "responsible": "Professor Example",
    "data_use_terms": "No attempt to identify a person",
}


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def box(html: str) -> str:
    return text_of(html[html.index('class="verdict') : html.index("</div>", html.index('class="verdict'))])


# ---- the verdict ----


def test_a_pass_asks_for_judgement_and_gives_the_recommendation(tmp_path):
    audit, _ = run(tmp_path)
    page = summary_page(audit)
    assert "Passed the automatic checks; your judgement is still needed" in box(page)
    assert "pseudonymised health data" in box(page)
    assert "No person looked" in box(page)
    Page(page)


def test_the_first_box_counts_every_verdict_and_names_what_was_not_judged(tmp_path):
    suite = copy.deepcopy(FULL)
    suite["gate"]["criteria"][1]["small"] = True
    audit, _ = run(tmp_path, suite=suite)
    counts = audit["summary"]["counts"]
    verdicts = [row["verdict"] for row in audit["gate"]["criteria"]]
    assert counts == {name: verdicts.count(name) for name in counts}
    assert sum(counts.values()) == len(verdicts)
    assert [row["statement"] for row in audit["summary"]["not_judged"]] == ["Stated only"]
    page = summary_page(audit)
    assert "Not judged in full: too few patients" in box(page)
    assert "Not judged, because 2 patients are too few Stated only." in text_of(page)


def test_a_criterion_that_was_not_asked_for_is_no_part_of_a_pass(tmp_path):
    audit, _ = run(tmp_path, suite=FULL)
    assert audit["gate"]["passed"] is True
    assert "Passed the automatic checks that were judged" in box(summary_page(audit))


@pytest.mark.parametrize("written", [True, False])
def test_a_failure_says_so_first_and_recommends_nothing_else(tmp_path, written):
    audit, _ = run(tmp_path, suite=failing()) if written else withheld(tmp_path, failing())
    shown = box(summary_page(audit))
    assert ("Failed: do not share this release" if written else "Failed: nothing was released") in shown
    assert "pseudonymised" not in shown
    assert "Recogniser One found two." in text_of(summary_page(audit))


def test_a_review_that_is_not_complete_is_no_failure_of_the_release():
    row = {"name": "reviewed", "statement": "Reviewers decided", "note": "", "small": False, "group": "release"}
    audit = {"gate": {"verdict": "failed", "criteria": [row | {"verdict": "failed"}]}, "release": {"written": False}}
    audit |= {"attacks": [], "recognisers": []}
    assert summarise(audit)["headline"] == "Not released yet: photographs wait for a reviewer"
    audit["gate"]["criteria"].append(row | {"name": "other", "verdict": "failed"})
    assert summarise(audit)["headline"] == "Failed: nothing was released"


def test_the_independent_recogniser_comes_first_and_what_was_not_tried_is_no_zero(tmp_path):
    suite = copy.deepcopy(FULL)
    suite["attacks"] = [
        {**suite["attacks"][0], "recogniser": name, "hits": hits, "trials": trials, "ci95": [0.0, 0.5]}
        for name, hits, trials in (("sface", 0, 3), ("one", 2, 3))
    ]
    audit, _ = run(tmp_path, suite=suite)
    assert [row["by"] for row in audit["summary"]["found"]] == ["Judge One", "SFace"]
    assert "Judge One independent of the making 2 of 3 (0 to 50" in text_of(summary_page(audit))
    assert audit["summary"]["found"][0]["first"] is None
    assert "not tried" in summary_page(audit)


def test_the_summary_keeps_to_three_pages_whatever_the_study_says(tmp_path):
    rules = load_schema("config")["properties"]["study"]["properties"]
    config = with_study(**{name: ("word " * 200)[: rule["maxLength"]] for name, rule in rules.items()})
    suite = failing()
    suite["gate"]["criteria"] += [
        {**suite["gate"]["criteria"][0], "name": f"more-{n}", "note": "What was found, in words. " * 8}
        for n in range(9)
    ]
    audit, _ = run(tmp_path, suite=suite, config=config)
    pages = re.findall(rb"/Type /Page\b", inflated(to_pdf(summary_page(audit))))
    assert 2 <= len(pages) <= 3


def test_an_audit_opens_with_the_same_summary(tmp_path):
    audit, html = run(tmp_path)
    own = summary_page(audit)
    start, end = own.index('<div class="verdict'), own.index("What it is")
    assert own[start:end] in html


# ---- the study ----


def with_study(**fields) -> dict:
    config = copy.deepcopy(CONFIG)
    config["study"] = STUDY | fields
    return config


def test_summary_states_the_study_and_leaves_a_line_for_what_is_missing(tmp_path):
    audit, _ = run(tmp_path, config=with_study())
    page = summary_page(audit)
    for text in STUDY.values():
        assert text in page
    blank = [cell for cell in Page(page).all("td") if cell.get("class") == "blank"]
    assert len(blank) == 10 - len(STUDY)


def test_a_release_prints_the_study_and_names_no_person_of_the_institution(tmp_path):
    run(tmp_path, config=with_study())
    folder = tmp_path / "release" / "1.0.0"
    contents = {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".md", ".json")}
    for name, text in STUDY.items():
        found = [file for file, content in contents.items() if text in content]
        assert (found == []) == (name in ("key_custodian", "responsible")), name
    assert "EK 77 of the board of Example Town" in contents["datasheet.md"]
    assert "No attempt to identify a person" in contents["README.md"]


def test_what_the_audit_alone_states_changes_nothing_that_is_published():
    one, other = with_study(), with_study(responsible="Somebody else")
    assert redact.public_config(one) == redact.public_config(other)
    assert redact.config_digest(one) != redact.config_digest(with_study(funder="A foundation"))
    assert study_fields({"study": {"funder": " A \n foundation", "contact": ""}}) == {"funder": "A foundation"}
    assert study_fields({}) == {}


def test_published_settings_hold_every_choice_and_no_path():
    config = with_study() | {"cohort": "a.tsv", "key_file": "k", "results": "r", "reid": {"small_cohort": "hold"}}
    public = redact.public_config(config)
    assert public["reid"] == {"small_cohort": "hold"}
    assert not {"cohort", "key_file", "results"} & set(public)
    other = config | {"reid": {"small_cohort": "release"}}
    assert redact.config_digest(config) != redact.config_digest(other)


@pytest.mark.parametrize(
    "text",
    ["see patient-one", "PATIENT ONE agreed", "as for photo-four", "for Q. Doe-Example of ward nine", "class III only"],
)
def test_a_text_of_the_study_with_an_id_or_a_patients_cell_is_refused(tmp_path, text):
    specs = [
        *SPECS,
        Spec("patient-nine", "photo-nine", further={"name": "Doe Example"}, diagnosis="class III"),
    ]
    shards = write_private(tmp_path, specs)
    with pytest.raises(ReleaseError, match=r"study\.consent") as error:
        refuse_patients(with_study(consent=text), all_outcomes(tmp_path, shards))
    assert text not in str(error.value)
    refuse_patients(with_study(consent="for patients of this clinic"), all_outcomes(tmp_path, shards))


def test_no_release_and_no_report_is_written_with_such_a_text(tmp_path):
    with pytest.raises(ReleaseError, match=r"study\.funder"):
        run(tmp_path, config=with_study(funder="patient-two"))
    assert not (tmp_path / "release" / "1.0.0").exists()


def test_data_card_names_what_was_not_judged(tmp_path):
    shards = write_private(tmp_path / "private", SPECS)
    found = outcomes_of(tmp_path / "private", shards, 2, CONFIG)
    verdict = verdict_on(found)
    too_small = {"name": "few", "statement": "Stated only", "passed": None, "verdict": "not judged", "small": True}
    verdict["gate"] |= {"criteria": [*verdict["gate"]["criteria"], too_small], "small_cohort": "release_with_notice"}
    cards = []
    for version, given in (("1.0.0", verdict), ("1.0.1", verdict_on(found))):
        decide(tmp_path / "private", shards, given)
        folder = write_release(tmp_path / "private", tmp_path / "release", shards, version, CONFIG, MODELS)
        cards.append((folder / "README.md").read_text())
    assert ["Not judged in full" in card for card in cards] == [True, False]
    assert "- Stated only." in cards[0]


# ---- groups ----


def people(*specs: Spec, tones: dict) -> dict:
    looks = [
        {"release_patient_id": pseudonym("patient", name), "female": True, "age": 30, "tone": tone}
        for name, tone in tones.items()
    ]
    drawn = [pseudonym("photo", spec.patient, spec.photo) for spec in specs]
    return {"people": looks, "verified": [{"recogniser": "one", "verified": drawn[:2], "untried": drawn[-1:]}]}


def test_groups_are_counted_and_small_ones_join_their_neighbours(tmp_path):
    ages = [21] * 5 + [35] * 2 + [48] * 3 + [67] * 6
    specs = [
        Spec(f"p{n}", f"photo-{n}", age=age, sex="F" if n % 2 else "M", checks=(FAILS, {}) if n == 3 else ({},))
        for n, age in enumerate(ages)
    ]
    shards = write_private(tmp_path, specs)
    suite = people(*specs, tones={f"p{n}": 4 if n < 8 else 1 for n in range(16)})
    found = {row["trait"]: row for row in group_results(map(member, all_outcomes(tmp_path, shards)), suite)}
    age = {group["name"]: group for group in found["age"]["groups"]}
    assert {name: group["patients"] for name, group in age.items()} == {
        "20 to 29 years": 5,
        "30 to 49 years": 5,
        "60 to 69 years": 6,
    }
    young, old = age["20 to 29 years"], age["60 to 69 years"]
    assert (young["released"], young["passed_first"], young["new_faces"]) == (5, 4, 5)
    assert young["verified"] == {"one": {"hits": 2, "trials": 5}}
    assert old["verified"] == {"one": {"hits": 0, "trials": 5}}
    assert [group["name"] for group in found["tone"]["groups"]] == ["brown", "light"]
    assert (found["age"]["source"], found["tone"]["source"]) == ("recorded", "measured")
    assert sum(group["photographs"] for group in found["sex"]["groups"]) == 16


def test_too_few_patients_give_no_groups_and_the_page_says_so(tmp_path):
    audit, html = run(tmp_path)
    assert all(row["groups"] == [] for row in audit["groups"])
    assert "Too few patients to compare groups by skin tone or age or sex" in text_of(html)
    assert "pseudonym" not in json.dumps(audit["groups"])


def test_lists_of_single_patients_are_in_no_report(tmp_path):
    suite = SUITE | people(*SPECS, tones={"patient-one": 3})
    audit, _ = run(tmp_path, suite=suite)
    assert "people" not in audit
    assert "verified" not in audit
    assert pseudonym("patient", "patient-one") not in json.dumps(audit)


def faces(*rows: tuple[str, str, float]) -> Faces:
    vectors = np.array([[np.cos(angle), np.sin(angle)] for _, _, angle in rows], np.float32)
    return Faces(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), vectors, 0)


def test_who_is_verified_is_said_of_each_photograph_by_its_own_original():
    originals = faces(("a", "p", 0.0), ("b", "p", 1.5), ("c", "q", 0.5))
    released = faces(("a", "p", 0.05), ("b", "p", 0.0), ("c", "q", 2.5))
    rng = np.random.default_rng(1)
    calibration = calibrate("one", True, originals, None, 0.9, 0.001, rng, np.zeros(3, int))
    seen = {"released": released, "original": originals}
    attacker = Attacker("one", "One", True, seen, None, dataclasses.replace(calibration, threshold=0.9), 0.1, True, rng)
    assert verified_photos(attacker, {"a", "b", "c", "d"}) == {
        "recogniser": "one",
        "verified": ["a"],
        "untried": ["d"],
    }


def test_people_who_were_not_measured_are_in_no_group():
    groups = np.array([[1, 3, 4], [-1, -1, -1], [0, 6, 1]])
    looks = PeopleLooks(np.array(["a", "b", "c"]), np.zeros((3, 5)), np.zeros(3, int), groups)
    assert looks_of_people(looks) == [
        {"release_patient_id": "a", "female": True, "age": 30, "tone": 4},
        {"release_patient_id": "c", "female": False, "age": 60, "tone": 1},
    ]


# ---- tables on a telephone ----


def test_every_cell_carries_its_columns_title():
    html = (
        "<table><thead><tr><th>A &amp; B</th><th class='n'>Say “C”</th><th>D</th></tr></thead>"
        "<tbody><tr><th>x</th><td>1</td><td>2</td></tr><tr><td colspan=3>all</td></tr></tbody></table><p>t</p>"
    )
    found = label_cells(html)
    assert '<td role="cell" data-label="Say “C”">1</td>' in found
    assert '<td role="cell" data-label="D">2</td>' in found
    assert '<td colspan=3 role="cell">all</td>' in found
    assert re.sub(r' (?:role|data-label)="[^"]*"', "", found) == html


def test_every_cell_of_the_audit_is_labelled(tmp_path):
    _, html = run(tmp_path, suite=FULL)
    cells = [cell for cell in Page(html).all("td") if "colspan" not in cell]
    assert len(cells) > 100
    assert [cell for cell in cells if not cell.get("data-label")] == []
