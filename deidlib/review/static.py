"""A review without a server: one folder that works from disk, and the file of decisions that comes back from it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from deidlib.errors import InputError
from deidlib.review import views
from deidlib.review.cases import Cohort
from deidlib.review.decisions import Decision, append_decisions, parse
from deidlib.review.server import asset, page

NOTICE = """\
THIS FOLDER HOLDS ORIGINAL PHOTOGRAPHS OF PATIENTS.

It lets a reviewer compare them with the de-identified results. Keep it on an encrypted, protected disk.
Do not copy, mail or print it. Delete it when the decisions are imported.

Open index.html in a browser. Nothing leaves this computer but the file of decisions that you export yourself. Bring
that file back, and run: deidlib review RESULTS --import FILE
"""
_FORMAT = "deidlib review 1"
_LARGEST_FILE = 64 << 20


def write_static(
    cohort: Cohort, folder: Path, role: str, reviewer: int = 1, progress: Callable[[int], None] = lambda n: None
) -> int:
    """Write the folder, mode 0700; returns the number of photographs in it.

    Ids of the sheet are not in it.

    Raises
    ------
    InputError
        Something is there already.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError("this folder exists already; name a new one")
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    old = os.umask(0o077)
    try:
        (aside / "pictures").mkdir(mode=0o700, parents=True)
        count = _write(cohort, aside, role, reviewer, progress)
        aside.rename(folder)
    finally:
        os.umask(old)
        shutil.rmtree(aside, ignore_errors=True)
    return count


def _write(cohort: Cohort, folder: Path, role: str, reviewer: int, progress: Callable[[int], None]) -> int:
    details = {}
    for cases in cohort.patients().values():
        for case in cases:
            detail = views.detail(cohort, case, reviewer, original_ids=False)
            shown: dict[str, Callable[[], bytes]] = {}
            if detail["original"]:
                shown["original"] = lambda case=case: cohort.pictures.original(case.shard, case.photo)
            if detail["image"]:
                shown["result"] = lambda case=case: cohort.pictures.result(case.shard, case.attempt, case.photo)
            for which, read in shown.items():
                png = read()
                (folder / "pictures" / f"{case.photo}-{which}.png").write_bytes(png)
                (folder / "pictures" / f"{case.photo}-{which}.jpg").write_bytes(cohort.pictures.thumbnail(png))
            details[case.photo] = detail
            progress(1)
    data = {
        "review": secrets.token_hex(8),  # a browser keeps decisions under this name
        "format": _FORMAT,
        "overview": {
            "patients": views.overview(cohort, reviewer),
            "texts": views.texts(),
            "reviewers": cohort.settings.reviewers,
            "reviewer": reviewer,
            "role": role,
        },
        "details": details,
    }
    text = json.dumps(data).replace("<", "\\u003c")
    (folder / "data.js").write_text(f"window.REVIEW_DATA = {text};\n", encoding="utf-8")
    for name in ("review.js", "review.css"):
        (folder / name).write_bytes(asset(name))
    (folder / "index.html").write_text(page(static=True), encoding="utf-8")
    (folder / "NOTICE.txt").write_text(NOTICE, encoding="utf-8")
    return len(details)


def import_decisions(cohort: Cohort, file: Path) -> dict[str, int]:
    """Take in the decisions that a reviewer exported.

    All are checked before any is written. Decisions that are known already, or that the same reviewer replaced
    meanwhile, are not written again.

    Returns
    -------
    dict
        Number of decisions that were ``taken``, ``known`` already or older than what is known, and made on images that
        have ``changed``.

    Raises
    ------
    InputError
        The file is no export of a review, or a decision in it cannot be used.
    """
    counts = {"taken": 0, "known": 0, "changed": 0}
    by_shard: dict[str, list[Decision]] = {}
    for number, row in enumerate(_rows(file), 1):
        one = parse(row, f"decision {number} of the file")
        case = cohort.case(one.photo)
        if any(_is_newer(other, one) for other in cohort.decisions(case.shard)) or one in by_shard.get(case.shard, ()):
            counts["known"] += 1
        elif case.attempt != one.attempt or cohort.digest(case) != one.sha256:
            counts["changed"] += 1
        elif one.decision not in views.allowed(case):
            raise InputError(f"decision {number} of the file: this cannot be decided of this photograph")
        else:
            by_shard.setdefault(case.shard, []).append(one)
            counts["taken"] += 1
    for shard, made in by_shard.items():
        append_decisions(cohort.private, shard, made)
    return counts


def _is_newer(known: Decision, one: Decision) -> bool:
    """Whether the same reviewer decided on the same image at that time or later."""
    same = (known.photo, known.sha256, known.reviewer) == (one.photo, one.sha256, one.reviewer)
    return same and datetime.fromisoformat(known.time) >= datetime.fromisoformat(one.time)


def _rows(file: Path) -> list:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise InputError("this file is too large for an export of a review")
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})") from None
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("format") != _FORMAT or not isinstance(data.get("decisions"), list):
        raise InputError("this is no file that a review exported; use the page's button Export decisions")
    return data["decisions"]
