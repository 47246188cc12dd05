"""What became of every photograph: released with an attempt, or quarantined with a reason.

Reads the stage tables of one shard without their images, so memory grows with rows and not with pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.errors import InputError
from deidlib.intake.routes import INTRAORAL, REGION_ONLY, most_faces
from deidlib.outcomes.attempts import GROUP_COLUMN, released_attempts
from deidlib.storage import sealed, tables

#: Checks without a number or with a null are failures: (column of tables.CHECKS, what must hold).
MUST_HAVE = (
    "sface_cosine",
    "dlib_distance",
    "faces_yunet",
    "faces_mediapipe",
    "second_face",
    "core_equal",
    "survival",
    "realism",
    "metadata_free",
)
_ALONE = (
    "sface_cosine",
    "dlib_distance",
    "faces_yunet",
    "faces_mediapipe",
    "faces_dlib",
    "core_equal",
    "metadata_free",
)
#: Checks that may not have been run (null); a number beyond its threshold is a failure all the same.
OPTIONAL = ("seam", "mouth_shift", "latent_distance")

#: The same for a photograph without a generated face, by route.
MUST_HAVE_WITHOUT_FACE = {
    REGION_ONLY: (*_ALONE, "outside_neutral"),
    INTRAORAL: _ALONE,
}
#: A recogniser's check that says it is not applicable is excused where this detector found no face either.
EXCUSED = {"sface_cosine": "faces_yunet", "dlib_distance": "faces_dlib"}

#: Check → (key of config["checks"], whether the threshold is an upper bound, whether equality passes).
THRESHOLDS = {
    "sface_cosine": ("sface_max", True, False),
    "dlib_distance": ("dlib_min", False, False),
    "second_face": ("second_face_max", True, True),
    "survival": ("survival_max", True, True),
    "seam": ("seam_max", True, True),
    "mouth_shift": ("mouth_shift_max", True, True),
    "latent_distance": ("latent_distance_max", True, True),
    "realism": ("realism_min", False, True),
}

_PHOTO_COLUMNS = [name for name in tables.PHOTOS.names if name not in ("image", "mask")]


@dataclass(frozen=True)
class Outcome:
    """One photograph's way through the pipeline.

    Attributes
    ----------
    photo : dict
        Its row of tables.PHOTOS without pixels (identifying: patient_id, photo_id, columns).
    attempt : int or None
        The attempt that is released, None when quarantined.
    reason : str or None
        Reason code (tables.REASONS) of a quarantined photograph.
    check : dict or None
        The released attempt's row of tables.CHECKS.
    tries : tuple of dict
        Every row of tables.CHECKS of this photograph, in the order of attempts.
    region : dict or None
        Route, method, crop and core size of a photograph that reached the region stage.
    """

    photo: dict
    attempt: int | None
    reason: str | None
    check: dict | None
    tries: tuple[dict, ...]
    region: dict | None


def within(check: str, value: float | None, thresholds: dict) -> bool | None:
    """Whether a check's number keeps its threshold; None where there is no number or no threshold.

    Parameters
    ----------
    check : str
        A key of :data:`THRESHOLDS`.
    value : float or None
        The number; NaN counts as no number.
    thresholds : dict
        ``config["checks"]``.
    """
    key, upper, equal = THRESHOLDS[check]
    limit = thresholds.get(key)
    if limit is None or value is None or math.isnan(value):
        return None
    if value == limit:
        return equal
    return value < limit if upper else value > limit


def gate_failures(check: dict, thresholds: dict, region_method: str | None = None) -> list[str]:
    """Names of the checks that keep a photograph out, judged from the numbers and not from ``passed``.

    A null in a must-have check is a failure, and so is a must-have check without a threshold; a null in an
    optional one is not. Where there is no generated face the preserved area says how many a detector may report.
    """
    generated = check["route"] not in MUST_HAVE_WITHOUT_FACE
    fewest, most = (1, 1) if generated else (0, most_faces(region_method))
    claimed = () if generated else check["not_applicable"] or ()
    excused = [name for name, detector in EXCUSED.items() if name in claimed and check[detector] == 0]
    failures = []
    for name in MUST_HAVE if generated else MUST_HAVE_WITHOUT_FACE[check["route"]]:
        value = check[name]
        if name in excused and value is None:
            continue
        if name.startswith("faces_"):
            good = value is not None and fewest <= value <= most
        elif name in THRESHOLDS:
            good = within(name, value, thresholds) is True
        else:
            good = value is True
        if not good:
            failures.append(name)
    return failures + [name for name in OPTIONAL if within(name, check[name], thresholds) is False]


def _group(photo: dict, region: dict | None, identity: str) -> str:
    """What a photograph is released together with: only generated faces have to be one new person."""
    alone = region is not None and region["route"] in MUST_HAVE_WITHOUT_FACE
    return photo["release_photo_id"] if alone else photo[GROUP_COLUMN[identity]]


def read_outcomes(
    private: Path, shard: str, attempts: int, thresholds: dict, identity: str = "per_patient"
) -> list[Outcome]:
    """Read the outcomes of one shard, in the order of its photos table.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shard : str
        Shard name.
    attempts : int
        Number of attempts; tables of attempts 0 … attempts − 1 must exist.
    thresholds : dict
        ``config["checks"]``; a photograph passes at an attempt whose row says ``passed`` and whose numbers agree
        with that (:func:`gate_failures`).
    identity : str
        ``per_photo``: a photograph is released at the first attempt that it passes. ``per_patient``: all of a
        patient's photographs are released at one attempt, so that they show one new person: the first of those at
        which most of them pass.

    Raises
    ------
    ReleaseError
        A stage's table is missing.
    """
    folder = Path(private) / "shards" / shard
    photos = read_table(folder / "photos.parquet", tables.PHOTOS, _PHOTO_COLUMNS).to_pylist()
    landmarks = _stopped(read_table(folder / "landmarks.parquet", tables.LANDMARKS, _STATUS))
    region_columns = ["release_photo_id", "route", "method", "crop_side", "core_pixels", "status", "reason"]
    region_table = read_table(folder / "regions.parquet", tables.REGIONS, region_columns)
    regions = _by_photo(tables.handled(region_table).to_pylist())
    stopped = landmarks | _stopped(region_table)
    tries: dict[str, list[dict]] = {}
    lost: dict[str, list[str]] = {}
    for attempt in range(attempts):
        there = folder / f"attempt-{attempt}"
        for row in read_table(there / "checks.parquet", tables.CHECKS).to_pylist():
            tries.setdefault(row["release_photo_id"], []).append(row)
        for stage, schema in (
            ("donors", tables.DONORS),
            ("faces", tables.FACES),
            ("blended", tables.BLENDED),
        ):
            for photo_id, reason in _stopped(read_table(there / f"{stage}.parquet", schema, _STATUS)).items():
                lost.setdefault(photo_id, []).append(reason)
    passed = {
        photo_id: {
            row["attempt"]
            for row in rows
            if row["passed"] is True
            and row["route"] == regions.get(photo_id, {}).get("route")
            and not gate_failures(row, thresholds, regions.get(photo_id, {}).get("method"))
        }
        for photo_id, rows in tries.items()
    }
    groups = {i: _group(photo, regions.get(i), identity) for i, photo in _by_photo(photos).items()}
    chosen = released_attempts(list(groups.items()), passed)
    return [
        _outcome(photo, stopped, regions, tries.get(i, []), lost, chosen.get(groups[i]), passed.get(i, set()))
        for photo, i in ((photo, photo["release_photo_id"]) for photo in photos)
    ]


def _outcome(
    photo: dict,
    stopped: dict,
    regions: dict,
    tries: list[dict],
    lost: dict,
    chosen: int | None,
    passed: set[int],
) -> Outcome:
    photo_id = photo["release_photo_id"]
    if photo["status"] != tables.OK:
        return Outcome(photo, None, photo["reason"] or "gate_failed", None, (), None)
    region = regions.get(photo_id)
    if photo_id in stopped or region is None:
        return Outcome(photo, None, stopped.get(photo_id, "gate_failed"), None, (), None)
    if chosen in passed:
        row = next(row for row in tries if row["attempt"] == chosen)
        return Outcome(photo, chosen, None, row, tuple(tries), region)
    stages = lost.get(photo_id, [])
    reason = stages[-1] if len(stages) >= max(1, len(tries)) else "gate_failed"
    return Outcome(photo, None, reason, None, tuple(tries), region)


_STATUS = ["release_photo_id", "status", "reason"]


def read_table(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a shard's table; a missing or outdated one is a ReleaseError that names it, a damaged one is Damaged."""
    where = path.relative_to(path.parents[2] if path.parent.name.startswith("attempt-") else path.parents[1])
    try:
        return tables.read(path, schema, columns)
    except FileNotFoundError:
        raise InputError(f"table {where} is missing: run the workflow, its earlier stages first") from None
    except sealed.Damaged:
        raise
    except OSError as error:
        raise InputError(f"table {where} cannot be read ({error.strerror}): mend that, then run again") from None
    except InputError as error:
        raise InputError(f"shard {where.parts[0]}: {error}") from None


def _stopped(table) -> dict[str, str]:
    gone = table.filter(pc.not_equal(table["status"], tables.OK))
    return {row["release_photo_id"]: row["reason"] or "gate_failed" for row in gone.to_pylist()}


def _by_photo(rows: list[dict]) -> dict[str, dict]:
    return {row["release_photo_id"]: row for row in rows}
