"""Figures of dental fidelity: differences before and after, and distributions against their bounds."""

from __future__ import annotations

from markupsafe import Markup

from deidlib.pages.svg import BLUE, INK, RED, SLIM, SOFT, drawing, to_svg
from deidlib.report.figures.attacks import stairs_of


def smile_figure(measures: list[dict]) -> Markup | None:
    """Differences after minus before: range, middle 95 %, middle half and median of each measure.

    Parameters
    ----------
    measures : list of dict
        ``title, unit, n, quantiles`` with quantiles at 0, 2.5, 25, 50, 75, 97.5 and 100 %; None where n is 0.
    """
    shown = [entry for entry in measures if entry["n"]]
    if not shown:
        return None
    units = list(dict.fromkeys(entry["unit"] for entry in shown))
    rows = {unit: [entry for entry in shown if entry["unit"] == unit] for unit in units}
    with drawing(0.5 + 0.27 * len(shown) + 0.45 * len(units), SLIM) as figure:
        ratios = [len(rows[unit]) + 0.6 for unit in units]
        panels = figure.subplots(len(units), 1, squeeze=False, height_ratios=ratios)[:, 0]
        for axes, unit in zip(panels, units, strict=True):
            for place, entry in enumerate(rows[unit]):
                low, p2, p25, p50, p75, p97, high = entry["quantiles"]
                axes.plot([low, high], [place, place], color=SOFT, linewidth=0.8)
                axes.plot([p2, p97], [place, place], color=BLUE, linewidth=2)
                axes.plot([p25, p75], [place, place], color=BLUE, linewidth=7, solid_capstyle="butt")
                axes.plot([p50, p50], [place - 0.33, place + 0.33], color="white", linewidth=2)
            ends = max(abs(number) for entry in rows[unit] for number in (*entry["quantiles"], 0.01))
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.set(xlim=(-1.1 * ends, 1.1 * ends), ylim=(len(rows[unit]) - 0.4, -0.6), xlabel=f"difference, {unit}")
            axes.set_yticks(range(len(rows[unit])), [entry["title"] for entry in rows[unit]])
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.grid(True, axis="x")
        words = "; ".join(
            f"{entry['title']}: median {entry['quantiles'][3]:.2f} {entry['unit']}, from {entry['quantiles'][0]:.2f} "
            f"to {entry['quantiles'][6]:.2f}"
            for entry in shown
        )
        return to_svg(figure, "smile", "Clinical measures, released minus original", words + ".")


def histogram_figure(
    key: str, title: str, axis: str, entry: dict, bound: float | None, upper: bool = True
) -> Markup | None:
    """Counts of one measure in classes, with its upper (or lower) bound.

    ``entry`` holds ``n, width, bins`` as for :func:`deidlib.report.figures.attacks.score_figure`.
    """
    if not entry["bins"]:
        return None
    with drawing(1.8, SLIM) as figure:
        axes = figure.subplots()
        edges, shares = stairs_of(entry)
        axes.stairs(shares * entry["n"], edges, fill=True, facecolor=BLUE + "66", edgecolor=BLUE, linewidth=1.1)
        if bound is not None:
            axes.axvline(bound, color=RED, linewidth=1.2, linestyle=(0, (5, 3)))
            axes.annotate(
                f"gate: at {'most' if upper else 'least'} {bound:g}",
                (bound, 1),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if upper else 4, -8),
                textcoords="offset points",
                ha="right" if upper else "left",
                color=RED,
            )
        high = max(edges[-1], 1.05 * (bound or 0))
        low = min(0.0, edges[0], 1.05 * (bound or 0))
        axes.set(xlim=(low, high), ylim=(0, None), xlabel=axis, ylabel="photographs")
        axes.yaxis.get_major_locator().set_params(integer=True)
        bins = ", ".join(f"{edge:g}: {count}" for edge, count in entry["bins"])
        return to_svg(figure, key, title, f"Photographs in classes of {entry['width']:g}, by lower edge: {bins}.")
