"""From the answers of simulated raters to report and audit: what they did is found, and never taken for people's."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from panel_release import small_settings, write_small_release
from shard_tables import CONFIG, MODELS
from simulated_raters import simulated_answers, write_answers
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.panel.analysis import analyse
from deidlib.panel.answers import read_answers
from deidlib.panel.design import design_study
from deidlib.panel.errors import PanelError
from deidlib.panel.report import report_page, write_panel_report
from deidlib.panel.summary import SUMMARY_FILE, panel_digest, read_summaries
from deidlib.report.page import build_audit


@pytest.fixture(autouse=True)
def _umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with 24 patients, so that effects can be seen, and its private folder."""
    release, private = write_small_release(tmp_path_factory.mktemp("release"), patients=24)
    sizes = {"realism": 30, "reading": 24, "usefulness": 12, "identity": 20}
    settings = small_settings(raters=5, acquainted=2, photographs=sizes, picture_side=64)
    return design_study(settings, release, private, None, private / "panel" / "first"), private


def results_of(study, folder, **how) -> dict:
    return analyse(study[0], read_answers(study[0], write_answers(study[0], folder, **how)))


def changed(path, **changes):
    given = json.loads(path.read_text())
    path.write_text(json.dumps(given | changes))


def test_raters_who_guess_are_at_chance(study, tmp_path):
    found = results_of(study, tmp_path)
    accuracy = found["realism"]["accuracy"]
    assert accuracy["low"] < 0.5 < accuracy["high"]
    assert abs(found["realism"]["d_prime"]["d_prime"]) < 0.6
    for one in found["identity"]["rates"]:
        assert one["accuracy"]["low"] < 1 / 6 < one["accuracy"]["high"]
    assert found["flagged"] == []
    assert found["without_flagged"] is None


def test_raters_who_notice_and_who_know_are_found_out(study, tmp_path):
    found = results_of(study, tmp_path, noticing=0.8, finding=0.7)
    assert found["realism"]["accuracy"]["low"] > 0.6
    assert found["realism"]["d_prime"]["interval"][0] > 0.5
    assert found["realism"]["at_chance"] is False
    assert all(one["accuracy"]["low"] > 1 / 6 for one in found["identity"]["rates"])
    assert {(one["group"], one["condition"]) for one in found["identity"]["rates"]} == {
        (group, condition) for group in ("panel", "acquainted") for condition in ("result", "mouth")
    }


def test_findings_that_are_read_alike_are_equivalent_and_shifted_ones_are_not(study, tmp_path):
    alike = {one["name"]: one for one in results_of(study, tmp_path / "alike")["reading"]}
    shifted = {one["name"]: one for one in results_of(study, tmp_path / "shifted", shift=0.8)["reading"]}
    assert sum(one["equivalence"]["equivalent"] for one in alike.values()) >= 7
    assert not any(one["equivalence"]["equivalent"] for one in shifted.values() if one["name"] != "aesthetic_component")
    midline = shifted["midline"]["equivalence"]
    assert 0.3 < midline["difference"] < 1.0
    assert alike["midline"]["between"]["kappa"] > 0.7
    assert alike["midline"]["agreement"]["original"]["icc_a1"] > 0.7
    assert alike["midline"]["intra"]["pairs"] > 10


def test_a_rater_who_answers_at_random_is_told_and_left_out_only_beside_the_main_result(study, tmp_path):
    paths = write_answers(study[0], tmp_path, noticing=0.9)
    rater = study[0].raters[1]
    given = simulated_answers(study[0], rater, np.random.default_rng(9), random=True)
    (tmp_path / f"answers-{rater.name}.json").write_text(json.dumps(given))
    found = analyse(study[0], read_answers(study[0], paths))
    assert found["flagged"] == [rater.name]
    flags = " ".join(next(row for row in found["raters"] if row["rater"] == rater.name)["flags"])
    assert "at random" in flags
    assert "too short" in flags
    assert found["panel"]["panel"]["returned"] == 5
    without = found["without_flagged"]
    assert without["realism_accuracy"] > found["realism"]["accuracy"]["rate"]
    page = report_page(found)
    assert "1 of 7 simulated raters may not have read:</strong> simulated rater 02" in page
    assert f"right about real or made: {100 * without['realism_accuracy']:.0f}" in page


def test_a_study_of_some_arms_with_a_careless_rater_has_its_report(tmp_path):
    release, private = write_small_release(tmp_path, patients=10)
    settings = small_settings(arms=["realism", "usefulness"])
    drawn = design_study(settings, release, private, None, private / "panel" / "first")
    given = [
        simulated_answers(drawn, rater, np.random.default_rng(3), random=rater.name == "rater-02")
        for rater in drawn.raters
    ]
    paths = [tmp_path / f"answers-{one['rater']}.json" for one in given]
    for path, one in zip(paths, given, strict=True):
        path.write_text(json.dumps(one))
    page = report_page(analyse(drawn, read_answers(drawn, paths)))
    assert "simulated rater 02 (see" in page
    assert "agree that results are useful for teaching" in page


