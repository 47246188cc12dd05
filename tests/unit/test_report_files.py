"""The audit's clinical measures, its figures as SVG, its PDF, and the reviewer's copy."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import stat
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest
from shard_tables import CONFIG, MODELS, Spec, draw_face, ids, write_private, write_release
from test_report import SPECS, SUITE, Page, run
from typer.testing import CliRunner
from weasyprint.urls import FatalURLFetchingError

from deidlib.cli import app
from deidlib.pages.pdf import to_pdf
from deidlib.report import figures, write_reviewer_copy
from deidlib.report.smile import smile_numbers
from deidlib.storage import images
from deidlib.storage.results import REPORT_FILES

# ---- clinical measures ----


def smile(width: tuple, cant: tuple = (0.0, 0.5)) -> dict:
    return {
        "smile_width_source": width[0],
        "smile_width_result": width[1],
        "cant_source": cant[0],
        "cant_result": cant[1],
    }


def test_audit_gives_the_measures_before_and_after(tmp_path):
    specs = [
        Spec("patient-1", "photo-1", checks=(smile((100.0, 102.0)),)),
        Spec("patient-1", "photo-2", checks=(smile((90.0, 91.0)),)),
        Spec("patient-2", "photo-3", checks=(smile((80.0, 77.0)),)),
        Spec("patient-3", "photo-4", checks=(smile((None, 85.0)),)),
    ]
    audit, html = run(tmp_path, specs)
    found = audit["fidelity"]["smile"]["smile_width"]
    assert (found["n"], found["patients"], found["not_measured"]) == (3, 2, 1)
    assert (found["source"], found["result"], found["mean"], found["largest"]) == (90, 91, 0, 3)
    spread = 1.96 * np.std([2, 1, -3], ddof=1)
    assert found["limits"] == pytest.approx([-spread, spread], abs=0.05)  # in classes of 0.1: a number is a key
    assert audit["fidelity"]["smile"]["lip_line"]["n"] == 0
    assert audit["fidelity"]["smile"]["lip_line"]["mean"] is None
    assert "+0.0" in html
    assert "+0.00" not in html
    assert any(figure["aria-label"].startswith("Clinical measures") for figure in Page(html).all("svg"))


def test_interval_of_the_mean_draws_patients():
    """Ten photographs of each of two patients: only which are drawn can vary: three means can occur."""
    pairs = [(50.0, 51.0)] * 10 + [(50.0, 55.0)] * 10
    by_patient = smile_numbers("cant", pairs, ["a"] * 10 + ["b"] * 10)
    by_photo = smile_numbers("cant", pairs, [str(n) for n in range(20)])
    assert by_patient["ci95"] == [1, 5]
    assert 1.5 < by_photo["ci95"][0] < by_photo["ci95"][1] < 4.5
    assert by_patient["mean"] == by_photo["mean"] == 3


def test_one_patient_gives_no_interval():
    assert smile_numbers("cant", [(1.0, 2.0)] * 3, ["a"] * 3)["ci95"] is None


# ---- figures ----


def svg_of(markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def texts(markup) -> str:
    return " ".join(element.text or "" for element in svg_of(markup).iter("{http://www.w3.org/2000/svg}text"))


def test_score_figure_states_counts_ends_and_threshold_in_text_and_in_words():
    entry = {"kind": "impostor", "n": 4, "width": 0.02, "bins": [[-0.02, 1], [0.04, 3]], "min": -0.01, "max": 0.05}
    drawn = figures.score_figure("x", "Title", "cosine", [entry | {"median": 0.045}], [(0.363, "gate")], True)
    assert "0.363 (gate)" in texts(drawn)
    assert "originals of different people (n = 4)" in texts(drawn)
    label = svg_of(drawn).get("aria-label")
    assert "4 scores from -0.010 to 0.050, median 0.045" in label
    assert "Thresholds: 0.363 (gate)" in label


def test_a_trade_off_marks_the_threshold_in_use_and_not_the_rate_that_was_aimed_at():
    det = [[0.5, 0.0], [0.1, 0.02], [0.001, 0.4]]
    entry = {"recogniser": "one", "source": "bank", "fmr": 0.001, "fnmr": 0.02, "threshold": 0.363, "det": det}
    entry |= {"calibrated_threshold": 0.616, "bank_fmr": 0.12, "cohort_fmr": 0.25}
    words = svg_of(figures.det_figure([entry], {"one": "One"})).get("aria-label")
    assert "One: FNMR 2 % at FMR 12 % with the threshold in use" in words
    kept = figures.det_figure([entry | {"threshold": 0.616, "fnmr": 0.4}], {"one": "One"})
    assert "FNMR 40 % at FMR 0.1 %" in svg_of(kept).get("aria-label")


def test_figures_with_nothing_to_show_are_left_out():
    assert figures.score_figure("x", "T", "m", [], [(0.3, "gate")], True) is None
    assert figures.forest_figure("x", "T", [], {}) is None
    assert figures.det_figure([{"recogniser": "a", "det": []}], {}) is None
    assert figures.rank_figure([], {}) is None
    assert figures.smile_figure([]) is None
    assert figures.histogram_figure("x", "T", "m", {"n": 0, "width": 1, "bins": []}, 1) is None


def test_an_svg_is_the_same_each_time_and_shares_no_id_with_another():
    entry = {"n": 3, "width": 0.5, "bins": [[1.0, 2], [2.0, 1]]}
    one, again = (str(figures.histogram_figure("one", "Title", "axis", entry, 8.0)) for _ in range(2))
    other = str(figures.histogram_figure("two", "Title", "axis", entry, 8.0))
    assert one == again
    first, second = (set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other))
    assert first
    assert not first & second
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', one)) <= first


# ---- the PDF ----


def inflated(pdf: bytes) -> bytes:
    """The PDF and the content of its compressed streams, in which most of its objects lie."""
    parts = [pdf]
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        with contextlib.suppress(zlib.error):
            parts.append(zlib.decompress(stream))
    return b"\n".join(parts)


def test_pdf_is_tagged_titled_without_dates_and_the_same_each_time(tmp_path):
    _, html = run(tmp_path)
    pdf = to_pdf(html)
    assert pdf == to_pdf(html)
    content = inflated(pdf)
    assert b"/StructTreeRoot" in content
    assert b"/Lang" in content
    assert b"De-identification audit: Synthetic test cohort, version 1.0.0" in content
    assert b"DejaVu" in content  # the fonts that come along, whatever the machine has
    assert not re.search(rb"(Creation|Mod|Create|Modify|Metadata)Date", content)


@pytest.mark.parametrize("url", ["https://example.org/x.png", "file:///etc/passwd"])
def test_pdf_fetches_nothing_from_outside(url):
    with pytest.raises(FatalURLFetchingError):
        to_pdf(f'<html lang="en"><title>x</title><img alt="x" src="{url}"></html>')


# ---- the reviewer's copy ----


def decoded(uri: str) -> np.ndarray:
    return np.asarray(images.decode_png(base64.b64decode(uri.split(",")[1])), float)


def test_reviewers_copy_shows_each_original_beside_its_result(tmp_path):
    shards = write_private(tmp_path / "private", SPECS)
    path = write_reviewer_copy(tmp_path / "private", tmp_path / "private/reviewer.html", shards, "1.0.0")
    html = path.read_text()
    pictures = Page(html).all("img")
    assert len(pictures) == 2 * 3
    assert "PRIVATE" in html
    for original, result in zip(pictures[::2], pictures[1::2], strict=True):
        row, spec = next((n, spec) for n, spec in enumerate(SPECS, 2) if ids(spec)[1] in original["alt"])
        attempt = 1 if spec.photo == "photo-two" else 0
        for picture, seed in ((original, row), (result, 1000 * attempt + row)):
            expected = draw_face(seed, spec.side).mean((0, 1))
            assert np.abs(decoded(picture["src"]).mean((0, 1)) - expected).max() < 6


def test_reviewers_copy_holds_at_most_so_many_one_of_each_patient_first(tmp_path):
    specs = [Spec(f"patient-{n // 2}", f"photo-{n}", side=16) for n in range(8)]
    shards = write_private(tmp_path, specs)
    html = write_reviewer_copy(tmp_path, tmp_path / "r.html", shards, "1.0.0", most=4).read_text()
    shown = {name for name in (ids(spec)[0] for spec in specs) if name in html}
    assert len(Page(html).all("img")) == 8
    assert len(shown) == 4


@pytest.fixture
def results(tmp_path):
    """A finished release, its private folder and the suite's results, as the workflow leaves them."""
    shards = write_private(tmp_path / "private", SPECS)
    write_release(tmp_path / "private", tmp_path / "release", shards, 2, "1.0.0", CONFIG, MODELS)
    (tmp_path / "private" / "plan.json").write_text(json.dumps({"shards": shards}))
    (tmp_path / "private" / "reid").mkdir()
    (tmp_path / "private" / "reid" / "attacks.json").write_text(json.dumps(SUITE))
    return tmp_path


