"""The audit's conclusion: each criterion with pass, fail or not judged, and one sentence over all."""

from __future__ import annotations

from deidlib.release.outcomes import MUST_HAVE, THRESHOLDS, within
from deidlib.report.tally import Tally, applicable
from deidlib.tables import REASONS

PASS, FAIL, NOT_JUDGED = "pass", "fail", "not judged"

#: Check → (criterion, unit of its number).
_CHECKS = {
    "sface_cosine": ("No released face is the patient's for recogniser SFace", ""),
    "dlib_distance": ("No released face is the patient's for recogniser dlib", ""),
    "faces_yunet": ("Exactly one face is found in each image with a generated one by detector YuNet", ""),
    "faces_mediapipe": ("Exactly one face is found in each image with a generated one by detector MediaPipe", ""),
    "core_equal": ("The preserved area is the patient's own, bit for bit", ""),
    "survival": ("No block of the original survives outside the preserved area", ""),
    "metadata_free": ("The image files hold pixels and nothing else", ""),
    "seam": ("No seam is measured at the border of the preserved area", ""),
    "mouth_shift": ("The mouth's landmarks stayed where they were", "\N{NO-BREAK SPACE}%"),
    "realism": ("The faces stay close to those that the generator makes", ""),
}
#: The same for the photographs without a generated face; shown where there are any.
_FACELESS_CHECKS = {
    "faces_yunet": "No face is found in what has no generated face, lower faces apart, by detector YuNet",
    "faces_mediapipe": "No face is found in what has no generated face, lower faces apart, by detector MediaPipe",
    "faces_dlib": "No face is found in what has no generated face, lower faces apart, by detector dlib",
    "outside_neutral": "Outside the preserved area of region_only images there is nothing but neutral fill",
}


def criteria(tally: Tally, thresholds: dict, release: dict) -> list[dict]:
    """Every criterion of the audit.

    Parameters
    ----------
    tally : Tally
        All outcomes.
    thresholds : dict
        ``config["checks"]``.
    release : dict
        ``{"written": bool, "problems": int, "agrees": bool}`` of the release folder.

    Returns
    -------
    list of dict
        ``check, criterion, requirement, found, verdict``; verdict is pass, fail or not judged.
    """
    n = len(tally.released_ids)
    rows = [
        _row(
            "released",
            "At least one photograph passed the gate",
            "1 or more",
            f"{n:,} of {tally.photographs:,}",
            n > 0,
        ),
        _row(
            "accounted",
            "Every photograph of the sheet is released or quarantined with a reason",
            f"{tally.photographs:,}",
            f"{n + sum(tally.reasons.values()):,}",
            n + sum(tally.reasons.values()) == tally.photographs and set(tally.reasons) <= set(REASONS),
        ),
        _row(
            "release_whole",
            "The release folder is whole: checksums, index, images, data card",
            "no problem",
            _release_words(release),
            release["written"] and release["problems"] == 0,
        ),
        _row(
            "release_agrees",
            "The release holds exactly the photographs that passed",
            "same ids and numbers",
            "same" if release["agrees"] else "differs" if release["written"] else "no release",
            release["agrees"],
        ),
    ]
    rows += [_check_row(name, applicable(tally.released[name]), thresholds) for name in _CHECKS]
    return rows + [
        _faceless_row(name, applicable(tally.faceless[name])) for name in _FACELESS_CHECKS if tally.faceless[name]
    ]


def conclusion(rows: list[dict], tally: Tally) -> dict:
    """Pass or fail over all criteria, in plain words.

    A release passes when no criterion fails; a criterion that was not judged (an optional check that was
    not run, or has no threshold) is named and does not count as passed.
    """
    failed = [row for row in rows if row["verdict"] == FAIL]
    open_ = [row for row in rows if row["verdict"] == NOT_JUDGED]
    n, patients, held = len(tally.released_ids), len(tally.released_patients), sum(tally.reasons.values())
    if n == 0:
        words = (
            f"Nothing was released: none of the {tally.photographs:,} photographs passed. There is no "
            "dataset to share; the cohort flow below gives the reasons."
        )
    elif failed:
        words = (
            f"Do not share this release: {len(failed)} of {len(rows)} criteria "
            f"{'fails' if len(failed) == 1 else 'fail'}, marked below."
        )
    else:
        words = (
            f"{_count(n, 'photograph')} of {_count(patients, 'patient')} "
            f"{'is released and keeps' if n == 1 else 'are released and keep'} every criterion that was "
            f"judged; {_count(held, 'photograph')} {'was' if held == 1 else 'were'} held back."
        )
    if n and open_:
        words += f" Not judged: {len(open_)} of {len(rows)} criteria; nothing is claimed about these."
    return {"passed": not failed, "words": words, "criteria": rows}


def _row(check: str, criterion: str, requirement: str, found: str, good: bool | None) -> dict:
    verdict = NOT_JUDGED if good is None else PASS if good else FAIL
    return {
        "check": check,
        "criterion": criterion,
        "requirement": requirement,
        "found": found,
        "verdict": verdict,
    }


def _check_row(name: str, values: list, thresholds: dict) -> dict:
    criterion, unit = _CHECKS[name]
    n, missing = len(values), sum(value is None for value in values)
    if name not in THRESHOLDS:
        expected = 1 if name.startswith("faces_") else True
        kept = sum(value == expected and value is not None for value in values)
        requirement = "1 face in every image" if expected == 1 and name.startswith("faces_") else "every image"
        return _row(name, criterion, requirement, _kept_words(kept, n, missing), kept == n if n else None)
    key, upper, equal = THRESHOLDS[name]
    limit = thresholds.get(key)
    numbers = [value for value in values if value is not None]
    kept = sum(within(name, value, thresholds) is True for value in numbers)
    found = _kept_words(kept, n, missing) if limit is not None else f"{len(numbers):,} measured"
    if numbers:
        worst = max(numbers) if upper else min(numbers)
        found += f"; {'highest' if upper else 'lowest'} {worst:.3f}{unit}"
    sign = ("at most" if equal else "below") if upper else ("at least" if equal else "above")
    requirement = "no threshold set" if limit is None else f"{sign} {limit:g}{unit}"
    beyond = any(within(name, value, thresholds) is False for value in numbers)
    judged = n > 0 and (kept == n or beyond or name in MUST_HAVE)
    return _row(name, criterion, requirement, found, kept == n if judged else None)


def _faceless_row(name: str, values: list) -> dict:
    n, missing = len(values), sum(value is None for value in values)
    counted = name.startswith("faces_")
    kept = sum(value == 0 if counted else value is True for value in values if value is not None)
    requirement = "no face in any of these images" if counted else "every such image"
    words = _kept_words(kept, n, missing)
    return _row(f"{name}_without_face", _FACELESS_CHECKS[name], requirement, words, kept == n if n else None)


def _kept_words(kept: int, n: int, missing: int) -> str:
    return f"{kept:,} of {n:,}" + (f", {missing:,} not run" if missing else "")


def _release_words(release: dict) -> str:
    if not release["written"]:
        return "no release"
    return _count(release["problems"], "problem") if release["problems"] else "no problem"


def _count(n: int, one: str) -> str:
    return f"{n:,} {one}" + ("" if n == 1 else "s")
