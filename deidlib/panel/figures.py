"""Figures of the panel's report, as inline SVG with a text alternative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from deidlib.pages.svg import BLUE, GREEN, INK, LINE, ORANGE, RED, ROSE, SOFT, drawing, to_svg

_LIKERT = ("#8a5a00", "#d9b36c", "#e3e7eb", "#8fb6dc", "#1f5f99")  # told apart in grey as well, with numbers in them
_VERSIONS = {"result": "whole result", "mouth": "mouth alone"}
_GROUPS = {"panel": "panel", "acquainted": "who know the patients"}


def realism_figure(realism: Mapping, names: Mapping[str, str]) -> Markup:
    """Share of right answers of each rater and of all, against chance."""
    rows = [*((names[one["rater"]], one["accuracy"]) for one in realism["each"]), ("all raters", realism["accuracy"])]
    margin = realism["margin"]
    with drawing(0.75 + 0.27 * len(rows)) as figure:
        axes = figure.subplots()
        _shares(axes, rows, (0.5 - margin, 0.5 + margin))
        axes.axvline(0.5, color=RED, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.set_xlabel("share of right answers (dashed: chance; shaded: what counts as chance)")
        return to_svg(figure, "realism", "Real or made: share of right answers", _words(rows))


def identity_figure(identity: Mapping) -> Markup:
    """Share of right choices for whole results and for mouths alone, against chance."""
    rows = [(f"{_VERSIONS[one['condition']]}, {_GROUPS[one['group']]}", one["accuracy"]) for one in identity["rates"]]
    chance = 1 / identity["choices"]
    with drawing(0.8 + 0.3 * len(rows)) as figure:
        axes = figure.subplots()
        _shares(axes, rows, None)
        axes.axvline(chance, color=RED, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.set_xlabel(f"share of right choices among {identity['choices']} (dashed: chance, {chance:.0%})")
        return to_svg(figure, "identity", "Who is it: share of right choices", _words(rows))


def equivalence_figure(findings: Sequence[Mapping]) -> Markup | None:
    """Mean difference result − original of each finding with its 90 % interval and margin."""
    rows = [
        (one["label"], one["equivalence"]) for one in findings if one["equivalence"] and one["equivalence"]["n_pairs"]
    ]
    if not rows:
        return None
    with drawing(0.75 + 0.3 * len(rows)) as figure:
        axes = figure.subplots()
        for place, (_, entry) in enumerate(rows):
            margin = entry["margin"]
            axes.barh(place, 2 * margin, left=-margin, height=0.8, color="#e6f0f9", edgecolor="none", zorder=0)
            for end in (-margin, margin):
                axes.plot([end, end], [place - 0.4, place + 0.4], color=SOFT, linewidth=1, linestyle=(0, (2, 2)))
            good = entry["equivalent"]
            colour, marker = (GREEN, "o") if good else (ORANGE, "s")
            if entry["low"] is not None:
                axes.plot([entry["low"], entry["high"]], [place, place], color=colour, linewidth=2)
            axes.plot(entry["difference"], place, marker, color=colour, markersize=6)
        ends = max(abs(x) for _, e in rows for x in (e["low"] or 0, e["high"] or 0, e["margin"]))
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlim=(-1.1 * ends, 1.1 * ends), ylim=(len(rows) - 0.4, -0.6))
        axes.set_xlabel("result − original, steps of the scale (circle: shown to be equivalent; square: not shown)")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        words = "; ".join(f"{name}: {entry['difference']:.2f} with margin {entry['margin']:g}" for name, entry in rows)
        return to_svg(figure, "equivalence", "Findings read on result and on original", words + ".")


def likert_figure(questions: Sequence[Mapping]) -> Markup:
    """Shares of the five answers to each sentence."""
    with drawing(0.95 + 0.42 * len(questions)) as figure:
        axes = figure.subplots()
        for place, question in enumerate(questions):
            left = 0.0
            for number, count in enumerate(question["counts"]):
                share = count / question["n"]
                label = question["answers"][number] if place == 0 else None
                axes.barh(place, share, left=left, height=0.62, color=_LIKERT[number], edgecolor="white", label=label)
                if share >= 0.04:
                    colour = "white" if number in (0, 4) else INK
                    axes.text(left + share / 2, place, str(count), ha="center", va="center", color=colour, fontsize=8)
                left += share
        axes.set(xlim=(0, 1), ylim=(len(questions) - 0.5, -0.5))
        axes.set_yticks(range(len(questions)), [question["name"] for question in questions])
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_xlabel("share of the answers (numbers: how many)")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper center", ncols=5)
        words = "; ".join(
            f"{q['name']}: " + ", ".join(f"{n} {a}" for a, n in zip(q["answers"], q["counts"], strict=True))
            for q in questions
        )
        return to_svg(figure, "usefulness", "Usefulness of the results", words + ".")


def _shares(axes, rows: Sequence[tuple[str, Mapping]], zone: tuple[float, float] | None) -> None:
    if zone:
        axes.axvspan(*zone, color=ROSE, zorder=0, linewidth=0)
    for place, (name, entry) in enumerate(rows):
        colour = INK if name == "all raters" else BLUE
        axes.plot([entry["low"], entry["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(entry["rate"], place, "D" if name == "all raters" else "o", color=colour, markersize=6)
        axes.text(
            1.02,
            place,
            f"{entry['k']} of {entry['n']}",
            va="center",
            fontsize=8,
            color=SOFT,
            transform=axes.get_yaxis_transform(),
        )
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color=LINE)


def _words(rows: Sequence[tuple[str, Mapping]]) -> str:
    return "; ".join(f"{name}: {e['k']} of {e['n']}, {e['low']:.0%} to {e['high']:.0%}" for name, e in rows) + "."