def test_one_answer_to_everything_is_told(study, tmp_path):
    paths = write_answers(study[0], tmp_path)
    given = json.loads(paths[0].read_text())
    for answer in given["answers"].values():
        answer["values"] = dict.fromkeys(answer["values"], 0)
    paths[0].write_text(json.dumps(given))
    assert "rater-01" in analyse(study[0], read_answers(study[0], paths))["flagged"]


def test_missing_answers_doubts_and_a_short_washout_are_counted(study, tmp_path):
    paths = write_answers(study[0], tmp_path)
    early = simulated_answers(study[0], study[0].raters[0], np.random.default_rng(3), waited=2)
    dropped = [trial.id for trial in study[0].of("rater-01") if not trial.training][:7]
    early["answers"] = {name: answer for name, answer in early["answers"].items() if name not in dropped}
    paths[0].write_text(json.dumps(early))
    row = analyse(study[0], read_answers(study[0], paths))["raters"][0]
    assert row["asked"] - row["answered"] == 7
    assert row["washout_days"] == pytest.approx(2, abs=0.1)
    assert any("2.0 days instead of 14" in flag for flag in row["flags"])
    assert row["cannot"] > 0
    assert row["unsure"] > 0


def test_one_rater_alone_and_a_study_half_done_can_be_analysed(study, tmp_path):
    paths = write_answers(study[0], tmp_path)
    given = json.loads(paths[0].read_text())
    first = {trial.id for trial in study[0].of("rater-01") if trial.session == 1}
    given["answers"] = {name: answer for name, answer in given["answers"].items() if name in first}
    paths[0].write_text(json.dumps(given))
    found = analyse(study[0], read_answers(study[0], paths[:1]))
    assert found["reading"] is None
    assert found["panel"]["panel"] == {"asked": 5, "returned": 1}
    json.dumps(found, allow_nan=False)
    assert "1 of 5" in report_page(found)


def test_two_files_of_one_rater_are_merged_and_the_later_answer_counts(study, tmp_path):
    path = write_answers(study[0], tmp_path)[0]
    given = json.loads(path.read_text())
    names = list(given["answers"])
    later = given["answers"][names[0]] | {"at": "2026-12-01T00:00:00+00:00", "seconds": 99.0}
    half = given | {"answers": {name: given["answers"][name] for name in names[::2]} | {names[0]: later}}
    other = tmp_path / "answers-rater-01-second.json"
    other.write_text(json.dumps(half))
    merged = read_answers(study[0], [path, other])
    assert len(merged) == 1
    assert len(merged[0].answers) == len(names)
    assert merged[0].answers[names[0]].seconds == 99.0


@pytest.mark.parametrize("damage", ["study", "rater", "trial", "value", "bool", "question", "format", "text", "cannot"])
def test_files_that_the_study_did_not_ask_for_are_refused(study, tmp_path, damage):
    path = write_answers(study[0], tmp_path)[0]
    given = json.loads(path.read_text())
    first = next(iter(given["answers"].values()))["values"]
    if damage in ("study", "rater", "format"):
        given[damage] = "another"
    elif damage == "trial":
        given["answers"]["../../etc"] = next(iter(given["answers"].values()))
    elif damage == "question":
        first["other"] = 0
    elif damage in ("value", "bool", "cannot"):
        first["made"] = {"value": 7, "bool": True, "cannot": "cannot"}[damage]
    path.write_text("{" if damage == "text" else json.dumps(given))
    with pytest.raises(PanelError, match=r"answers-rater-01\.json"):
        read_answers(study[0], [path])


def test_no_answers_at_all_is_said(study):
    with pytest.raises(PanelError, match="no answers"):
        read_answers(study[0], [])


def test_simulated_results_say_so_everywhere_and_no_audit_takes_them(study, tmp_path):
    folder = tmp_path / "private" / "panel" / "first"
    found = results_of(study, folder / "answers")
    path = write_panel_report(found, folder)
    html = (folder / "report.html").read_text()
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    assert html.count("SIMULATED") >= 3
    assert "simulated rater 01" in html
    digest = study[0].release["content_sha256"]
    assert path.name != SUMMARY_FILE
    assert read_summaries(tmp_path / "private", digest) == []
    path.rename(folder / SUMMARY_FILE)  # whoever renames it gets no further
    with pytest.raises(PanelError, match="simulated"):
        read_summaries(tmp_path / "private", digest)


