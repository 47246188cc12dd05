"""The panel study's design: balance, blinding, consent, and what a rater's folder gives away."""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from panel_release import CONSENT, small_settings, write_small_release
from scipy import stats
from shard_tables import verdict_on
from statsmodels.stats.weightstats import ttost_paired
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.outcomes.outcomes import all_outcomes
from deidlib.panel import agreement, allocation, power
from deidlib.panel.design import design_study
from deidlib.panel.errors import PanelError
from deidlib.panel.material import GREY, agreed_photos, filled_box, framed, originals
from deidlib.panel.pages import page_data
from deidlib.panel.settings import complete, read_settings
from deidlib.panel.source import finished_release, pending_release
from deidlib.panel.study import read_study
from deidlib.panel.withdrawn import photographs_without_consent, withdrawn_words
from deidlib.release.decision import decide
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.storage.png import png_problems

ARMS = ["realism", "diagnosis", "aesthetic", "usefulness", "identity"]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_small_release(tmp_path_factory.mktemp("release"), patients=10, without_consent=1)


@pytest.fixture(scope="module")
def study(release, tmp_path_factory):
    """A study with all arms, and its folder."""
    folder = release[1] / "panel" / "first"
    return design_study(small_settings(acquainted=2), *release, None, folder), folder


@pytest.mark.parametrize(("items", "raters"), [(12, 4), (11, 5), (7, 3)])
def test_versions_and_places_are_balanced(items, raters):
    rng = np.random.default_rng(0)
    which = allocation.versions(items, raters, rng)
    assert np.all(np.abs(which.sum(axis=1) - items / 2) <= 0.5)
    assert np.all(np.abs(which.sum(axis=0) - raters / 2) <= 0.5)
    places = allocation.positions(items, raters, 6, rng)
    for row in places:
        assert np.ptp(np.bincount(row, minlength=6)) <= 1
    for column in places.T:
        assert len(set(column)) == raters


def test_orders_are_permutations_and_every_item_comes_early_and_late():
    found = allocation.orders(20, 5, np.random.default_rng(1))
    assert all(sorted(row) == list(range(20)) for row in found)
    fifth = np.argsort(found, axis=1) // 4
    assert all(sorted(fifth[:, item]) == [0, 1, 2, 3, 4] for item in range(20))


def test_repeats_come_later():
    order = np.arange(30)
    for seed in range(20):
        shown = allocation.with_repeats(order, 0.2, np.random.default_rng(seed))
        assert sorted(item for item, again in shown if not again) == list(range(30))
        repeats = [(place, item) for place, (item, again) in enumerate(shown) if again]
        assert len(repeats) == 6
        for place, item in repeats:
            assert place - shown.index((item, False)) >= 5


def test_a_line_up_holds_other_patients_who_look_alike():
    patients = np.array(["a", "a", "b", "b", *(f"p{n}" for n in range(20))])
    look = np.array([[0.0], [0.1], [0.2], [5.0], *([0.3 + n] for n in range(20))])
    for seed in range(30):
        rows = allocation.line_up(0, patients, look, 5, np.random.default_rng(seed))
        assert "a" not in patients[rows]
        assert len(set(patients[rows])) == 5
        assert look[rows].max() <= 7
    with pytest.raises(ValueError, match="other patients"):
        allocation.line_up(0, patients[:3], look[:3], 5, np.random.default_rng(0))


def test_a_rater_never_sees_both_versions_of_a_patient_in_one_sitting_of_realism(study):
    drawn, _ = study
    for rater in drawn.raters:
        versions: dict[str, set] = {}
        for trial in drawn.of(rater.name):
            if trial.block == "realism":
                versions.setdefault(trial.photo, set()).add(trial.version)
        assert all(len(seen) == 1 for seen in versions.values())
    counts = Counter(
        (trial.rater, trial.version)
        for trial in drawn.trials
        if trial.block == "realism" and not trial.training and not trial.repeat_of
    )
    assert set(counts.values()) == {8}  # half of 16


