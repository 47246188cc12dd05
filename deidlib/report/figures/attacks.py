"""Figures of the attack suite: scores, error trade-off, ranks, rates with intervals, privacy against utility."""

from __future__ import annotations

import textwrap

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, PercentFormatter

from deidlib.pages.svg import BLUE, GREEN, INK, LINE, ORANGE, RED, ROSE, SERIES, SLIM, SOFT, drawing, to_svg

#: Kind of score → what its legend says, and how it is drawn.
SCORE_KINDS = {
    "impostor": ("originals of different people", {"fill": True, "color": LINE}),
    "genuine": ("originals of the same person", {"color": INK, "linewidth": 1.3}),
    "released_other_photo": (
        "released against another original of the patient",
        {"color": ORANGE, "linewidth": 1.3, "linestyle": (0, (4, 2))},
    ),
    "released_same_photo": (
        "released against its own original",
        {"fill": True, "facecolor": BLUE + "66", "edgecolor": BLUE, "linewidth": 1.1},
    ),
    "impostor_bank": (
        "synthetic faces of the donor bank",
        {"color": GREEN, "linewidth": 1.1, "linestyle": (0, (1, 1))},
    ),
    "stopped": ("attempts that the gate stopped", {"color": SOFT, "linewidth": 1.1, "linestyle": (0, (1, 1))}),
}
_SOURCES = {"cohort": "on this cohort", "bank": "on the donor bank"}
REGION_TITLES = {
    "whole": "Attacker sees\nthe whole",
    "region_only": "the preserved\narea alone",
    "context_only": "all but\nthat area",
}
#: Letters of the type that fit on a line of a figure, and the height of such a line in inches.
_LINE_LENGTH, _LINE = 62, 0.17


def score_figure(
    key: str,
    title: str,
    measure: str,
    scores: list[dict],
    thresholds: list[tuple[float, str]],
    same_above: bool,
    counts: bool = False,
) -> Markup | None:
    """Distributions of one recogniser's scores with its thresholds.

    Parameters
    ----------
    key, title : str
        See :func:`deidlib.pages.svg.to_svg`.
    measure : str
        Title of the axis.
    scores : list of dict
        ``kind, n, width, bins`` with bins as ``[[lower edge, count], …]``, one entry a kind.
    thresholds : list of (float, str)
        Scores at which the recogniser says "the same person", each with its name; the first one bounds the zone.
    same_above : bool
        Scores above the threshold mean the same person (similarity), else scores below (distance).
    counts : bool
        Draw counts; else each kind as shares of its own number, so that kinds of different size compare.

    Returns
    -------
    Markup or None
        None where there is no score.
    """
    shown = {entry["kind"]: entry for entry in scores if entry.get("bins") and entry["kind"] in SCORE_KINDS}
    if not shown:
        return None
    with drawing(1.75 + _LINE * (len(shown) + 1), SLIM) as figure:
        axes = figure.subplots()
        for kind, (label, style) in SCORE_KINDS.items():
            if kind in shown:
                edges, shares = stairs_of(shown[kind])
                heights = shares * shown[kind]["n"] if counts else shares
                axes.stairs(heights, edges, label=f"{label} (n = {shown[kind]['n']:,})", **style)
        low, high = axes.get_xlim()
        for number, (threshold, name) in enumerate(thresholds):
            low, high = min(low, threshold), max(high, threshold)
            edge = 0.04 * (high - low)
            low, high = min(low, threshold - edge), max(high, threshold + edge)
            left = threshold > (low + high) / 2  # the side with more room
            axes.axvline(threshold, color=RED, linewidth=1.2, linestyle=((0, (5, 3)), (0, (1, 2)))[number % 2])
            axes.annotate(
                f"{threshold:.3g} ({name})",
                (threshold, 1),
                xycoords=("data", "axes fraction"),
                xytext=((-4 if left else 4), -9 - 12 * number),
                textcoords="offset points",
                ha="right" if left else "left",
                color=RED,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            ).set_in_layout(False)
        if thresholds:
            zone = (thresholds[0][0], high) if same_above else (low, thresholds[0][0])
            axes.axvspan(*zone, color=ROSE, zorder=0, linewidth=0, label="taken for the same person")
        axes.set(xlim=(low, high), ylim=(0, None), xlabel=textwrap.fill(measure, _LINE_LENGTH))
        axes.set_ylabel("images" if counts else "share of the scores")
        if counts:
            axes.yaxis.get_major_locator().set_params(integer=True)
        else:
            axes.yaxis.set_major_formatter(_per_cent())
        figure.legend(loc="outside upper left")
        words = "; ".join(f"{SCORE_KINDS[kind][0]}: {_spread(entry)}" for kind, entry in shown.items())
        bounds = ", ".join(f"{threshold:.3g} ({name})" for threshold, name in thresholds) or "none"
        return to_svg(figure, key, title, f"{measure}. {words}. Thresholds: {bounds}.")


