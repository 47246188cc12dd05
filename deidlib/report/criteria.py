"""The audit's criteria: each with pass, fail or not judged, those on single photographs and those of the suite."""

from __future__ import annotations

from deidlib.outcomes.outcomes import MUST_HAVE, THRESHOLDS, within
from deidlib.report.tally import Tally, applicable
from deidlib.storage.tables import REASONS

#: Groups of criteria, in the order of the first page.
GROUPS = ("release", "attacks", "photographs", "dental area")

#: Check → (statement, group, unit of its number).
_CHECKS = {
    "sface_cosine": ("No released face is the patient's for recogniser SFace", "photographs", ""),
    "dlib_distance": ("No released face is the patient's for recogniser dlib", "photographs", ""),
    "survival": ("No block of the original survives outside the preserved area", "photographs", ""),
    "metadata_free": ("The image files hold pixels and nothing else", "photographs", ""),
    "faces_yunet": ("Detector YuNet finds one face in each image with a generated one", "photographs", ""),
    "faces_mediapipe": ("Detector MediaPipe finds one face in each image with a generated one", "photographs", ""),
    "second_face": ("Nobody stands beside a generated face, not even cut by the edge", "photographs", ""),
    "latent_distance": ("The faces' codes stay close to those that the generator draws", "photographs", ""),
    "realism": ("The upper faces look like those that the generator makes", "photographs", ""),
    "core_equal": ("The preserved area is the patient's own, bit for bit", "dental area", ""),
    "mouth_shift": ("The mouth's landmarks stayed where they were", "dental area", "\N{NO-BREAK SPACE}%"),
    "seam": ("No seam is measured at the border of the preserved area", "dental area", ""),
}

#: The same for the photographs without a generated face; shown where there are any.
_FACELESS_CHECKS = {
    "faces_yunet": "Detector YuNet finds no face in images without a generated one, lower faces apart",
    "faces_mediapipe": "Detector MediaPipe finds no face in images without a generated one, lower faces apart",
    "faces_dlib": "Detector dlib finds no face in images without a generated one, lower faces apart",
    "outside_neutral": "Outside the preserved area of region_only images there is nothing but neutral fill",
}

#: Criterion of the suite's gate → what it requires, and what was found.
_SUITE_WORDS = {
    "photographs": ("{bound} or more", "{value}"),
    "all_measured": ("{bound} missing", "{value} missing"),
    "no_verified_reidentification": ("{bound} times", "{value} times"),
    "rank1_within_chance": ("{bound} recognisers beyond it", "{value} beyond it"),
    "rank1_originals_within_chance": ("{bound} recognisers beyond it", "{value} beyond it"),
    "learned_rank1_within_chance": ("{bound} attacks beyond it", "{value} beyond it"),
    "interval_upper_ends": ("below {bound}", "up to {value}"),
    "distinct_donors": ("{bound} shared", "{value} shared"),
    "no_metadata": ("{bound} files", "{value} of {n} files"),
    "k_anonymity": ("{bound} or more alike", "{value} alike"),
}


