"""The attack suite's results (``attacks.json``) as the audit shows them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from deidlib.errors import ReleaseError
from deidlib.reid.comparison import ALPHA
from deidlib.reid.verdicts import FAILED, PASSED
from deidlib.report.figures.attacks import SCORE_KINDS, fmr_in_use

#: Lists that are copied into ``audit.json``; nothing else of the private file is published.
LISTS = ("attacks", "recognisers", "calibration", "scores", "ranks", "tradeoff", "price", "words")
BLOCKS = ("table_risk", "seeds", "inputs")
#: Lists of single patients and photographs, from which the audit counts groups; they are published nowhere.
PRIVATE_LISTS = ("people", "verified")

REGION_WORDS = {
    "whole": "whole image",
    "region_only": "preserved area alone",
    "context_only": "all but the preserved area",
}
#: Figure of attacks → (its title, prefixes of the names of its attacks); one figure fits on a page.
FORESTS = {
    "finding": ("finding the patient with a recogniser", ("verification", "identification")),
    "learned": ("attackers who learned from other patients", ("parrot", "reversal")),
    "soft": ("soft biometrics", ("soft_",)),
    "links": ("links, donors and side channels", ("",)),
}
#: False match rates at which the error trade-off is tabled.
_STATED_FMR = (0.01, 0.001)
_STATED_RANKS = (1, 5, 10, 100)


def read_attacks(path: Path | None) -> dict | None:
    """Read the audit's part of ``attacks.json``.

    Returns
    -------
    dict or None
        ``gate`` (``passed`` and ``criteria``), the lists :data:`LISTS` and :data:`PRIVATE_LISTS` and the blocks
        :data:`BLOCKS`, empty where the file lacks them; NaN becomes null. None where ``path`` is None.

    Raises
    ------
    ReleaseError
        The file is missing, damaged or of another form.
    """
    if path is None:
        return None
    try:
        found = _finite(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ReleaseError("attacks.json is missing: run the attack suite (deidlib reid) first") from None
    except (OSError, ValueError):
        raise ReleaseError("attacks.json is damaged: delete it and run the workflow again") from None
    gate = found.get("gate") if isinstance(found, dict) else None
    if not isinstance(gate, dict) or not isinstance(gate.get("criteria"), list):
        raise ReleaseError("attacks.json holds no release gate: delete it and run the workflow again")
    lists = {name: found.get(name) or [] for name in (*LISTS, *PRIVATE_LISTS)}
    blocks = {name: found.get(name) or {} for name in BLOCKS}
    if not all(isinstance(value, list) for value in lists.values()):
        raise ReleaseError("attacks.json is from another version of deidlib: delete it and run the workflow again")
    return {"gate": gate, **lists, **blocks}


def nothing_attacked() -> dict:
    """Give the suite's part of the audit where the suite did not run."""
    return {name: [] for name in LISTS} | {name: {} for name in BLOCKS}


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def recogniser_titles(audit: dict) -> dict[str, str]:
    """Name of each recogniser for programs → for readers."""
    return {entry["name"]: entry.get("title") or entry["name"] for entry in audit["recognisers"]}


def grouped(audit: dict) -> list[dict]:
    """Attacks of one name that could be tried, in the order of the suite: ``title, explanation, intended, rows``.

    The explanation holds the sentences that every row has. A row's ``remark`` holds the rest, each sentence where it
    occurs first (a sentence with numbers: first for this recogniser and this part of the image).
    """
    titles = recogniser_titles(audit)
    groups: dict[str, dict] = {}
    for attack in audit["attacks"]:
        if not attack["trials"]:
            continue
        group = groups.setdefault(attack["name"], {key: attack[key] for key in ("name", "title")} | {"rows": []})
        by = titles.get(attack["recogniser"], attack["recogniser"])
        said = _sentences(attack.get("explanation") or "", by)
        row = {"by": by or "none needed", "sees": REGION_WORDS[attack["region"]], "said": said}
        group["rows"].append(attack | row)
    seen: set[tuple] = set()
    for group in groups.values():
        rows = group["rows"]
        common = [one for one in rows[0]["said"] if all(one in row["said"] for row in rows)]
        of_all = {by: [row["said"] for row in rows if row["by"] == by] for by in {row["by"] for row in rows}}
        group["explanation"] = " ".join(common)
        group["intended"] = all(row.get("intended") for row in rows)
        for row in rows:
            told = {one: _told_of(one, row, of_all[row["by"]]) for one in row["said"] if one not in common}
            row["remark"] = " ".join(one for one, of in told.items() if of not in seen)
            seen.update(told.values())
    return list(groups.values())


def untried(audit: dict) -> list[str]:
    """Titles of the attacks without a trial, each with its recognisers where others could try it."""
    titles, tried, by = recogniser_titles(audit), set(), {}
    for attack in audit["attacks"]:
        if attack["trials"]:
            tried.add(attack["title"])
        else:
            by.setdefault(attack["title"], []).append(titles.get(attack["recogniser"], attack["recogniser"]))
    return [
        f"{title} ({', '.join(filter(None, names))})" if title in tried and any(names) else title
        for title, names in by.items()
    ]