def _per_cent() -> PercentFormatter:
    return PercentFormatter(1, decimals=0, symbol="\N{NO-BREAK SPACE}%")


def stairs_of(entry: dict) -> tuple[np.ndarray, np.ndarray]:
    """Edges and shares of all classes from the first to the last, the empty ones between them included."""
    width, total = entry["width"], sum(count for _, count in entry["bins"])
    first = min(edge for edge, _ in entry["bins"])
    places = {round((edge - first) / width): count for edge, count in entry["bins"]}
    numbers = np.arange(max(places) + 1)
    shares = np.array([places.get(int(number), 0) for number in numbers]) / max(total, 1)
    return first + np.append(numbers, numbers[-1] + 1) * width, shares


def _spread(entry: dict) -> str:
    ends = [entry.get(name) for name in ("min", "median", "max")]
    if None in ends:
        return f"{entry['n']} scores"
    return f"{entry['n']} scores from {ends[0]:.3f} to {ends[2]:.3f}, median {ends[1]:.3f}"


def det_figure(calibration: list[dict], titles: dict[str, str]) -> Markup | None:
    """Detection error trade-off of each recogniser on original photographs (ISO/IEC 19795-1).

    ``calibration`` entries hold ``recogniser, det`` with det as ``[[fmr, fnmr], …]``; None where no entry has one.
    """
    curves = [entry for entry in calibration if len(entry.get("det") or []) > 1]
    if not curves:
        return None
    with drawing(2.6 + 2 * _LINE * len(curves), SLIM) as figure:
        axes = figure.subplots()
        pairs = [pair for entry in curves for pair in entry["det"]]
        floors = np.array([_decade_below([pair[axis] for pair in pairs]) for axis in (0, 1)])
        lines = ("solid", "dashed", "dashdot", "dotted")  # told apart in black and white
        for number, entry in enumerate(curves):
            colour, marker = SERIES[number % len(SERIES)]
            name = titles.get(entry["recogniser"], entry["recogniser"])
            fmr, fnmr = np.maximum(np.array(sorted(map(tuple, entry["det"]))), floors / 2).T
            label = f"{name}, {_SOURCES.get(entry.get('source'), entry.get('source', ''))}"
            if entry.get("genuine_pairs"):
                label += f"\n({entry['genuine_pairs']:,} pairs of one person)"
            style = {"color": colour, "linestyle": lines[number % len(lines)], "drawstyle": "steps-post"}
            axes.plot(fmr, fnmr, label=label, **style)
            used = fmr_in_use(entry)
            if used is not None and entry.get("fnmr") is not None:
                at = np.maximum((used, entry["fnmr"]), floors / 2)
                axes.plot(*at, marker, color=colour, markersize=6, clip_on=False)
        axes.set(xscale="log", yscale="log", xlabel="false match rate (FMR)", ylabel="false non-match rate (FNMR)")
        axes.set(xlim=(floors[0] / 2, 1), ylim=(floors[1] / 2, 1.15))
        for axis in (axes.xaxis, axes.yaxis):  # no exponents: their type is too small
            axis.set_major_locator(LogLocator(numticks=5))
            axis.set_major_formatter(lambda rate, _: f"{100 * rate:.12g}\N{NO-BREAK SPACE}%")
            axis.set_minor_formatter("")
        axes.grid(True)
        figure.legend(loc="outside upper left")
        words = "; ".join(
            f"{titles.get(entry['recogniser'], entry['recogniser'])}: FNMR {_percent(entry.get('fnmr'))} at FMR "
            f"{_percent(fmr_in_use(entry))} with the threshold in use"
            for entry in curves
        )
        alternative = f"False non-match rate against false match rate, both on logarithmic axes. {words}."
        return to_svg(figure, "det", "Error trade-off of the recognisers on original photographs", alternative)


def _decade_below(rates: list[float]) -> float:
    """Power of ten at or below the lowest rate that is not 0: a scale that shows no more than was counted."""
    return 10 ** np.floor(np.log10(min((rate for rate in rates if rate > 0), default=0.1)))


def fmr_in_use(entry: dict) -> float | None:
    """FMR of the threshold in use, on the pairs that the curve is drawn from (not the one that was aimed at)."""
    if entry.get("calibrated_threshold", entry.get("threshold")) == entry.get("threshold"):
        return entry.get("fmr")
    return entry.get("bank_fmr" if entry.get("source") == "bank" else "cohort_fmr")


def _percent(rate: float | None) -> str:
    return "not measured" if rate is None else f"{100 * rate:.3g} %"


