"""The attack suite's results (``attacks.json``) as the audit shows them."""

from __future__ import annotations

import itertools
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

REGION_WORDS = {"whole": "whole image", "region_only": "area alone", "context_only": "all but the area"}
#: Figure of attacks → (its title, prefixes of the names of its attacks); one figure fits on a page.
FORESTS = {
    "finding": ("finding the patient with a recogniser", ("verification", "identification")),
    "learned": ("attackers who learned from other patients", ("parrot", "reversal")),
}


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

    The explanation holds the sentences that every attack of the name has. A row is that of one recogniser: ``by``,
    ``seen`` (part of the image that the attacker sees → attack) and ``remark``: the other sentences, each where it
    occurs first (a sentence with numbers: first for this recogniser and this part of the image). Names that need no
    recogniser and have one explanation are one group, a row each.
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
            subjects = {one: _subject_of(one, row, of_all[row["by"]]) for one in row["said"] if one not in common}
            row["remark"] = " ".join(one for one, of in subjects.items() if of not in seen)
            seen.update(subjects.values())
        group["rows"] = _by_recogniser(rows)
    return _alike_joined(list(groups.values()))


def _by_recogniser(rows: list[dict]) -> list[dict]:
    """One row for each recogniser, with its attacks on the whole image and on parts of it."""
    joined: dict[str, dict] = {}
    for row in rows:
        one = joined.setdefault(row["by"], {"by": row["by"], "seen": {}, "remarks": []})
        one["seen"][row["region"]] = row
        one["remarks"].append(f"{row['sees'].capitalize()}: {row['remark']}" if row["remark"] else "")
    for one in joined.values():
        remarks = list(filter(None, one.pop("remarks")))
        one["remark"] = " ".join(remarks) if len(one["seen"]) > 1 else "".join(remarks).partition(": ")[2]
    return list(joined.values())


def _alike_joined(groups: list[dict]) -> list[dict]:
    """Neighbouring groups without a recogniser and with one explanation as one, a row for each of their names."""
    found: list[list[dict]] = []
    for group in groups:
        alike = found and found[-1][0]["explanation"] == group["explanation"]
        if alike and all(row["by"] == "none needed" for one in (found[-1][0], group) for row in one["rows"]):
            found[-1].append(group)
        else:
            found.append([group])
    return [_joined(several) if len(several) > 1 else several[0] for several in found]


def _joined(groups: list[dict]) -> dict:
    titles = [group["title"] for group in groups]
    start = _common_start(titles)
    end = _common_start([title[len(start) :][::-1] for title in titles])[::-1]
    rows = [
        row | {"by": title[len(start) : len(title) - len(end)]}
        for title, group in zip(titles, groups, strict=True)
        for row in group["rows"]
    ]
    return groups[0] | {"title": start.rstrip(" ,:") + end, "rows": rows}


def _common_start(texts: list[str]) -> str:
    letters = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False))
    return "".join(column[0] for column in letters)


def untried(audit: dict) -> list[str]:
    """Titles of the attacks without a trial, each with its recognisers where others could try it."""
    titles, tried, by, named = recogniser_titles(audit), set(), {}, {}
    for attack in audit["attacks"]:
        name = attack["name"]
        named.setdefault(name, attack["title"])
        if attack["trials"]:
            tried.add(name)
        else:
            by.setdefault(name, {})[titles.get(attack["recogniser"], attack["recogniser"])] = True
    return [
        f"{named[name]} ({', '.join(filter(None, whose))})" if name in tried and any(whose) else named[name]
        for name, whose in by.items()
    ]


def _subject_of(sentence: str, row: dict, of_recogniser: list[list[str]]) -> tuple:
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
            key = next((key for key, (_, starts) in FORESTS.items() if attack["name"].startswith(starts)), None)
            if key is None:
                continue
            row = groups[key]["rows"].setdefault(attack["name"], {"label": attack["title"], "attacks": []})
            row["attacks"].append(attack)
    return [group | {"rows": list(group["rows"].values())} for group in groups.values() if group["rows"]]


def calibrations(audit: dict) -> list[dict]:
    """Each calibration with its recogniser's title, and ``used_fmr``: the FMR of the threshold in use."""
    titles = recogniser_titles(audit)
    return [
        entry | {"used_fmr": fmr_in_use(entry), "title": titles.get(entry["recogniser"], entry["recogniser"])}
        for entry in audit["calibration"]
    ]


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
    """Price of each preserved area that was tried, this release's first: ``preserve, own, rows``.

    A row is that of one recogniser: ``by``, ``chance``, and ``seen``: part of the image → ``rank1`` and ``verified``.
    """
    titles, areas = recogniser_titles(audit), {}
    for row in audit["price"]:
        if row["rank1"]["trials"]:
            area = areas.setdefault(row["preserve"], {"preserve": row["preserve"], "own": row["own"], "rows": {}})
            by = titles.get(row["recogniser"], row["recogniser"])
            mine = area["rows"].setdefault(by, {"by": by, "chance": row["chance"], "seen": {}})
            mine["seen"][row["region"]] = row
    found = [area | {"rows": list(area["rows"].values())} for area in areas.values()]
    return sorted(found, key=lambda area: not area["own"])


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
