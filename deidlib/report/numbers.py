"""Everything that ``audit.json`` holds, from the tally of all outcomes, the release folder and the attack suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from deidlib.checks.smile import MEASURES
from deidlib.config import stage_options
from deidlib.contract.routes import GENERATE
from deidlib.outcomes.outcomes import STEPS
from deidlib.outcomes.selection import words as selection_words
from deidlib.release import content_digest, redact, verify_release
from deidlib.release.card import read_card
from deidlib.release.layout import CARD_FILE
from deidlib.release.reading import listed_sums, read_index
from deidlib.release.study import stated_fields
from deidlib.release.verify import Examined
from deidlib.report.attacks import PRIVATE_LISTS, nothing_attacked
from deidlib.report.criteria import conclusion, photograph_criteria, review_criteria, suite_criteria
from deidlib.report.smile import SEED, smile_numbers
from deidlib.report.tally import (
    CLASSES,
    JUDGES,
    Tally,
    applicable,
    histogram,
    judge_numbers,
    rate,
    summary,
)
from deidlib.review.effect import nobody_looked, review_words
from deidlib.storage import provenance, tables
from deidlib.storage.reasons import text_of

#: Distributions whose versions the audit states.
SOFTWARE = (
    "deidlib",
    "torch",
    "lpips",
    "mediapipe",
    "opencv-contrib-python-headless",
    "dlib-bin",
    "onnxruntime",
    "numpy",
    "scipy",
    "pyarrow",
    "matplotlib",
    "weasyprint",
    "snakemake",
)


def audit_numbers(
    tally: Tally,
    suite: dict | None,
    release_folder: Path | None,
    index: pa.Table | None,
    attempts: int,
    version: str,
    config: dict,
    models: list[dict],
    tombstones: int = 0,
    review: dict | None = None,
    selected: dict | None = None,
    examined: Mapping[str, Examined] | None = None,
) -> dict:
    """Everything that ``audit.json`` holds.

    Parameters
    ----------
    tally : Tally
        All outcomes.
    suite : dict or None
        From :func:`deidlib.report.attacks.read_attacks`; None where the attack suite did not run.
    release_folder, index
        The release and its index, None where there is none (or where the index cannot be read).
    attempts, version, config, models
        As for :func:`deidlib.release.write_release`.
    tombstones : int
        Number of ids that recipients of earlier versions have to delete.
    review : dict, optional
        From :func:`deidlib.review.effect.review_numbers`; by default nobody looked.
    selected : dict, optional
        From :func:`deidlib.outcomes.selection.selection`.
    examined : mapping, optional
        As :func:`deidlib.release.verify.verify_release` takes it.
    """
    review = review or nobody_looked(len(tally.released_ids))
    thresholds = stage_options(config, "checks")
    release = _release_numbers(tally, release_folder, index, examined)
    refused = suite is not None and suite["gate"].get("passed") is not True
    withheld = not release["written"] and (refused or review["waiting"] > 0)
    rows = (
        photograph_criteria(tally, thresholds, release, withheld)
        + review_criteria(review)
        + suite_criteria(suite, len(tally.released_ids))
    )
    verdict = conclusion(rows, tally, release["written"])
    attacked = suite or nothing_attacked()
    attacked = {key: value for key, value in attacked.items() if key not in ("gate", *PRIVATE_LISTS)}
    attacked["scores"] = [_in_classes(scores) for scores in attacked["scores"]]
    return {
        "title": config.get("release", {}).get("name") or "De-identified dental photographs",
        "study": stated_fields(config),
        "version": version,
        "date": _date(release_folder),
        "conclusion": verdict,
        "gate": {"passed": verdict["passed"], "verdict": verdict["verdict"], "criteria": rows},
        "release": release,
        "tombstones": tombstones,
        "review": review | {"words": review_words(review)},
        "selection": (selected or {}) | {"words": selection_words(selected) if selected else ""},
        "cohort": _cohort_numbers(tally, attempts, release["written"]),
        "privacy": {name: judge_numbers(tally, name, thresholds) for name in JUDGES},
        "fidelity": _fidelity_numbers(tally, thresholds),
        **attacked,
        "seeds": attacked["seeds"] | {"smile_bootstrap": SEED},
        "models": redact.public_models(models, bool(tally.routes[GENERATE]) or not tally.routes, attacked=True),
        "configuration": redact.public_config(config),
        "configuration_sha256": redact.config_digest(config),
        "code_sha256": provenance.code_digest(),
        "software": {name: _installed(name) for name in SOFTWARE},
    }


def _in_classes(scores: dict) -> dict:
    """Lowest, median and highest score, rounded to classes: an exact score would identify its photograph."""
    width = scores.get("width") or CLASSES["sface_cosine"]
    kept = {name: scores[name] for name in ("min", "median", "max") if scores.get(name) is not None}
    return scores | {name: round(round(value / width) * width, 6) for name, value in kept.items()}


def index_of(folder: Path | None) -> pa.Table | None:
    """Read the release's index; None where there is none, or where it cannot be read."""
    if folder is None:
        return None
    try:
        return read_index(folder).select(tables.INDEX.names)
    except (ValueError, KeyError):
        return None


