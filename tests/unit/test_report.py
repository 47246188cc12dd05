"""The audit: its numbers, its verdicts, and what must not be in it."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_tables import BOUNDS, CONFIG, MODELS, Spec, ids, write_private, write_release

from deidlib.outcomes.outcomes import all_outcomes, read_outcomes
from deidlib.release import ReleaseError, content_digest
from deidlib.report import write_report
from deidlib.report.criteria import conclusion, photograph_criteria
from deidlib.report.page import build_audit
from deidlib.report.tally import Tally, add, histogram, rate
from deidlib.storage import images
from deidlib.storage.results import REPORT_FILES

FAILS = {"sface_cosine": 0.5, "failed": ["sface_cosine"]}
#: What the attack suite says where nothing was found: the least that the report reads.
SUITE = {
    "gate": {
        "passed": True,
        "criteria": [
            {"name": "nobody_found", "statement": "Nobody found", "value": 0, "bound": 0, "n": 3, "passed": True}
        ],
    }
}
SPECS = [
    Spec(
        "patient-one",
        "photo-one",
        view="frontal_rest",
        checks=({"sface_cosine": 0.30, "dlib_distance": 0.7},),
    ),
    Spec("patient-one", "photo-two", checks=(FAILS, {"sface_cosine": 0.20})),
    Spec("patient-two", "photo-three", shard="s0001", checks=({"sface_cosine": -0.10, "dlib_distance": 0.9},)),
    Spec("patient-three", "photo-four", checks=(FAILS, FAILS)),
    Spec("patient-four", "photo-five", stopped=("intake", "consent_missing"), shard="s0001"),
    Spec("patient-four", "photo-six", stopped=("landmarks", "several_faces")),
]


def run(
    folder: Path, specs=SPECS, config=CONFIG, tamper=None, suite=SUITE, write=False, models=MODELS
) -> tuple[dict, str]:
    """Release and report; the audit's numbers and its page. ``write`` also writes the report's files."""
    shards = write_private(folder / "private", specs)
    private, root = folder / "private", folder / "release"
    try:
        release = write_release(private, root, shards, 2, "1.0.0", config, models)
    except ReleaseError:
        release = None
    if tamper:
        tamper(release)
    attacks = folder / "attacks.json"
    if suite is not None:
        attacks.write_text(json.dumps(suite))
    given = (shards, 2, "1.0.0", config, models, attacks if suite is not None else None)
    if write:
        write_report(private, release, folder / "report", *given)
    return build_audit(private, release, *given)


def verdicts(audit: dict) -> dict[str, str]:
    words = {True: "pass", False: "fail", None: "not judged"}
    return {row["name"]: words[row["passed"]] for row in audit["gate"]["criteria"]}


class Page(HTMLParser):
    """Elements and their nesting; an element that is closed out of turn is an error."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_a_clean_run_passes_with_the_right_numbers(tmp_path):
    audit, html = run(tmp_path)
    assert audit["gate"]["passed"] is True
    assert set(verdicts(audit).values()) == {"pass"}
    assert "Passed the automatic checks; your judgement is still needed" in html
    assert "FAIL" not in html

    cohort = audit["cohort"]
    assert (cohort["photographs"], cohort["patients"], cohort["released"], cohort["quarantined"]) == (
        6,
        4,
        3,
        3,
    )
    assert {code: row["photographs"] for code, row in cohort["reasons"].items()} == {
        "consent_missing": 1,
        "gate_failed": 1,
        "several_faces": 1,
    }
    assert cohort["attempts"] == [
        {"attempt": 0, "judged": 4, "released": 2},
        {"attempt": 1, "judged": 2, "released": 1},
    ]
    sface = audit["privacy"]["sface_cosine"]
    assert (sface["released"]["min"], sface["released"]["median"], sface["released"]["max"]) == (
        -0.1,
        0.2,
        0.3,
    )
    assert (sface["threshold"], sface["threshold_published"]) == (0.363, 0.363)
    assert (sface["released"]["beyond"]["count"], sface["released"]["beyond"]["n"]) == (0, 3)
    first, by_patient = sface["first_attempt"]["beyond"], sface["first_attempt_patients_beyond"]
    assert (first["count"], first["n"]) == (2, 4)
    assert (by_patient["count"], by_patient["n"]) == (2, 3)
    assert (
        audit["privacy"]["dlib_distance"]["released"]["min"],
        audit["fidelity"]["core_equal"]["kept"],
    ) == (0.7, 3)
    assert audit["release"]["content_sha256"] == content_digest(tmp_path / "release" / "1.0.0")