def _told_of(sentence: str, row: dict, of_recogniser: list[list[str]]) -> tuple:
    """Subject of a sentence: with numbers, one recogniser, and one part of the image where parts differ."""
    if not any(map(str.isdigit, sentence)):
        return (sentence,)
    shared = all(sentence in said for said in of_recogniser)
    return (sentence, row["by"]) if shared else (sentence, row["by"], row["sees"])


def _sentences(text: str, recogniser: str | None) -> list[str]:
    """Sentences of an explanation, its recogniser unnamed, so that those of two recognisers compare."""
    if recogniser and text.startswith(recogniser):
        text = "The recogniser" + text.removeprefix(recogniser)
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text) if text else []


def forest_groups(audit: dict) -> list[dict]:
    """Content of the figures of all attacks on whole images: ``key, title, rows``; empty figures are left out.

    A row holds a ``label`` and, of each recogniser, the attack.
    """
    groups = {key: {"key": key, "title": title, "rows": {}} for key, (title, _) in FORESTS.items()}
    for attack in audit["attacks"]:
        if attack["region"] == "whole" and attack["rate"] is not None:
            key = next(key for key, (_, starts) in FORESTS.items() if attack["name"].startswith(starts))
            row = groups[key]["rows"].setdefault(attack["name"], {"label": attack["title"], "attacks": []})
            row["attacks"].append(attack)
    return [group | {"rows": list(group["rows"].values())} for group in groups.values() if group["rows"]]


def fnmr_table(audit: dict) -> list[dict]:
    """FNMR of each calibration at the stated FMRs: the lowest among the points of its DET that keep the FMR."""
    titles, rows = recogniser_titles(audit), []
    for entry in audit["calibration"]:
        at = {}
        for fmr in _STATED_FMR:
            kept = [fnmr for f, fnmr in entry.get("det") or [] if f <= fmr]
            at[fmr] = min(kept) if kept else None
        rows.append(
            {
                **entry,
                "used_fmr": fmr_in_use(entry),
                "title": titles.get(entry["recogniser"], entry["recogniser"]),
                "at": at,
            }
        )
    return rows


def rank_table(audit: dict) -> list[dict]:
    """Rank-k rates of each rank curve with its chance level, at the stated ranks that the curve holds."""
    titles, rows = recogniser_titles(audit), []
    for entry in audit["ranks"]:
        found, chance = ({int(k): rate for k, rate in entry.get(name) or []} for name in ("cmc", "chance"))
        at = [(k, found[k], chance.get(k)) for k in _STATED_RANKS if k in found]
        by = titles.get(entry["recogniser"], entry["recogniser"])
        rows.append({**entry, "title": by, "sees": REGION_WORDS[entry["region"]], "at": at})
    return rows


def compared(audit: dict) -> list[dict]:
    """Comparisons of the gate, each with the titles of its attack and recogniser and its criterion's verdict."""
    titles = recogniser_titles(audit)
    named = {attack["name"]: attack["title"] for attack in audit["attacks"] if attack["region"] == "whole"}
    return [
        one
        | {
            "title": named.get(one["attack"], one["attack"]),
            "by": titles.get(one["recogniser"], one["recogniser"]),
            "verdict": row["verdict"] if row["verdict"] != FAILED or one["p_adjusted"] <= ALPHA else PASSED,
        }
        for row in audit["gate"]["criteria"]
        for one in row.get("comparisons") or []
    ]


def priced(audit: dict) -> list[dict]:
    """Price of each preserved area: success of each recogniser by the area alone, by the rest and by the whole."""
    titles = recogniser_titles(audit)
    order = ["region_only", "context_only", "whole"]
    rows = sorted(audit["price"], key=lambda row: order.index(row["region"]))
    areas = {area: k for k, area in enumerate(dict.fromkeys(row["preserve"] for row in audit["price"]))}
    names = {name: k for k, name in enumerate(titles)}
    rows.sort(key=lambda row: (areas[row["preserve"]], names.get(row["recogniser"], len(names))))
    return [
        row | {"by": titles.get(row["recogniser"], row["recogniser"]), "sees": REGION_WORDS[row["region"]]}
        for row in rows
    ]


def stated_ranks(rows: list[dict]) -> list[int]:
    """Ranks that any row of :func:`rank_table` states."""
    return sorted({k for row in rows for k, _, _ in row["at"]})


def score_groups(audit: dict) -> list[dict]:
    """Each recogniser with its scores and thresholds, that of the identity loss first: what one score figure shows."""
    groups = []
    for entry in sorted(audit["recognisers"], key=lambda entry: entry.get("role") != "identity_loss"):
        scores = [one for one in audit["scores"] if one["recogniser"] == entry["name"]]
        thresholds = [
            (one["threshold"], _threshold_words(one))
            for one in audit["calibration"]
            if one["recogniser"] == entry["name"] and one["threshold"] is not None
        ]
        order = list(SCORE_KINDS)
        scores.sort(key=lambda one: order.index(one["kind"]) if one["kind"] in order else len(order))
        if scores:
            groups.append({**entry, "scores": scores, "thresholds": thresholds})
    return groups


def _threshold_words(calibration: dict) -> str:
    published = calibration["threshold"] == calibration.get("published_threshold")
    if published or calibration.get("source") == "published" or calibration.get("fmr") is None:
        return "published"
    return f"FMR {100 * calibration['fmr']:g} %, {calibration['source']}"
