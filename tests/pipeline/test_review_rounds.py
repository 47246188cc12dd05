"""Two rounds of a required review through the workflow: another face, then a wrong area with a drawn mask.

One virtual patient with two photographs, and the portrait that scikit-image ships (NASA, public domain), in one shard.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from skimage import data
from snakemake_runs import SETTINGS, contents

from deidlib import keys
from deidlib.demo import virtual_patients
from deidlib.donors import model
from deidlib.release import verify_release
from deidlib.release.decision import REVIEW, read_decision
from deidlib.report.mask import read_photograph
from deidlib.review import views
from deidlib.review.cases import Cohort
from deidlib.review.decisions import Decision, now
from deidlib.review.masks import save_mask

KEY = "one fixed key, so that every run of this test draws the same donors"
DRAWN, PORTRAIT = "SentinelDrawn", "SentinelPortrait"
REST, SMILE, OTHER = (
    keys.pseudonym(KEY.encode(), "photo", *ids)
    for ids in ((DRAWN, "SentinelRest"), (DRAWN, "SentinelSmile"), (PORTRAIT, "SentinelPhoto"))
)
NOTE = "Sentinel note: I know this chin, says Sentinel Reviewer"
VERSION = "1.0.0"
CHEAP = {
    "attempts": 1,
    "review": "required",
    "preset": SETTINGS["preset"] | {"inversion": {"steps": 2}},
    "reid": {"sweep_photos": 0, "reversal_steps": 0, "recognisers": ["sface"]},
    "release": {"k": 1, "columns": {}, "date": "2026-03-01"},
}


class Run:
    """A results folder, the command that works in it, and what a reviewer sees and does there."""

    def __init__(self, folder: Path):
        self.folder, self.results = folder, folder / "results"
        self.private = self.results / "private"
        self.release, self.report = self.results / "release" / VERSION, self.results / "report" / VERSION

    def go(self) -> tuple[int, str]:
        """``deidlib run``: exit code and last lines."""
        command = Path(sys.executable).with_name("deidlib")
        line = [command, "run", "cohort/samples.tsv", "--key", "key", "--configfile", "my.yaml", "--cores", "2"]
        done = subprocess.run(line, cwd=self.folder, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def command(self, *arguments) -> subprocess.CompletedProcess:
        command = Path(sys.executable).with_name("deidlib")
        return subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=False)

    def rows(self, table: str) -> dict[str, dict]:
        path = self.private / "shards" / "s0000" / f"{table}.parquet"
        names = [name for name in pq.read_schema(path).names if name not in ("image", "mask", "core", "band")]
        return {row["release_photo_id"]: row for row in pq.read_table(path, columns=names).to_pylist()}

    def images(self, attempt: int) -> dict[str, str]:
        """Photograph → digest of the image that an attempt made."""
        return {photo: row["sha256"] for photo, row in self.rows(f"attempt-{attempt}/checks").items()}

    def donors(self, attempt: int) -> dict[str, str]:
        return {photo: row["donor_id"] for photo, row in self.rows(f"attempt-{attempt}/donors").items()}

    def attempts(self) -> dict[str, int | None]:
        """Photograph → the attempt whose image the page shows."""
        return {case.photo: case.attempt for cases in Cohort(self.results).patients().values() for case in cases}

    def states(self) -> dict[str, str]:
        """Photograph → the verdict on the image that the page shows."""
        cohort = Cohort(self.results)
        return {case.photo: cohort.verdict(case).state for cases in cohort.patients().values() for case in cases}

    def decide(self, photo: str, kind: str, role: str = "clinician", note: str = "") -> None:
        """Decide on the image that the page shows, as the page does."""
        cohort = Cohort(self.results)
        seen = views.detail(cohort, cohort.case(photo), 1)
        given = {"photo": photo, "sha256": seen["sha256"], "decision": kind, "reason": None, "note": note}
        views.decide(cohort, given | {"seen": seen["seen"]}, role, 1)

    def exported(self, **kinds: str) -> Path:
        """A file of decisions as the page without a server exports it: photograph → decision."""
        cohort = Cohort(self.results)
        made = []
        for photo, kind in kinds.items():
            case = cohort.case(photo)
            made.append(Decision(photo, cohort.digest(case), case.attempt, kind, None, NOTE, "orthodontist", 1, now()))
        file = self.folder / "review-decisions.json"
        file.write_text(json.dumps({"format": "deidlib review 1", "decisions": [asdict(one) for one in made]}))
        return file

    def draw_larger(self, photo: str) -> None:
        """Save a mask as the page does: the area that it proposes, and a little around it."""
        cohort = Cohort(self.results)
        case = cohort.case(photo)
        proposed = read_photograph(self.private, [case.shard], photo)
        mask = cv2.dilate(proposed.area, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)))
        assert (mask > 127).sum() > (proposed.area > 127).sum() > 0
        save_mask(self.private, case.shard, photo, cv2.imencode(".png", mask)[1].tobytes(), mask.shape)


@pytest.fixture
def run(tmp_path, model_files):
    model_files("mobilestylegan")
    generator, editor, _ = model.donor_model("mobilestylegan")
    (rest, smile), *_ = virtual_patients(generator, editor, count=1)
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    for name, image in (("rest", rest), ("smile", smile)):
        Image.fromarray(image).resize((420, 420), Image.Resampling.LANCZOS).save(cohort / f"{name}.png")
    Image.fromarray(data.astronaut()[:400, 20:420]).save(cohort / "other.png")
    rows = [
        "patient_id\tphoto_id\tpath\tconsent\tview",
        f"{DRAWN}\tSentinelRest\trest.png\tyes\tfrontal_rest",
        f"{DRAWN}\tSentinelSmile\tsmile.png\tyes\tfrontal_smile",
        f"{PORTRAIT}\tSentinelPhoto\tother.png\tyes\tfrontal_smile",
    ]
    (cohort / "samples.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(SETTINGS | CHEAP))
    return Run(tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_another_face_and_a_drawn_mask_each_wait_for_a_second_decision_and_end_in_a_release(run):
    first = nobody_has_looked(run)
    second = another_face_is_a_further_attempt_of_its_patient(run, first)
    a_drawn_mask_changes_its_photograph_alone(run, first, second)
    the_last_decision_releases(run)
    one_decision_of_two_releases_nothing(run)


def stops(run: Run, waits: str) -> str:
    """Run until it stops for a reviewer; what it says."""
    code, said = run.go()
    assert code == 1, said
    assert waits in said, said
    assert not run.release.exists()
    return said


def nobody_has_looked(run: Run) -> dict[str, str]:
    said = stops(run, "3 photographs wait for a reviewer")
    assert "deidlib review results, then start the same command again" in said
    first = run.images(0)
    assert set(first) == {REST, SMILE, OTHER}
    assert run.states() == dict.fromkeys(first, "undecided")
    return first


def another_face_is_a_further_attempt_of_its_patient(run: Run, first: dict[str, str]) -> dict[str, str]:
    run.decide(SMILE, "another_face", note=NOTE)
    run.decide(REST, "release")
    run.decide(OTHER, "release", role="surgeon")
    stops(run, "2 photographs wait for a reviewer")
    assert run.images(0) == first
    second = run.images(1)
    assert set(second) == {REST, SMILE}, "both show the face, and nobody else's photograph is made again"
    assert not set(second.values()) & set(first.values())
    before, now_ = run.donors(0), run.donors(1)
    assert now_[REST] == now_[SMILE] != before[SMILE] == before[REST], "one new person for both"
    assert run.attempts() == {REST: 1, SMILE: 1, OTHER: 0}
    assert run.states() == {REST: "undecided", SMILE: "undecided", OTHER: "release"}, "the old decisions are stale"
    return second


def a_drawn_mask_changes_its_photograph_alone(run: Run, first: dict[str, str], second: dict[str, str]) -> None:
    donors = run.donors(1)
    taken = run.command("review", run.results, "--import", run.exported(**{REST: "release", SMILE: "area_wrong"}))
    assert "decisions: 2 taken in" in taken.stdout + taken.stderr, taken.stderr
    run.draw_larger(SMILE)
    stops(run, "1 photograph waits for a reviewer")
    methods = {photo: row["method"] for photo, row in run.rows("regions").items()}
    assert methods == {REST: "mouth", SMILE: "mask", OTHER: "mouth"}
    assert run.images(1)[SMILE] not in {*first.values(), *second.values()}
    assert run.images(1)[REST] == second[REST], "the image that was decided on"
    assert run.images(0)[OTHER] == first[OTHER], "the image that was decided on"
    assert run.donors(1) == donors
    assert run.attempts() == {REST: 1, SMILE: 1, OTHER: 0}, "the face that was turned down does not come back"
    assert run.states() == {REST: "release", SMILE: "undecided", OTHER: "release"}


def the_last_decision_releases(run: Run) -> None:
    run.decide(SMILE, "release", role="orthodontist")
    code, said = run.go()
    assert code == 0, said
    assert "3 of 3 photographs, 2 patients, as version 1.0.0" in said, said
    assert verify_release(run.release) == []
    index = {row["release_photo_id"]: row for row in pq.read_table(run.release / "index.parquet").to_pylist()}
    methods = {photo: row["region_method"] for photo, row in index.items()}
    assert methods == {REST: "mouth", SMILE: "mask", OTHER: "mouth"}
    review = json.loads((run.report / "audit.json").read_text())["review"]
    assert (review["looked_at"], review["waiting"], review["verdicts"]) == (3, 0, {"release": 3})
    assert review["roles"] == {"orthodontist": 2, "surgeon": 1}
    for part in (run.release, run.report):
        for name, content in contents(part).items():
            table = pq.read_table(part / name) if name.endswith(".parquet") else None
            text = content + (f"{table.schema.metadata}{table.to_pylist()}".encode() if table else b"")
            assert b"Sentinel" not in text, name
            assert os.fsencode(run.folder) not in text, name


def one_decision_of_two_releases_nothing(run: Run) -> None:
    settings = json.dumps({**yaml.safe_load((run.folder / "my.yaml").read_text()), "reviewers": 2, "version": "1.1.0"})
    plan, attacks = run.private / "plan.json", run.private / "reid" / "attacks.json"
    done = run.command("decide", "--plan", plan, "--attacks", attacks, "--config", settings)
    assert done.returncode == 0, done.stderr
    decision = read_decision(run.private)
    assert (decision.release, decision.why, decision.review["waiting"]) == (False, REVIEW, 3)
    given = "--plan", plan, "--sheet", run.folder / "cohort" / "samples.tsv", "--config", settings
    refused = run.command("release", *given, "--out", run.results / "release" / "1.1.0")
    assert refused.returncode != 0
    assert "3 photographs wait for a reviewer" in refused.stderr
    assert not (run.results / "release" / "1.1.0").exists()
