"""Report stage: ``audit.json`` with every number, and ``audit.html``, one self-contained page of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from deidlib import tables
from deidlib.release import content_digest, public, verify_release
from deidlib.release.outcomes import read_outcomes
from deidlib.release.verify import read_index
from deidlib.report import gallery
from deidlib.report.criteria import conclusion, criteria
from deidlib.report.figures import score_figure
from deidlib.report.tally import (
    JUDGES,
    NOT_APPLICABLE,
    OPTIONAL,
    Tally,
    add,
    applicable,
    judge_numbers,
    rate,
    summary,
)

#: Distributions whose versions the audit states.
SOFTWARE = (
    "deidlib",
    "torch",
    "mediapipe",
    "opencv-contrib-python-headless",
    "dlib-bin",
    "numpy",
    "scipy",
    "pyarrow",
    "snakemake",
)
#: Shown range of each judge's figure, and whether scores above the threshold mean the same person.
_FIGURES = {"sface_cosine": (-0.2, 0.8, True), "dlib_distance": (0.3, 1.2, False)}

_GALLERY = ["release_patient_id", "release_photo_id", "path", "view", "route", "sface_cosine", "dlib_distance"]


def write_report(
    private: Path,
    release_folder: Path | None,
    report_root: Path,
    shards: list[str],
    attempts: int,
    version: str,
    config: dict,
    models: list[dict],
) -> Path:
    """Write ``report_root/version/audit.html`` and ``audit.json``.

    From the private folder only numbers and pseudonyms are read; images come from the release folder alone.
    The same inputs give the same bytes: no clock, no host name, no path.

    Parameters
    ----------
    private : Path
        The results' private folder.
    release_folder : Path or None
        The version's release folder, None where nothing was released (the audit then says FAIL and why).
    report_root : Path
        Folder of all versions' reports.
    shards, attempts, version, config, models
        As for :func:`deidlib.release.write_release`.

    Returns
    -------
    Path
        The version's report folder.

    Raises
    ------
    ReleaseError
        A stage's table is missing.
    """
    tally = Tally()
    for shard in shards:
        add(tally, read_outcomes(private, shard, attempts, config["checks"], config["identity"]))
    folder = Path(release_folder) if release_folder is not None else None
    index = _index(folder)
    audit = audit_numbers(tally, folder, index, attempts, version, config, models)
    out = Path(report_root) / version
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "audit.json", json.dumps(audit, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    _write(out / "audit.html", _page(audit, folder, index))
    return out


def audit_numbers(
    tally: Tally,
    release_folder: Path | None,
    index: pa.Table | None,
    attempts: int,
    version: str,
    config: dict,
    models: list[dict],
) -> dict:
    """Everything that ``audit.json`` holds, from the tally of all outcomes and the release folder."""
    thresholds = config["checks"]
    release = _release_numbers(tally, release_folder, index)
    rows = criteria(tally, thresholds, release)
    options = config.get("release", {})
    return {
        "title": options.get("name") or "De-identified dental photographs",
        "institution": config.get("report", {}).get("institution") or "",
        "version": version,
        "conclusion": conclusion(rows, tally),
        "release": release,
        "cohort": _cohort_numbers(tally, attempts),
        "privacy": {name: judge_numbers(tally, name, thresholds) for name in JUDGES},
        "fidelity": {name: summary(tally.released[name], name, thresholds) for name in ("survival", *OPTIONAL)}
        | {
            name: {"kept": _kept(tally.released[name], name), "n": len(applicable(tally.released[name]))}
            for name in ("core_equal", "metadata_free", "faces_yunet", "faces_mediapipe")
        },
        "models": public.public_models(models),
        "configuration": public.public_config(config),
        "configuration_sha256": public.config_digest(config),
        "software": {name: _installed(name) for name in SOFTWARE},
    }


def _release_numbers(tally: Tally, folder: Path | None, index: pa.Table | None) -> dict:
    if folder is None or not folder.is_dir():
        return {
            "written": False,
            "problems": 0,
            "agrees": False,
            "content_sha256": None,
            "images": 0,
            "pixels": None,
        }
    agrees = index is not None and _as_judged(tally) == _as_indexed(index)
    side = index["width"].to_pylist() if index is not None and index.num_rows else []
    core = index["core_pixels"].to_pylist() if side else []
    area = sum(w * h for w, h in zip(side, index["height"].to_pylist(), strict=True)) if side else 0
    return {
        "written": True,
        "problems": len(verify_release(folder)),
        "agrees": agrees,
        "content_sha256": content_digest(folder),
        "images": len(side),
        "pixels": {
            "smallest_side": min(side),
            "largest_side": max(side),
            "patients_own_share": round(sum(core) / area, 6),
        }
        if side
        else None,
    }


def _as_judged(tally: Tally) -> list[tuple]:
    scores = (tally.released[name] for name in ("sface_cosine", "dlib_distance"))
    cells = ([None if value == NOT_APPLICABLE else value for value in column] for column in scores)
    return sorted(zip(tally.released_ids, *cells, strict=True))


def _as_indexed(index: pa.Table) -> list[tuple]:
    rows = index.select(["release_photo_id", "sface_cosine", "dlib_distance"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def _index(folder: Path | None) -> pa.Table | None:
    if folder is None:
        return None
    try:
        return read_index(folder).select(tables.INDEX.names)
    except (ValueError, KeyError):
        return None


def _cohort_numbers(tally: Tally, attempts: int) -> dict:
    released = len(tally.released_ids)
    return {
        "photographs": tally.photographs,
        "patients": len(tally.patients),
        "released": released,
        "released_patients": len(tally.released_patients),
        "released_rate": rate(released, tally.photographs),
        "quarantined": sum(tally.reasons.values()),
        "reasons": {
            code: {"photographs": n, "meaning": tables.REASONS.get(code, "")}
            for code, n in sorted(tally.reasons.items())
        },
        "views": _sorted(tally.views),
        "routes": _sorted(tally.routes),
        "methods": _sorted(tally.methods),
        "attempts": [
            {"attempt": number, "judged": tally.judged[number], "released": tally.attempts[number]}
            for number in range(attempts)
        ],
        "failed_checks": _sorted(tally.failed_checks),
    }


def _page(audit: dict, folder: Path | None, index: pa.Table | None) -> str:
    figures = {}
    for name, (low, high, same_above) in _FIGURES.items():
        judge = audit["privacy"][name]
        label = f"Distribution of {judge['name']} {judge['measure']}; numbers in the table below"
        figures[name] = score_figure(judge, low, high, same_above, label)
    shown = []
    whole = audit["release"]["written"] and audit["release"]["problems"] == 0
    if whole and audit["release"]["agrees"]:
        shown = [
            row | {"uri": gallery.thumbnail(folder / row["path"])} for row in gallery.choose(index.select(_GALLERY))
        ]
    return public.render(
        "audit.html.j2",
        audit=audit,
        figures=figures,
        gallery=shown,
        settings=public.flat_config(audit["configuration"]),
    )


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


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.partial")
    with open(aside, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