def _date(folder: Path | None) -> str | None:
    """Date of the release, as its data card states it; the audit has none of its own, so that it can be made again."""
    try:
        return str(read_card((folder / CARD_FILE).read_text(encoding="utf-8"))["date"]) if folder else None
    except (OSError, ValueError, KeyError):
        return None


def _fidelity_numbers(tally: Tally, thresholds: dict) -> dict:
    measured = {
        name: summary(tally.released[name], name, thresholds)
        for name in ("survival", "realism", "seam", "mouth_shift", "latent_distance")
    }
    for name, numbers in measured.items():
        width = CLASSES[name]
        numbers["histogram"] = {"width": width, "bins": histogram(tally.released[name], width)}
    counted = {
        name: {"kept": _kept(tally.released[name], name), "n": len(applicable(tally.released[name]))}
        for name in ("core_equal", "metadata_free", "faces_yunet", "faces_mediapipe")
    }
    smile = {name: smile_numbers(name, tally.smile[name], tally.owners) for name in MEASURES}
    return measured | counted | {"smile": smile}


def _release_numbers(
    tally: Tally, folder: Path | None, index: pa.Table | None, examined: Mapping[str, Examined] | None
) -> dict:
    if folder is None or not folder.is_dir():
        nothing = {"written": False, "problems": 0, "agrees": False}
        return nothing | {"content_sha256": None, "images": 0, "pixels": None}
    agrees = index is not None and _as_judged(tally) == _as_indexed(index)
    side = index["width"].to_pylist() if index is not None and index.num_rows else []
    area = sum(w * h for w, h in zip(side, index["height"].to_pylist(), strict=True)) if side else 0
    share = round(tally.core_pixels / area, 2) if area else None
    problems = verify_release(folder, examined=examined)
    # Without a problem, the files are what SHA256SUMS lists, and reading them all again would tell nothing.
    content = content_digest(folder if problems else listed_sums(folder))
    return {
        "written": True,
        "problems": len(problems),
        "agrees": agrees,
        "content_sha256": content,
        "images": len(side),
        "pixels": {"smallest_side": min(side), "largest_side": max(side), "patients_own_share": share}
        if side
        else None,
    }


def _as_judged(tally: Tally) -> list[tuple]:
    return sorted(zip(tally.released_ids, tally.digests, strict=True))


def _as_indexed(index: pa.Table) -> list[tuple]:
    rows = index.select(["release_photo_id", "sha256"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def _cohort_numbers(tally: Tally, attempts: int, written: bool) -> dict:
    passed, patients = len(tally.released_ids), len(tally.released_patients)
    return {
        "photographs": tally.photographs,
        "patients": len(tally.patients),
        "passed": passed,
        "passed_patients": patients,
        "passed_rate": rate(passed, tally.photographs),
        "released": passed if written else 0,
        "released_patients": patients if written else 0,
        "quarantined": sum(tally.reasons.values()),
        "flow": _flow(tally),
        "reasons": {code: {"photographs": n, "meaning": text_of(code)} for code, n in sorted(tally.reasons.items())},
        "views": _sorted(tally.views),
        "routes": _sorted(tally.routes),
        "methods": _sorted(tally.methods),
        "attempts": [
            {"attempt": number, "judged": tally.judged[number], "released": tally.attempts[number]}
            for number in range(max([attempts, *(made + 1 for made in tally.judged)]))
        ],
        "failed_checks": _sorted(tally.failed_checks),
    }


def _flow(tally: Tally) -> list[dict]:
    """Photographs that enter each step and those that it holds back, by reason, the most frequent first."""
    entering, flow = tally.photographs, []
    for step in STEPS:
        lost = {reason: n for (at, reason), n in tally.lost.items() if at == step}
        if step == "review" and not lost:
            continue  # a row only where a reviewer turned a photograph down
        ordered = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
        flow.append({"step": step, "entering": entering, "held_back": dict(ordered)})
        entering -= sum(lost.values())
    return flow


def _kept(values: list, name: str) -> int:
    expected = 1 if name.startswith("faces_") else True
    return sum(value is not None and value == expected for value in values)


def _sorted(counts: Counter) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