def test_each_photograph_is_read_in_both_versions_in_separate_sessions_with_a_washout(study):
    drawn, _ = study
    for rater in (one for one in drawn.raters if one.group == "panel"):
        seen: dict[str, dict] = {}
        for trial in drawn.of(rater.name):
            if trial.block == "reading" and not trial.training and not trial.repeat_of:
                seen.setdefault(trial.photo, {})[trial.version] = trial.session
        assert len(seen) == 12
        assert all(set(one) == {"original", "result"} and len(set(one.values())) == 2 for one in seen.values())
        assert Counter(one["original"] for one in seen.values()) == {2: 6, 3: 6}
        assert next(one.wait_days for one in rater.sessions if one.number == 3) == 14


def test_a_line_up_asks_for_another_photograph_of_the_patient_and_shows_each_result_once_a_rater(study):
    drawn, _ = study
    trials = [trial for trial in drawn.trials if trial.block == "identity"]
    owner = {picture.photo: trial.patient for trial in drawn.trials for picture in trial.pictures[:1]}
    for trial in trials:
        choices = trial.pictures[1:]
        assert len({one.photo for one in choices}) == 6
        assert {one.version for one in choices} == {"original"}
        assert trial.same_photo is False
        right = choices[trial.right].photo
        assert right != trial.photo
        assert owner.get(right, trial.patient) == trial.patient
    for rater in drawn.raters:
        mine = [trial for trial in trials if trial.rater == rater.name and not trial.training]
        assert len({trial.patient for trial in mine}) == len(mine)
        assert {trial.version for trial in mine} == {"result", "mouth"}


def test_nobody_without_consent_is_shown_as_an_original(study, release):
    drawn, _ = study
    shown = {picture.photo for trial in drawn.trials for picture in trial.pictures if picture.version == "original"}
    allowed = originals(release[1], CONSENT, None)
    refused = {one.photo for one in finished_release(release[0]).photos} - set(allowed)
    assert len(refused) == 2
    assert shown <= set(allowed)
    assert refused & {trial.photo for trial in drawn.trials if trial.block == "usefulness"}  # as results they may be


def test_without_consent_the_arms_with_originals_are_refused(release, tmp_path):
    settings = small_settings(consent_column=None)
    with pytest.raises(PanelError, match="consent"):
        design_study(settings, *release, None, tmp_path / "private" / "x")
    assert not (tmp_path / "private").exists()
    alone = design_study(settings | {"arms": ["usefulness"]}, release[0], None, None, tmp_path / "private" / "x")
    assert not any(alone.shows_originals(rater.name) for rater in alone.raters)
    notice = (tmp_path / "private" / "x" / "raters" / "rater-01" / "NOTICE.txt").read_text()
    assert "no original" in notice


def test_a_rater_folder_gives_no_answer_away(study, release):
    drawn, folder = study
    ids = {picture.photo for trial in drawn.trials for picture in trial.pictures} | {
        one.patient for one in drawn.trials
    }
    digests = {path.stem for path in release[0].rglob("*.png")}
    for rater in drawn.raters:
        mine = folder / "raters" / rater.name
        files = [path for path in mine.rglob("*") if path.is_file()]
        pictures = [path for path in files if path.suffix == ".png"]
        named = [picture.file for trial in drawn.of(rater.name) for picture in trial.pictures]
        assert sorted(path.name for path in pictures) == sorted(named)
        assert len({path.stat().st_size for path in pictures}) == 1
        assert len({path.stat().st_mtime_ns for path in files}) == 1
        assert all(png_problems(path.read_bytes()) == [] for path in pictures)
        assert all(re.fullmatch(r"[a-z2-7]{16}\.png", path.name) for path in pictures)
        page = (mine / "index.html").read_text()
        assert not any(name in page for name in ids | digests)
        data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
        assert data == page_data(drawn, rater)
        told = {
            key for session in data["sessions"] for block in session["blocks"] for t in block["trials"] for key in t
        }
        assert told == {"id", "practice", "pictures"}
        assert str(drawn.settings["seed"]) not in re.findall(r'"seed": ?(\d+)', page)
        assert "://" not in page


