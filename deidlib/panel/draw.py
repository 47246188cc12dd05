"""Draws a study: which photographs, for whom, in which version and order. No file is read or written here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deidlib.panel.allocation import line_up, orders, positions, seeded_rng, spread, versions, with_repeats
from deidlib.panel.errors import PanelError
from deidlib.panel.material import MOUTH, ORIGINAL, RESULT, Original
from deidlib.panel.questions import N_CHOICES
from deidlib.panel.source import Released
from deidlib.panel.study import ACQUAINTED, PANEL, Picture, Rater, Session, Study, Trial

#: Arms of the settings → parts of the study.
_PARTS = {
    "realism": "realism",
    "usefulness": "usefulness",
    "diagnosis": "reading",
    "aesthetic": "reading",
    "identity": "identity",
}
_NEEDS_ORIGINALS = ("realism", "reading", "identity")


@dataclass(frozen=True)
class Shown:
    """Content of a trial, before it has a rater: a picture, and for a line-up its choices."""

    photo: str
    patient: str
    version: str
    choices: Sequence[str] = ()
    right: int | None = None
    same_photo: bool | None = None


def draw_study(
    settings: Mapping,
    release: Mapping,
    released: Sequence[Released],
    originals: Mapping[str, Original],
    look: np.ndarray | None,
    others: Mapping[str, Original] | None = None,
) -> Study:
    """Draw a study.

    Parameters
    ----------
    settings : mapping
        From :func:`deidlib.panel.settings.complete`.
    release : mapping
        ``version, content_sha256`` of the release, ``real_of_another_cohort``.
    released : sequence of Released
        What it holds.
    originals : mapping of str to Original
        Originals that may be shown; empty where none may.
    look : ndarray, (originals, d), or None
        From :func:`deidlib.panel.material.looks`, in the order of ``originals``; needed for the arm identity.
    others : mapping of str to Original, optional
        Originals of another cohort: the real photographs of the arm realism.

    Raises
    ------
    PanelError
        Nothing that the settings ask for can be drawn, or an arm needs originals that may not be shown.
    """
    seed = settings["seed"]
    parts = list(dict.fromkeys(_PARTS[arm] for arm in settings["arms"]))
    refused = [
        part for part in parts if part in _NEEDS_ORIGINALS and not originals and not (part == "realism" and others)
    ]
    if refused:
        raise PanelError(
            "these arms show originals: " + ", ".join(arm for arm in settings["arms"] if _PARTS[arm] in refused) + ". "
            "No patient's consent to that is known. Name the sheet's column that says so (consent_column), or the "
            "approval that covers all (consent_reference), or leave the arms out"
        )
    notes: list[str] = []
    names = _names(settings, parts)
    drawn: dict[tuple[str, int], dict[str, list[tuple[Shown, bool, bool]]]] = {}
    pairs = [one for one in released if one.photo in originals]
    for part in parts:
        rng = seeded_rng(seed, part)
        for group, raters in names.items():
            if group == ACQUAINTED and part != "identity":
                continue
            if part == "realism":
                sets = _realism(settings, pairs, released, others, len(raters), rng, notes)
            elif part == "usefulness":
                sets = _usefulness(settings, released, len(raters), rng, notes)
            elif part == "reading":
                sets = _reading(settings, pairs, len(raters), rng, notes)
            else:
                sets = _identity(settings, pairs, originals, look, group, len(raters), rng, notes)
            for sitting, of_raters in enumerate(sets):
                drawn.setdefault((part, sitting), {}).update(zip(raters, of_raters, strict=True))
    raters = [Rater(name, group, _sessions(settings, parts, group)) for group in names for name in names[group]]
    trials = _trials(raters, parts, drawn, seeded_rng(seed, "names"))
    text = repr((sorted(settings.items()), sorted(release.items()), trials))
    return Study(
        hashlib.sha256(text.encode()).hexdigest()[:16],
        dict(settings),
        dict(release),
        raters,
        trials,
        list(dict.fromkeys(notes)),
    )


def _names(settings: Mapping, parts: list[str]) -> dict[str, list[str]]:
    names = {PANEL: [f"rater-{n:02}" for n in range(1, settings["raters"] + 1)]}
    if settings["acquainted"] and "identity" in parts:
        names[ACQUAINTED] = [f"acquainted-{n:02}" for n in range(1, settings["acquainted"] + 1)]
    return names


def _sittings(parts: list[str], group: str) -> list[list[tuple[str, int]]]:
    """Sessions as lists of (part, sitting): raters are naive in the first, and see line-ups in the last."""
    if group == ACQUAINTED:
        return [[("identity", 0)]]
    wanted = [
        [("realism", 0), ("usefulness", 0)],
        [("reading", 0)],
        [("reading", 1)],
        [("identity", 0)],
    ]
    return [kept for one in wanted if (kept := [(part, sitting) for part, sitting in one if part in parts])]


def _sessions(settings: Mapping, parts: list[str], group: str) -> list[Session]:
    sessions = []
    for number, parts_of in enumerate(_sittings(parts, group), 1):
        second = parts_of[0] == ("reading", 1)
        wait = 0 if number == 1 else settings["washout_days"] if second else settings["pause_days"]
        sessions.append(Session(number, [part for part, _ in parts_of], wait))
    return sessions


def _trials(raters: list[Rater], parts: list[str], drawn: Mapping, rng: np.random.Generator) -> list[Trial]:
    trials = []
    for rater in raters:
        for number, sitting in enumerate(_sittings(parts, rater.group), 1):
            for key in sitting:
                first: dict[str, str] = {}
                for shown, again, training in drawn[key][rater.name]:
                    name = _token(rng)
                    if not again and not training:
                        first[shown.photo] = name
                    pictures = [Picture(f"{_token(rng)}.png", shown.photo, shown.version)]
                    pictures += [Picture(f"{_token(rng)}.png", choice, ORIGINAL) for choice in shown.choices]
                    repeat_of = first[shown.photo] if again else None
                    fixed = (
                        name,
                        rater.name,
                        number,
                        key[0],
                        training,
                        repeat_of,
                        shown.photo,
                        shown.patient,
                        shown.version,
                    )
                    trials.append(Trial(*fixed, pictures, shown.right, shown.same_photo))
    return trials


def _token(rng: np.random.Generator) -> str:
    return base64.b32encode(rng.bytes(10)).decode().lower()


def _realism(settings, pairs, released, others, n_raters, rng, notes):
    wanted = settings["photographs"]["realism"] // 2 * 2
    if others:
        photos = _chosen(released, wanted // 2, rng)
        real = _chosen([*others.values()], min(wanted // 2, len(photos)), rng)
        photos = photos[: len(real)]
        n_practice = min(settings["training"], len(photos) // 5)
        items = [Shown(one.photo, one.patient, RESULT) for one in photos[n_practice:]]
        items += [Shown(one.photo, one.patient, ORIGINAL) for one in real[n_practice:]]
        practice = [Shown(one.photo, one.patient, RESULT) for one in photos[:n_practice:2]]
        practice += [Shown(one.photo, one.patient, ORIGINAL) for one in real[1:n_practice:2]]
        _short(notes, "realism", wanted, len(items) + len(practice))
        return [_sequence([items] * n_raters, practice, orders(len(items), n_raters, rng), settings["repeats"], rng)]
    photos, practice_photos = _with_practice(pairs, wanted, settings["training"], rng)
    photos = photos[: len(photos) // 2 * 2]  # as many real as generated for every rater
    _short(notes, "realism", wanted, len(photos))
    which = versions(len(photos), n_raters, rng)
    items = [
        [Shown(one.photo, one.patient, (RESULT, ORIGINAL)[v]) for one, v in zip(photos, row, strict=True)]
        for row in which
    ]
    practice = [Shown(one.photo, one.patient, (RESULT, ORIGINAL)[k % 2]) for k, one in enumerate(practice_photos)]
    return [_sequence(items, practice, orders(len(photos), n_raters, rng), settings["repeats"], rng)]


def _usefulness(settings, released, n_raters, rng, notes):
    wanted = settings["photographs"]["usefulness"]
    photos, practice = _with_practice(released, wanted, settings["training"], rng)
    _short(notes, "usefulness", wanted, len(photos))
    items = [Shown(one.photo, one.patient, RESULT) for one in photos]
    shown = [Shown(one.photo, one.patient, RESULT) for one in practice]
    return [_sequence([items] * n_raters, shown, orders(len(items), n_raters, rng), settings["repeats"], rng)]


def _reading(settings, pairs, n_raters, rng, notes):
    wanted = settings["photographs"]["reading"]
    photos, practice = _with_practice(pairs, wanted, settings["training"], rng)
    _short(notes, "diagnosis and aesthetic", wanted, len(photos))
    first = versions(len(photos), n_raters, rng)
    sittings = []
    for sitting in (0, 1):
        which = first ^ sitting
        items = [
            [Shown(one.photo, one.patient, (RESULT, ORIGINAL)[v]) for one, v in zip(photos, row, strict=True)]
            for row in which
        ]
        shown = [Shown(one.photo, one.patient, (RESULT, ORIGINAL)[(k + sitting) % 2]) for k, one in enumerate(practice)]
        sittings.append(_sequence(items, shown, orders(len(photos), n_raters, rng), settings["repeats"], rng))
    return sittings


def _identity(settings, pairs, originals, look, group, n_raters, rng, notes):
    arm = "identity, raters who know the patients" if group == ACQUAINTED else "identity"
    wanted = settings["photographs"]["identity"]
    chosen = _chosen(pairs, None, rng)
    one_each = [*{one.patient: one for one in reversed(chosen)}.values()][::-1]  # a patient is asked for once
    if len({one.patient for one in originals.values()}) < N_CHOICES:
        raise PanelError(
            f"the arm identity shows {N_CHOICES} patients side by side, and fewer may be shown. Leave the arm out"
        )
    photos, practice = _with_practice(one_each, wanted, min(1, settings["training"]), rng)
    _short(notes, arm, wanted, len(photos))
    names, patients = list(originals), np.array([one.patient for one in originals.values()])
    which = versions(len(photos), n_raters, rng)
    places = positions(len(photos), n_raters, N_CHOICES, rng)

    def line(one: Released, version: str, right: int) -> Shown:
        target, same = _another_photo(one, originals, names, rng)
        lures = [names[row] for row in line_up(target, patients, look, N_CHOICES - 1, rng)]
        choices = [*lures[:right], names[target], *lures[right:]]
        return Shown(one.photo, one.patient, version, choices, right, same)

    items = [
        [line(one, (RESULT, MOUTH)[v], int(right)) for one, v, right in zip(photos, row, place, strict=True)]
        for row, place in zip(which, places, strict=True)
    ]
    shown = [line(one, RESULT, int(rng.integers(N_CHOICES))) for one in practice]
    mixed = [
        originals[choice].sex != originals[item.photo].sex
        for row in items
        for item in row
        for choice in item.choices
        if originals[choice].patient != item.patient
    ]
    if any(mixed):
        notes.append(
            f"{arm}: {np.mean(mixed):.0%} of the other patients in line-ups are not of the patient's sex; results "
            "keep the sex, so these line-ups are easier than they should be"
        )
    share = sum(item.same_photo for item in items[0]) / max(1, len(photos))
    if share:
        notes.append(f"{arm}: {share:.0%} of the line-ups show the very photograph, for want of another of the patient")
    return [_sequence(items, shown, orders(len(photos), n_raters, rng), 0.0, rng)]


def _another_photo(one: Released, originals: Mapping, names: list[str], rng: np.random.Generator) -> tuple[int, bool]:
    """Row of another original of the patient, as somebody who looks for him would have; else the same one."""
    other = [row for row, name in enumerate(names) if originals[name].patient == one.patient and name != one.photo]
    return (int(rng.choice(other)), False) if other else (names.index(one.photo), True)


def _sequence(items, practice, order, share, rng) -> list[list[tuple[Shown, bool, bool]]]:
    """Sequence of each rater: practice first, then the items in order with repeats, as (shown, again, training)."""
    return [
        [*((one, False, True) for one in practice)]
        + [(mine[item], again, False) for item, again in with_repeats(row, share, rng)]
        for mine, row in zip(items, order, strict=True)
    ]


def _with_practice(
    photos: Sequence[Released], wanted: int, training: int, rng
) -> tuple[list[Released], list[Released]]:
    """Photographs to judge, and photographs for practice that are none of them."""
    chosen = _chosen(photos, None, rng)
    n_practice = min(training, len(chosen) // 5)
    n = min(wanted, len(chosen) - n_practice)
    return chosen[:n], chosen[n : n + n_practice]


def _chosen(photos: Sequence, n: int | None, rng) -> list:
    return [photos[row] for row in spread([one.patient for one in photos], len(photos) if n is None else n, rng)]


def _short(notes: list[str], arm: str, wanted: int, found: int) -> None:
    if found < wanted:
        notes.append(f"{arm}: {found} photographs instead of {wanted}, for want of more")
