"""Figures of the audit as inline SVG: no plotting library, no fonts to load, the same bytes each time."""

from __future__ import annotations

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 720, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 40, 52
_BIN = 0.02
#: Up to this many photographs in one class each is drawn as a dot, above it classes are bars.
_MOST_DOTS = 13


def score_figure(judge: dict, low: float, high: float, same_above: bool, label: str) -> Markup:
    """Distribution of one judge's scores with its threshold.

    Parameters
    ----------
    judge : dict
        From :func:`deidlib.report.tally.judge_numbers`.
    low, high : float
        Shown range; widened where numbers lie outside.
    same_above : bool
        Scores above the threshold mean the same person (similarity), else scores below (distance).
    label : str
        Text alternative.
    """
    released, stopped = judge["histogram"]["released"], judge["histogram"]["stopped"]
    edges = [edge for edge, _ in released + stopped]
    low, high = min([low, *edges]), max([high, *(edge + _BIN for edge in edges)])
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    base = _TOP + plot_height

    def x_of(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * plot_width

    stacks: dict[float, list[tuple[str, int]]] = {}
    for name, bins in (("released", released), ("stopped", stopped)):
        for edge, count in bins:
            stacks.setdefault(edge, []).append((name, count))
    tallest = max((sum(n for _, n in stack) for stack in stacks.values()), default=0)
    parts = _threshold(judge["threshold"], x_of, same_above, base)
    parts += _axis(low, high, x_of, base, judge)
    if tallest <= _MOST_DOTS:
        parts += _dots(stacks, x_of, base)
    else:
        parts += _bars(stacks, x_of, base, plot_height / tallest, tallest)
    return Markup(
        f'<svg class="figure" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{''.join(parts)}</svg>"
    )


def _threshold(threshold: float | None, x_of, same_above: bool, base: float) -> list[str]:
    if threshold is None:
        return []
    x = x_of(threshold)
    left, width = (x, _WIDTH - _RIGHT - x) if same_above else (_LEFT, x - _LEFT)
    anchor, at = ("start", x + 6) if same_above else ("end", x - 6)
    other_anchor, other_at = ("end", x - 6) if same_above else ("start", x + 6)
    return [
        f'<rect class="zone" x="{left:.1f}" y="{_TOP}" width="{width:.1f}" height="{base - _TOP:.1f}"/>',
        f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 10}" y2="{base:.1f}"/>',
        f'<text class="zone-text" x="{at:.1f}" y="{_TOP - 14}" text-anchor="{anchor}">taken for the same person</text>',
        f'<text x="{other_at:.1f}" y="{_TOP - 14}" text-anchor="{other_anchor}">threshold {threshold:g}</text>',
    ]


def _axis(low: float, high: float, x_of, base: float, judge: dict) -> list[str]:
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>']
    for tenth in range(round(low * 10), round(high * 10) + 1):
        value = tenth / 10
        if low - 1e-9 <= value <= high + 1e-9:
            x = x_of(value)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base:.1f}" y2="{base + 5:.1f}"/>')
            parts.append(f'<text x="{x:.1f}" y="{base + 19:.1f}" text-anchor="middle">{value:.1f}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    title = f"{judge['name']} {judge['measure']} to the nearest photograph of the patient"
    parts.append(f'<text class="axis-title" x="{middle:.1f}" y="{base + 42:.1f}" text-anchor="middle">{title}</text>')
    return parts


def _dots(stacks: dict, x_of, base: float) -> list[str]:
    parts = []
    for edge in sorted(stacks):
        kinds = [name for name, count in stacks[edge] for _ in range(count)]
        x = x_of(edge + _BIN / 2)
        parts += [
            f'<circle class="{name}" cx="{x:.1f}" cy="{base - 7 - 11.5 * level:.1f}" r="4.8"/>'
            for level, name in enumerate(kinds)
        ]
    return parts


def _bars(stacks: dict, x_of, base: float, unit: float, tallest: int) -> list[str]:
    parts = []
    for edge in sorted(stacks):
        x, width, bottom = x_of(edge), x_of(edge + _BIN) - x_of(edge), base
        for name, count in stacks[edge]:
            height = count * unit
            bottom -= height
            parts.append(
                f'<rect class="{name}" x="{x + 0.5:.1f}" y="{bottom:.1f}" '
                f'width="{width - 1:.1f}" height="{height:.1f}"/>'
            )
    top = base - tallest * unit
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="{top:.1f}" y2="{base:.1f}"/>')
    for count in (0, tallest):
        parts.append(f'<text x="{_LEFT - 6}" y="{base - count * unit + 4:.1f}" text-anchor="end">{count:,}</text>')
    return parts