def test_names_and_order_of_files_say_nothing_about_the_version(study):
    drawn, _ = study
    pictures = [picture for trial in drawn.trials for picture in trial.pictures[:1] if picture.version != "mouth"]
    pictures.sort(key=lambda one: one.file)
    ranks = {v: [n for n, one in enumerate(pictures) if one.version == v] for v in ("original", "result")}
    assert stats.mannwhitneyu(ranks["original"], ranks["result"]).pvalue > 0.01


def test_pictures_show_what_the_key_says(study, release):
    """Of every picture: the release's pixels, the original's, or the release's preserved core alone."""
    drawn, folder = study
    source = finished_release(release[0])
    released = {one.photo: decode_png(source.read(one)) for one in source.photos}
    taken, cores = {}, {}
    for shard in (release[1] / "shards").iterdir():
        rows = tables.read(shard / "photos.parquet", tables.PHOTOS, ["release_photo_id", "image"]).to_pylist()
        taken |= {row["release_photo_id"]: decode_png(row["image"]) for row in rows}
        rows = tables.read(shard / "regions.parquet", tables.REGIONS, ["release_photo_id", "core"]).to_pylist()
        cores |= {row["release_photo_id"]: decode_png(row["core"]) for row in rows}
    for trial in drawn.trials:
        for picture in trial.pictures:
            image = {
                "result": released[picture.photo],
                "original": taken[picture.photo],
                "mouth": np.where(cores[picture.photo][..., None] > 0, released[picture.photo], GREY).astype(np.uint8),
            }[picture.version]
            shown = decode_png((folder / "raters" / trial.rater / "pictures" / picture.file).read_bytes())
            assert np.array_equal(shown, framed(image, None, 64))


def test_a_frame_that_leaves_the_photograph_is_cut_to_what_is_inside():
    assert filled_box({"crop_left": -10, "crop_top": 0, "crop_side": 100}, 200, 200) == (10, 5, 90)
    assert filled_box({"crop_left": 150, "crop_top": 20, "crop_side": 100}, 200, 200) == (0, 25, 50)
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, 10:] = 255
    assert framed(image, (10, 5, 90), 30).min() == 255


def test_private_folders_are_closed_and_say_what_they_hold(study):
    _, folder = study
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert "ORIGINAL PHOTOGRAPHS OF PATIENTS" in (folder / "NOTICE.txt").read_text()
    assert "ORIGINAL PHOTOGRAPHS OF PATIENTS" in (folder / "raters" / "rater-01" / "NOTICE.txt").read_text()


def test_a_pending_release_is_drawn_from_before_it_exists(release, tmp_path):
    """The same pictures as of the release that comes of it; none where the run decided against one, or has one."""
    private = tmp_path / "results" / "private"
    shutil.copytree(release[1], private, ignore=shutil.ignore_patterns("panel"))
    shards = sorted(path.name for path in (private / "shards").iterdir())
    (private / "plan.json").write_text(json.dumps({"shards": shards}))
    (tmp_path / "results" / ".lock").write_text(json.dumps({"version": "1.0.0"}))
    required = {"review": "required", "reviewers": 1}
    passed = verdict_on(list(all_outcomes(private, shards)))
    assert decide(private, shards, passed, {}, required).why == "review_pending"
    pending, finished = pending_release(private), finished_release(release[0])
    assert (pending.version, pending.content_sha256) == ("1.0.0", None)
    assert [(one.photo, one.patient, one.view, one.sha256) for one in pending.photos] == [
        (one.photo, one.patient, one.view, one.sha256) for one in finished.photos
    ]
    assert all(pending.read(a) == finished.read(b) for a, b in zip(pending.photos, finished.photos, strict=True))
    drawn = design_study(small_settings(arms=["usefulness"]), None, private, None, private / "panel" / "first")
    assert set(drawn.release["judged_sha256"]) <= {one.sha256 for one in finished.photos}
    done = CliRunner().invoke(app, ["panel", "design", str(tmp_path / "results")])
    assert "consent" in done.output  # the default arms show originals, so it came that far
    decide(private, shards, verdict_on(list(all_outcomes(private, shards)), passed=False), {}, required)
    with pytest.raises(PanelError, match="against"):
        pending_release(private)
    decide(private, shards, passed, {}, required)
    (tmp_path / "results" / "release" / "1.0.0").mkdir(parents=True)
    (tmp_path / "results" / "release" / "1.0.0" / "SHA256SUMS").touch()
    with pytest.raises(PanelError, match="released already"):
        pending_release(private)