def report(results, *more: str):
    config = {key: value for key, value in CONFIG.items() if key not in ("cohort", "results", "key_file")}
    command = ["report", "--plan", results / "private/plan.json", "--release", results / "release/1.0.0"]
    command += ["--out", results / "report/1.0.0", "--config", json.dumps(config), *more]
    return CliRunner().invoke(app, [str(part) for part in command])


def test_command_writes_the_report_for_all_and_the_reviewers_copy_for_one(results):
    done = report(results, "--reviewer", results / "private/reviewer.html")
    assert done.exit_code == 0, done.output
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (results / "report/1.0.0").iterdir()}
    assert files == dict.fromkeys(REPORT_FILES, 0o644)
    assert stat.S_IMODE((results / "private/reviewer.html").stat().st_mode) == 0o600
    audit = json.loads((results / "report/1.0.0/audit.json").read_text())
    assert audit["gate"]["passed"] is True  # the suite's results were found beside the plan


def test_command_refuses_a_reviewers_copy_outside_the_private_folder(results):
    done = report(results, "--reviewer", results / "report/1.0.0/reviewer.html")
    assert done.exit_code == 1
    assert "below the results' private folder" in done.output
    assert not (results / "report").exists()


def test_command_says_that_named_attacks_are_missing(results):
    done = report(results, "--attacks", results / "private/other.json")
    assert done.exit_code == 1
    assert "attacks.json is missing" in done.output