def test_nothing_released_fails_and_says_why(tmp_path):
    audit, html = run(tmp_path, SPECS[3:])
    assert audit["gate"]["passed"] is False
    assert verdicts(audit)["released"] == verdicts(audit)["release_whole"] == "fail"
    assert verdicts(audit)["sface_cosine"] == verdicts(audit)["core_equal"] == "not judged"
    assert audit["cohort"]["passed"] == audit["cohort"]["released"] == 0
    assert "Failed: nothing was released" in html
    assert "✗ FAIL" in html
    assert "Nothing was released: none of the 3 photographs passed" in html
    assert "consent_missing" in html
    Page(html)


@pytest.mark.parametrize("release", [None, "release/1.0.0"])
def test_an_empty_cohort_or_a_missing_release_folder_still_gives_a_page(tmp_path, release):
    folder = release and tmp_path / release
    audit, html = build_audit(tmp_path, folder, [], 1, "1.0.0", CONFIG, [])
    Page(html)
    assert audit["gate"]["passed"] is False
    assert (audit["release"]["written"], audit["release"]["content_sha256"]) == (False, None)


@pytest.mark.parametrize("where", ["README.md", "index.parquet", "SHA256SUMS", "image"])
def test_a_changed_release_fails_and_shows_no_image(tmp_path, where):
    def tamper(release: Path) -> None:
        path = next((release / "images").rglob("*.png")) if where == "image" else release / where
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    audit, html = run(tmp_path, tamper=tamper)
    assert verdicts(audit)["release_whole"] == "fail"
    assert audit["gate"]["passed"] is False
    assert "<img" not in html


def test_a_release_of_other_photographs_fails(tmp_path):
    run(tmp_path / "other", SPECS[:2])

    def swap(release: Path) -> None:
        shutil.rmtree(release)
        shutil.copytree(tmp_path / "other" / "release" / "1.0.0", release)

    audit, html = run(tmp_path, tamper=swap)
    assert (verdicts(audit)["release_whole"], verdicts(audit)["release_agrees"]) == ("pass", "fail")
    assert "Do not share this release" in html
    assert "<img" not in html


def test_what_is_released_is_not_among_what_was_stopped(tmp_path):
    tally = Tally()
    for one in all_outcomes(tmp_path, write_private(tmp_path, SPECS)):
        add(tally, one)
    assert tally.stopped["sface_cosine"] == pytest.approx([0.5, 0.5, 0.5])
    assert tally.released["sface_cosine"] == pytest.approx([0.30, 0.20, -0.10])


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"seam": 2.5}, "fail"),
        ({"seam": float("nan")}, "fail"),
        ({"dlib_distance": 0.6}, "fail"),
        ({"dlib_distance": 0.605}, "fail"),
        ({"dlib_distance": float("inf")}, "fail"),
        ({"dlib_distance": None}, "fail"),
        ({"core_equal": None}, "fail"),
        ({"faces_yunet": 2}, "fail"),
        ({"survival": 0.9}, "pass"),
        ({"second_face": 0.41}, "fail"),
    ],
)
def test_criteria_judge_the_numbers_themselves(tmp_path, values, verdict):
    shards = write_private(tmp_path, [SPECS[0], SPECS[2]])
    tally = Tally()
    for shard in shards:
        outcomes = read_outcomes(tmp_path, shard)
        for one in outcomes:
            add(tally, dataclasses.replace(one, check=one.check | values))
    release = {"written": True, "problems": 0, "agrees": True}
    rows = photograph_criteria(tally, BOUNDS, release, withheld=False)
    assert verdicts({"gate": {"criteria": rows}})[next(iter(values))] == verdict
    assert conclusion(rows, tally, written=True)["passed"] is (verdict != "fail")


@pytest.mark.parametrize("missing", ["sface_cosine", "seam", "mouth_shift", "latent_distance"])
def test_a_check_that_did_not_run_holds_the_photograph_back(tmp_path, missing):
    specs = [SPECS[0], Spec("patient-x", "photo-x", checks=({missing: None, "dlib_distance": None, "passed": True},))]
    audit, _ = run(tmp_path, specs)
    assert audit["cohort"]["released"] == 1
    assert audit["cohort"]["reasons"]["gate_failed"]["photographs"] == 1
    assert audit["privacy"]["dlib_distance"]["first_attempt"]["not_run"] == 1