def rank_figure(ranks: list[dict], titles: dict[str, str]) -> Markup | None:
    """Cumulative match characteristic: how often the patient is among the first k of the gallery.

    A row of panels for each gallery, the largest first; a column for each part of the image that the attacker sees.
    """
    curves = [entry for entry in ranks if entry.get("cmc")]
    regions = [region for region in REGION_TITLES if any(entry["region"] == region for entry in curves)]
    galleries = sorted({entry["gallery"] for entry in curves}, reverse=True)
    if not regions:
        return None
    names = list(dict.fromkeys(entry["recogniser"] for entry in curves))
    with drawing(0.7 + _LINE * len(names) + 1.4 * len(galleries), SLIM) as figure:
        panels = figure.subplots(len(galleries), len(regions), sharey=True, squeeze=False)
        words = []
        for entry in curves:
            axes = panels[galleries.index(entry["gallery"])][regions.index(entry["region"])]
            name = titles.get(entry["recogniser"], entry["recogniser"])
            colour, marker = SERIES[names.index(entry["recogniser"]) % len(SERIES)]
            if entry.get("chance"):
                axes.plot(*zip(*entry["chance"], strict=True), color=SOFT, linestyle=":", label="chance")
            axes.plot(*zip(*entry["cmc"], strict=True), color=colour, marker=marker, markersize=4, label=name)
            region = entry["region"].replace("_", " ")
            words.append(f"{name}, {region}, {entry['gallery']:,} faces: rank 1 {_percent(entry['cmc'][0][1])}")
        for row, gallery in zip(panels, galleries, strict=True):
            for axes in row:
                axes.set(xscale="log", xlabel=f"rank k of {gallery:,}", ylim=(-0.03, 1.03))
                axes.yaxis.set_major_formatter(_per_cent())
                axes.xaxis.set_major_formatter("{x:,.0f}")
                axes.xaxis.set_minor_formatter("")
                axes.grid(True, axis="y")
            row[0].set_ylabel("found by rank k")
        for axes, region in zip(panels[0], regions, strict=True):
            axes.set_title(REGION_TITLES[region])
        _one_legend(figure, panels.flat)
        return to_svg(figure, "ranks", "Rank curves of closed-set identification", "; ".join(words) + ".")


def _one_legend(figure, panels) -> None:
    handles: dict[str, object] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=2)


def forest_figure(key: str, title: str, rows: list[dict], titles: dict[str, str]) -> Markup | None:
    """Rate of every attack with its 95 % interval and its chance level, a line each, the recognisers side by side.

    Parameters
    ----------
    key, title : str
        See :func:`deidlib.pages.svg.to_svg`.
    rows : list of dict
        ``label, attacks`` in the order to draw, from the top; attacks hold ``recogniser, rate, ci95, chance, hits,
        trials, intended``.
    titles : dict
        Recogniser → its name for readers.
    """
    if not rows:
        return None
    names = list(dict.fromkeys(attack["recogniser"] for row in rows for attack in row["attacks"]))
    labels = [textwrap.fill(row["label"], _LINE_LENGTH - 4) for row in rows]
    lines = sum(label.count("\n") + 1.5 for label in labels) + 0.6 * sum(len(row["attacks"]) for row in rows)
    with drawing(0.6 + _LINE * (1.15 * lines + len(names) / 2 + 1), SLIM) as figure:
        axes, y = figure.subplots(), 0.0
        for label, row in zip(labels, rows, strict=True):
            axes.text(0, y, label, va="top", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
            y += label.count("\n") + 1.2
            for attack in row["attacks"]:
                y += 0.6
                _mark_rate(axes, attack, y - 0.2, *SERIES[names.index(attack["recogniser"]) % len(SERIES)])
            y += 0.3
        for name, (colour, marker) in zip(names, SERIES * len(names), strict=False):
            label = titles.get(name, name) if name else "no recogniser needed"
            axes.plot([], [], marker, linestyle="-", color=colour, markersize=4.5, label=label)
        if any(attack["chance"] is not None for row in rows for attack in row["attacks"]):
            axes.plot([], [], "|", color=RED, markersize=9, markeredgewidth=1.5, linestyle="none", label="guessing")
        axes.set(xlim=(-0.01, 1.01), ylim=(y + 0.2, -0.2), yticks=[])
        axes.xaxis.set_major_formatter(_per_cent())
        axes.grid(True, axis="x")
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=2)
        words = "; ".join(
            f"{row['label']}{', ' + titles.get(one['recogniser'], one['recogniser']) if one['recogniser'] else ''}: "
            f"{one['hits']} of {one['trials']}"
            for row in rows
            for one in row["attacks"]
        )
        return to_svg(figure, key, title, words + ".")


def _mark_rate(axes, attack: dict, y: float, colour: str, marker: str) -> None:
    """Draw a rate with its interval and its chance level on one line; hollow where the attack is intended."""
    fill = "white" if attack.get("intended") else colour
    axes.plot(attack["ci95"], [y, y], color=colour, linewidth=1.3, solid_capstyle="butt")
    axes.plot(attack["rate"], y, marker, color=colour, markerfacecolor=fill, markersize=4.5)
    if attack["chance"] is not None:
        axes.plot(attack["chance"], y, "|", color=RED, markersize=7, markeredgewidth=1.5)