def photograph_criteria(tally: Tally, thresholds: dict, release: dict, withheld: bool) -> list[dict]:
    """Criteria on the cohort, the release folder and single photographs.

    Parameters
    ----------
    tally : Tally
        All outcomes.
    thresholds : dict
        ``config["checks"]``.
    release : dict
        ``{"written": bool, "problems": int, "agrees": bool}`` of the release folder.
    withheld : bool
        No release was written because the suite's gate failed: there is no folder to judge.

    Returns
    -------
    list of dict
        ``name, group, statement, value, bound, n, passed, note`` as in the suite's gate, and ``required`` and
        ``found`` in words; ``passed`` is None where nothing was judged.
    """
    n, held = len(tally.released_ids), sum(tally.reasons.values())
    known = set(tally.reasons) <= set(REASONS)
    whole, agrees = release["written"] and release["problems"] == 0, release["agrees"]
    same = "same" if agrees else "differs" if release["written"] else "no release"
    rows = [
        _row(
            "released",
            "At least one photograph passed every check on single photographs",
            n > 0,
            (n, 1, tally.photographs),
            ("1 or more", f"{n:,} of {tally.photographs:,}"),
        ),
        _row(
            "accounted",
            "Every photograph of the sheet passed or is held back with a reason",
            n + held == tally.photographs and known,
            (n + held, tally.photographs, tally.photographs),
            (f"{tally.photographs:,}", f"{n + held:,}"),
        ),
        _row(
            "release_whole",
            "The release folder is whole: checksums, index, images, data card",
            None if withheld else whole,
            (release["problems"] if release["written"] else None, 0, n),
            ("no problem", _release_words(release)),
        ),
        _row(
            "release_agrees",
            "The release holds exactly the photographs that passed",
            None if withheld else agrees,
            (agrees, True, n),
            ("same ids and numbers", same),
        ),
    ]
    rows += [_check_row(name, applicable(tally.released[name]), thresholds) for name in _CHECKS]
    return rows + [
        _faceless_row(name, applicable(tally.faceless[name])) for name in _FACELESS_CHECKS if tally.faceless[name]
    ]


def suite_criteria(suite: dict | None, n: int) -> list[dict]:
    """Criteria of the attack suite's gate; the first one is that it ran, for what was not attacked is not shown.

    Parameters
    ----------
    suite : dict or None
        From :func:`deidlib.report.attacks.read_attacks`.
    n : int
        Photographs that passed every check on single photographs; where there are none, nothing is to attack.
    """
    if suite is None:
        ran = _row(
            "attack_suite",
            "The attack suite ran on what would be released",
            None if n == 0 else False,
            (0, None, n),
            ("yes", "not run"),
            group="attacks",
        )
        return [ran]
    rows = []
    for one in suite["gate"]["criteria"]:
        words = dict(zip(("required", "found"), _suite_words(one), strict=True))
        kept = {key: one.get(key) for key in ("name", "statement", "value", "bound", "n", "passed", "note")}
        if kept["bound"] is None and kept["passed"]:
            kept["passed"] = None  # without a bound it was stated, not judged
        rows.append({**kept, "group": "attacks", "note": kept["note"] or "", **words})
    if suite["gate"].get("passed") is not True and not any(row["passed"] is False for row in rows):
        rows.append(
            _row(
                "attack_suite",
                "The attack suite's release gate passed",
                False,
                (False, True, n),
                ("passed", "not passed"),
                group="attacks",
            )
        )
    return rows


def _suite_words(one: dict) -> tuple[str, str]:
    """What a criterion of the suite's gate requires and what was found, in words that need no gloss."""
    text = _percent if one["name"] == "interval_upper_ends" else number
    required, found = _SUITE_WORDS.get(one["name"], ("bound {bound}", "{value}"))
    texts = {key: text(one.get(key)) for key in ("value", "bound")} | {"n": number(one.get("n"))}
    none = [one.get(key) is None for key in ("bound", "value")]
    return "no bound" if none[0] else required.format(**texts), "not measured" if none[1] else found.format(**texts)


def _percent(value: float | None) -> str:
    return number(None if value is None else 100 * value) + "\N{NO-BREAK SPACE}%"