def test_images_without_a_generated_face_are_judged_and_shown_apart(tmp_path):
    specs = [
        SPECS[0],
        Spec("patient-p", "photo-p", view="profile", route="region_only"),
        Spec("patient-i", "photo-i", view="intraoral", route="intraoral"),
    ]
    audit, html = run(tmp_path, specs)
    assert audit["gate"]["passed"] is True
    assert audit["cohort"]["routes"] == {"generate": 1, "intraoral": 1, "region_only": 1}
    rows = {row["name"]: row for row in audit["gate"]["criteria"]}
    assert (rows["faces_yunet"]["n"], rows["faces_yunet_without_face"]["n"]) == (1, 2)
    assert rows["outside_neutral_without_face"]["found"] == "1 of 1"
    assert audit["fidelity"]["realism"]["n"] == 1
    assert audit["fidelity"]["smile"]["cant"]["n"] == 0
    page = Page(html)
    alts = {image["alt"].split(": ")[1] for image in page.all("img")}
    assert len(alts) == 3
    assert "the whole intraoral photograph, no face in it" in alts
    assert "but released intraoral ones" in html


def test_the_first_page_tells_what_was_selected_and_numbers_come_in_classes(tmp_path):
    specs = [
        Spec("patient-a", "photo-a", checks=({"sface_cosine": 0.123456, "seam": 1.23456},)),
        Spec("patient-b", "photo-b", checks=(FAILS, {})),
        Spec(
            "patient-c",
            "photo-c",
            checks=(
                {"seam": 9.0, "failed": ["seam"], "donor_id": "same"},
                {"dlib_distance": 0.654321, "donor_id": "same"},
            ),
        ),
    ]
    audit, html = run(tmp_path, specs)
    selected = audit["selection"]
    assert (selected["photographs"], selected["passed_first"], selected["made_again"]) == (3, 1, 2)
    assert (selected["went_on"], selected["new_donor"]) == (1, 1)
    assert (selected["against_judge"], selected["released"], selected["released_later"]) == (1, 3, 2)
    assert selected["first"] == {"sface_cosine": {"taken": 1, "n": 3}, "dlib_distance": {"taken": 0, "n": 3}}
    first_page = html[: html.index("Criteria, each over all photographs")]
    assert "SFace took 1 of 3 for the patient" in first_page
    assert "2 were made again: 1 went on with the same donor" in first_page
    assert "1 got another donor" in first_page
    card = (tmp_path / "release" / "1.0.0" / "README.md").read_text()
    assert "SFace took 1 of 3 for the patient" in card
    told = json.dumps({key: value for key, value in audit.items() if key not in ("configuration", "code_sha256")})
    assert audit["fidelity"]["seam"]["max"] == 1.25
    assert not re.search(r"0\.1234|1\.2345|0\.6543", told)


@pytest.mark.parametrize("route", ["intraoral", "region_only"])
def test_a_cohort_without_generated_faces_passes_and_names_no_model_of_the_generator(tmp_path, route):
    """What concerns faces is not applicable: neither judged, nor open."""
    specs = [Spec(f"patient-{n}", f"photo-{n}", view="profile", route=route) for n in range(3)]
    generator = {"name": "mobilestylegan", "task": "generator", "routes": "generate", "use": "research only"}
    audit, html = run(tmp_path, specs, models=[*MODELS, generator])
    assert audit["gate"]["passed"] is True
    rows = {row["name"]: row for row in audit["gate"]["criteria"]}
    assert {rows[name]["applicable"] for name in ("sface_cosine", "mouth_shift", "realism", "seam")} == {False}
    assert rows["core_equal"]["applicable"] is True
    assert "Not applicable to these photographs" in html
    assert audit["selection"]["words"] == ""
    release = tmp_path / "release" / "1.0.0"
    for name in ("README.md", "datasheet.md", "croissant.json", "ro-crate-metadata.json"):
        text = (release / name).read_text()
        assert "research only" not in text
        assert "a person who does not exist" not in text
    assert [model["name"] for model in audit["models"]] == ["sface"]