def test_the_same_seed_draws_the_same_study_and_another_seed_another(study, release, tmp_path):
    drawn, folder = study
    again = design_study(small_settings(acquainted=2), *release, None, tmp_path / "private" / "a")
    assert again == drawn == read_study(folder)
    other = design_study(small_settings(acquainted=2, seed=8), *release, None, tmp_path / "private" / "b")
    assert [one.photo for one in other.trials] != [one.photo for one in drawn.trials]


def test_the_real_photographs_may_come_from_another_cohort(release, tmp_path):
    _, other = write_small_release(tmp_path / "other", patients=8, name="stranger")
    settings = small_settings(arms=["realism"])
    drawn = design_study(settings, release[0], None, other, tmp_path / "private" / "panel" / "x")
    results = {one.photo for trial in drawn.trials for one in trial.pictures if one.version == "result"}
    assert photographs_without_consent(tmp_path / "private", results) == {}  # the others' own run knows the originals
    assert photographs_without_consent(tmp_path / "private", set()) == {"x": len(results)}
    for rater in drawn.raters:
        counts = Counter(t.version for t in drawn.of(rater.name) if not t.training and not t.repeat_of)
        assert counts["original"] == counts["result"] > 0
    with pytest.raises(PanelError, match="other cohort"):
        design_study(settings | {"consent_column": "never_asked"}, release[0], None, other, tmp_path / "private" / "y")


def test_a_study_whose_patients_withdrew_is_told(release, tmp_path):
    drawn = design_study(small_settings(), *release, None, tmp_path / "private" / "panel" / "first")
    assert withdrawn_words(release[1]) == []
    agreed = agreed_photos(release[1])
    assert photographs_without_consent(tmp_path / "private", agreed) == {}
    for version in ("original", "result"):
        shown = min(one.photo for trial in drawn.trials for one in trial.pictures if one.version == version)
        assert photographs_without_consent(tmp_path / "private", agreed - {shown}) == {"first": 1}


def test_a_study_is_never_overwritten(study, release):
    with pytest.raises(PanelError, match="exists"):
        design_study(small_settings(), *release, None, study[1])


def test_a_small_release_says_what_it_could_not_give(release, tmp_path):
    settings = small_settings(photographs={"realism": 400, "reading": 300, "usefulness": 20, "identity": 24})
    drawn = design_study(settings, *release, None, tmp_path / "private" / "x")
    assert len(drawn.notes) >= 3
    plan = json.loads((tmp_path / "private" / "x" / "plan.json").read_text())
    assert plan["notes"] == drawn.notes
    assert not any(trial.photo in json.dumps(plan) for trial in drawn.trials)


def test_a_damaged_image_of_the_release_ends_the_design(release, tmp_path):
    import shutil

    copy = tmp_path / "release" / "1.0.0"
    shutil.copytree(release[0], copy)
    for path in copy.rglob("*.png"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(PanelError, match="damaged"):
        design_study(small_settings(arms=["usefulness"]), copy, None, None, tmp_path / "private" / "x")
    assert not (tmp_path / "private" / "x").exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"raters": 1}, "raters"),
        ({"rater": 5}, "rater"),
        ({"arms": ["beauty"]}, "arms"),
        ({"photographs": {"realism": "many"}}, "photographs.realism"),
        ({"free_items": [{"name": "x", "question": "Which?", "scale": "ordinal", "answers": ["one"]}]}, "free_items"),
        (
            {"free_items": [{"name": "overjet", "question": "How?", "scale": "ordinal", "answers": ["a", "b"]}]},
            "overjet",
        ),
        ({"margins": {"ovrejet": 0.2}}, "ovrejet"),
        ({"consent_column": "a", "consent_reference": "IRB 1"}, "consent_column"),
    ],
)
def test_a_wrong_study_file_is_refused_by_name(given, named):
    with pytest.raises(PanelError, match=named):
        complete(given)