def conclusion(rows: list[dict], tally: Tally, written: bool) -> dict:
    """Pass or fail over all criteria, in plain words.

    A release passes when no criterion fails; a criterion that was not judged (an optional check that was
    not run, or has no threshold) is named and does not count as passed.
    """
    failed = [row for row in rows if row["passed"] is False]
    open_ = [row for row in rows if row["passed"] is None]
    n, patients, held = len(tally.released_ids), len(tally.released_patients), sum(tally.reasons.values())
    fails = f"{len(failed)} of {len(rows)} criteria {'fails' if len(failed) == 1 else 'fail'}, marked below."
    if n == 0:
        words = (
            f"Nothing was released: none of the {tally.photographs:,} photographs passed. There is no "
            "dataset to share; the cohort flow below gives the reasons."
        )
    elif failed and not written:
        words = (
            f"Nothing was released: {_count(n, 'photograph')} of {_count(patients, 'patient')} passed every check on "
            f"single photographs, but {fails} There is no dataset to share."
        )
    elif failed:
        words = f"Do not share this release: {fails}"
    else:
        words = (
            f"{_count(n, 'photograph')} of {_count(patients, 'patient')} "
            f"{'is released and keeps' if n == 1 else 'are released and keep'} every criterion that was "
            f"judged; {_count(held, 'photograph')} {'was' if held == 1 else 'were'} held back."
        )
    if n and open_:
        words += f" Not judged: {len(open_)} of {len(rows)} criteria; nothing is claimed about these."
    return {"passed": not failed, "words": words}


def number(value) -> str:
    """Write a criterion's value or bound: yes or no, a count, or three figures."""
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(
    name: str,
    statement: str,
    good: bool | None,
    counts: tuple,
    words: tuple[str, str],
    note: str = "",
    group: str = "release",
) -> dict:
    value, bound, n = counts
    return {
        "name": name,
        "group": group,
        "statement": statement,
        "value": value,
        "bound": bound,
        "n": n,
        "passed": good,
        "note": note,
        "required": words[0],
        "found": words[1],
    }


def _check_row(name: str, values: list, thresholds: dict) -> dict:
    statement, group, unit = _CHECKS[name]
    n, missing = len(values), sum(value is None for value in values)
    if name not in THRESHOLDS:
        expected = 1 if name.startswith("faces_") else True
        kept = sum(value == expected and value is not None for value in values)
        words = "1 face in every image" if name.startswith("faces_") else "every image", _kept_words(kept, n, missing)
        return _row(name, statement, kept == n if n else None, (kept, n, n), words, group=group)
    key, upper, equal = THRESHOLDS[name]
    limit = thresholds.get(key)
    numbers = [value for value in values if value is not None]
    kept = sum(within(name, value, thresholds) is True for value in numbers)
    found = _kept_words(kept, n, missing) if limit is not None else f"{len(numbers):,} measured"
    worst = (max(numbers) if upper else min(numbers)) if numbers else None
    if numbers:
        found += f"; {'highest' if upper else 'lowest'} {worst:.3f}{unit}"
    sign = ("at most" if equal else "below") if upper else ("at least" if equal else "above")
    required = "no threshold set" if limit is None else f"{sign} {limit:g}{unit}"
    beyond = any(within(name, value, thresholds) is False for value in numbers)
    judged = n > 0 and (kept == n or beyond or name in MUST_HAVE)
    worst = None if worst is None else round(worst, 6)
    return _row(name, statement, kept == n if judged else None, (worst, limit, n), (required, found), group=group)


def _faceless_row(name: str, values: list) -> dict:
    n, missing = len(values), sum(value is None for value in values)
    counted = name.startswith("faces_")
    kept = sum(value == 0 if counted else value is True for value in values if value is not None)
    words = "no face in any such image" if counted else "every such image", _kept_words(kept, n, missing)
    good = kept == n if n else None
    return _row(f"{name}_without_face", _FACELESS_CHECKS[name], good, (kept, n, n), words, group="photographs")


def _kept_words(kept: int, n: int, missing: int) -> str:
    return f"{kept:,} of {n:,}" + (f", {missing:,} not run" if missing else "")


def _release_words(release: dict) -> str:
    if not release["written"]:
        return "no release"
    return _count(release["problems"], "problem") if release["problems"] else "no problem"


def _count(n: int, one: str) -> str:
    return f"{n:,} {one}" + ("" if n == 1 else "s")