def test_one_simulated_rater_among_people_makes_the_whole_simulated(study, tmp_path):
    paths = write_answers(study[0], tmp_path)
    for path in paths[1:]:
        changed(path, simulated=False)
    assert analyse(study[0], read_answers(study[0], paths))["simulated"] is True
    changed(paths[0], simulated=None)  # a file that does not say is not a person's either
    assert analyse(study[0], read_answers(study[0], paths))["simulated"] is True


def test_an_audit_takes_a_study_of_its_own_release_alone_and_no_rater_by_name(study, tmp_path):
    """The mark is taken off here, as if people had answered, in a folder of the test."""
    folder = tmp_path / "private" / "panel" / "first"
    paths = write_answers(study[0], folder / "answers")
    for path in paths:
        changed(path, simulated=False)
    write_panel_report(analyse(study[0], read_answers(study[0], paths)), folder)
    digest = study[0].release["content_sha256"]
    taken = read_summaries(tmp_path / "private", digest)
    assert len(taken) == 1
    assert "rater-0" not in json.dumps(taken)
    assert read_summaries(tmp_path / "private", "0" * 64) == []
    assert read_summaries(tmp_path / "private", None) == []
    (folder / SUMMARY_FILE).write_text("{}")
    with pytest.raises(PanelError, match="damaged"):
        read_summaries(tmp_path / "private", digest)


def test_a_study_drawn_before_the_release_counts_where_the_release_holds_what_was_judged(study, tmp_path):
    """The mark is taken off here, as if people had answered, in a folder of the test."""
    judged = ["1" * 64, "2" * 64]
    drawn = replace(study[0], release=study[0].release | {"content_sha256": None, "judged_sha256": judged})
    folder = tmp_path / "private" / "panel" / "first"
    paths = write_answers(drawn, folder / "answers")
    for path in paths:
        changed(path, simulated=False)
    before = panel_digest(tmp_path / "private")
    write_panel_report(analyse(drawn, read_answers(drawn, paths)), folder)
    assert panel_digest(tmp_path / "private") != before  # so the audit is written again
    assert "before it was released" in (folder / "report.html").read_text()
    [taken] = read_summaries(tmp_path / "private", "a" * 64, [*judged, "3" * 64])
    assert taken["judged_before"] is True
    assert read_summaries(tmp_path / "private", "a" * 64, judged[:1]) == []  # one of them was withheld, or changed
    assert read_summaries(tmp_path / "private", None, judged) == []


def test_the_audit_says_what_people_saw_or_that_nobody_was_asked(tmp_path):
    release, private = write_small_release(tmp_path, patients=8)
    given = (private, release, ["s0000", "s0001"], 2, "1.0.0", CONFIG, MODELS)
    audit, html = build_audit(*given)
    assert audit["panel"] == []
    assert "No person was asked" in html
    settings = small_settings(arms=["realism", "usefulness", "identity"])
    drawn = design_study(settings, release, private, None, private / "panel" / "first")
    paths = write_answers(drawn, private / "panel" / "first" / "answers")
    for path in paths:
        changed(path, simulated=False)  # as if people had answered, in a folder of the test
    write_panel_report(analyse(drawn, read_answers(drawn, paths)), private / "panel" / "first")
    audit, html = build_audit(*given)
    rate = audit["panel"][0]["realism"]["accuracy"]["rate"]
    assert "No person was asked" not in html
    assert f"{100 * rate:.0f} % of the answers were right" in html.replace("\xa0", " ")
    for path in paths:
        changed(path, simulated=True)
    results = write_panel_report(analyse(drawn, read_answers(drawn, paths)), private / "panel" / "first")
    assert results.name != SUMMARY_FILE
    assert build_audit(*given)[0]["panel"] == []


def test_results_name_no_photograph_and_no_patient(study, tmp_path):
    found = results_of(study, tmp_path)
    text = json.dumps(found) + report_page(found)
    names = {trial.photo for trial in study[0].trials} | {trial.patient for trial in study[0].trials}
    assert not any(name in text for name in names)


def test_the_same_answers_give_the_same_results(study, tmp_path):
    paths = write_answers(study[0], tmp_path)
    one, two = (analyse(study[0], read_answers(study[0], order)) for order in (paths, paths[::-1]))
    assert one == two


def test_the_command_line_analyses_what_lies_in_answers(study):
    folder = study[1] / "panel" / "first"
    write_answers(study[0], folder / "answers")
    done = CliRunner().invoke(app, ["panel", "analyse", str(folder)])
    assert done.exit_code == 0, done.output
    assert "SIMULATED" in done.output
    assert (folder / "report.pdf").is_file()
    assert (folder / "report.pdf").stat().st_mode & 0o077 == 0