def test_stricter_thresholds_are_said_to_be_the_configurations(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["checks"]["sface_max"] = 0.35
    _, html = run(tmp_path, config=config)
    assert "set by this configuration; 0.363 is published by OpenCV" in html
    assert "Threshold 0.6: published by dlib" in html


def test_same_inputs_give_the_same_bytes(tmp_path):
    run(tmp_path / "one", write=True)
    run(tmp_path / "two", write=True)
    for name in REPORT_FILES:
        one, two = ((tmp_path / side / "report" / "1.0.0" / name).read_bytes() for side in ("one", "two"))
        assert one == two


def test_page_is_self_contained_and_accessible(tmp_path):
    _, html = run(tmp_path)
    page = Page(html)
    assert page.all("html")[0]["lang"] == "en"
    assert not page.all("script") + page.all("link") + page.all("iframe")
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert not re.search(r"url\((?!#)|@import|https?://", html)
    tables, captions = page.all("table"), page.all("caption")
    assert len(tables) == len(captions) > 5
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("h1")) == 1
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= targets
    for figure in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > len(root.find("title").text) > 5
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_gallery_holds_released_images_only_and_at_most_24_one_of_each_patient_first(tmp_path):
    specs = [Spec(f"patient-{n // 3}", f"photo-{n}", side=16 + n % 3) for n in range(60)] + SPECS[3:]
    _, html = run(tmp_path, specs)
    shown = Page(html).all("img")
    assert len(shown) == 24
    owners = {ids(spec)[1]: spec.patient for spec in specs[:60]}
    alts = [next(name for name in owners if name in image["alt"]) for image in shown]
    assert {owners[name] for name in alts} == {f"patient-{n}" for n in range(20)}
    for name, image in zip(alts, shown, strict=True):
        data = base64.b64decode(image["src"].split(",")[1])
        assert b"Exif" not in data
        small = np.asarray(images.decode_png(data), float)
        assert max(small.shape) == 256
        released = images.decode_png((tmp_path / "release/1.0.0/images" / name[:2] / f"{name}.png").read_bytes())
        assert np.abs(small.mean((0, 1)) - released.mean((0, 1))).max() < 6


def test_nothing_private_is_in_any_byte_of_the_report(tmp_path):
    sentinels = ["QZPATIENTQZ", "QZPHOTOQZ", "QZPATHQZ", "QZCELLQZ", "QZCOLUMNQZ", "QZDIAGNOSISQZ", "QZKEYQZ"]
    specs = [
        Spec(
            f"QZPATIENTQZ{n}",
            f"QZPHOTOQZ{n}",
            path=f"QZPATHQZ/{n}.jpg",
            diagnosis="QZDIAGNOSISQZ",
            further={"QZCOLUMNQZ": "QZCELLQZ"},
            checks=checks,
        )
        for n, checks in enumerate([({},), (FAILS, {}), (FAILS, FAILS)])
    ]
    config = copy.deepcopy(CONFIG)
    config["release"]["columns"]["QZCOLUMNQZ"] = {"rule": "drop"}
    config |= {"cohort": "QZPATHQZ/samples.tsv", "key_file": "QZKEYQZ", "results": "QZPATHQZ results"}
    config["preset"]["donors"] = {"bank": "/data/QZPATHQZ/bank.parquet", "pool": 24}
    audit, _ = run(tmp_path, specs, config, suite=SUITE | {"private": "QZPATIENTQZ"}, write=True)
    assert audit["configuration"]["preset"]["donors"] == {"pool": 24}
    report = tmp_path / "report" / "1.0.0"
    assert sorted(path.name for path in report.iterdir()) == sorted(REPORT_FILES)
    for content in (path.read_bytes().decode(errors="ignore").lower() for path in report.iterdir()):
        assert [word for word in sentinels if word.lower() in content] == []
        assert str(tmp_path).lower() not in content


def test_text_of_the_configuration_is_escaped(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["study"]["institution"] = "<script>alert(1)</script> & Söhne"
    _, html = run(tmp_path, config=config)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Söhne" in html


def test_models_and_software_are_named(tmp_path):
    audit, html = run(tmp_path)
    assert audit["models"][0]["files"] == [
        {"file": "face_recognition_sface_2021dec_int8bq.onnx", "sha256": "fb143eea07838aa5" + "0" * 48}
    ]
    assert "fb143eea07838aa5" in html
    assert audit["software"]["numpy"] == np.__version__


@given(n=st.integers(1, 5000), data=st.data())
def test_interval_is_wilsons(n, data):
    count = data.draw(st.integers(0, n))
    z, p = 1.959963984540054, count / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    found = rate(count, n)
    assert found["low"] == pytest.approx(middle - half, abs=1e-6)
    assert found["high"] == pytest.approx(middle + half, abs=1e-6)


@given(st.lists(st.one_of(st.none(), st.floats(-1, 2)), max_size=200), st.sampled_from([0.0, 0.363, 0.6]))
def test_histogram_counts_every_score_once_in_its_class(values, origin):
    bins = histogram(values, origin=origin)
    numbers = [value for value in values if value is not None]
    assert sum(count for _, count in bins) == len(numbers)
    for value in numbers:
        assert any(edge - 1e-6 <= value < edge + 0.02 + 1e-6 for edge, _ in bins)