def test_free_items_are_asked(release, tmp_path):
    item = {"name": "lip_scar", "question": "Is there a scar of the lip?", "scale": "nominal", "answers": ["no", "yes"]}
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"free_items": [item], "findings": ["midline"], "arms": ["diagnosis"]}))
    settings = read_settings(path) | {"consent_column": CONSENT, "picture_side": 64}
    drawn = design_study(settings, *release, None, tmp_path / "private" / "x")
    asked = page_data(drawn, drawn.raters[0])["sessions"][0]["blocks"][0]["questions"]
    assert [question["name"] for question in asked] == ["midline", "lip_scar"]


def test_the_command_line_designs_below_private_alone(release, tmp_path):
    settings = tmp_path / "study.yaml"
    settings.write_text("arms: [usefulness]\npicture_side: 64\n")
    runner = CliRunner()
    outside = runner.invoke(
        app, ["panel", "design", str(release[0]), "--study", str(settings), "--out", str(tmp_path / "x")]
    )
    assert outside.exit_code == 1
    assert not (tmp_path / "x").exists()
    inside = ["panel", "design", str(release[0]), "--study", str(settings), "--private", str(release[1])]
    assert runner.invoke(app, inside).exit_code == 0
    assert (release[1] / "panel" / "1.0.0" / "raters" / "rater-05" / "index.html").is_file()


def test_power_of_equivalence_is_what_simulation_gives():
    rng = np.random.default_rng(1)
    means = rng.normal(0, np.sqrt(0.2**2 + 0.7**2 / 5), (1500, 20))
    hits = np.mean([ttost_paired(row, np.zeros(20), -0.3, 0.3)[0] < 0.05 for row in means])
    assert power.power_of_equivalence(20, 5, 0.2, 0.7, 0.3) == pytest.approx(hits, abs=0.03)


def test_power_against_chance_is_what_simulation_gives():
    rng = np.random.default_rng(2)
    hits = np.mean([stats.binomtest(int(k), 60, 0.5).pvalue <= 0.05 for k in rng.binomial(60, 0.65, 1500)])
    assert power.power_against_chance(60, 0.5, 0.65) == pytest.approx(hits, abs=0.04)


def test_the_design_effect_is_what_crossed_answers_have():
    rng = np.random.default_rng(3)
    raters, patients = 5, 30
    means = [
        (rng.normal(0, np.sqrt(0.1), (raters, 1)) + rng.normal(0, np.sqrt(0.2), (1, patients))
         + rng.normal(0, np.sqrt(0.7), (raters, patients))).mean() for _ in range(4000)
    ]  # fmt: skip
    assert 1 / np.var(means) == pytest.approx(power.effective_answers(raters, patients, 0.1, 0.2), rel=0.08)


def test_the_width_of_an_icc_is_what_simulation_gives():
    rng = np.random.default_rng(4)
    icc, raters, patients = 0.6, 4, 60
    found = [
        agreement.icc_a1(
            rng.normal(0, np.sqrt(icc), (patients, 1)) + rng.normal(0, np.sqrt(1 - icc), (patients, raters))
        )
        for _ in range(1500)
    ]
    assert power.icc_half_width(patients, raters, icc) == pytest.approx(1.96 * np.std(found), rel=0.1)


def test_the_readme_of_a_study_names_no_path(study):
    for path in Path(study[1]).glob("*.txt"):
        assert "/tmp" not in path.read_text()
