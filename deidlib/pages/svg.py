"""Converts a Matplotlib figure to SVG for a page: no date, no random id, text as text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

WIDTH = 7.2  # inches; the width of a page
SLIM = 4.8  # inches; a figure that a telephone shows whole, with type that can be read
INK, SOFT, LINE = "#1c2733", "#4d5b69", "#c3ccd5"
WASH = "#e6ebf0"
BLUE, ORANGE, GREEN, PURPLE, RED, ROSE = "#1f5f99", "#b35900", "#14693a", "#7a3f8f", "#a61b14", "#fbeae8"
#: Colour and marker of the first, second, … series; each pair differs in grey as well.
SERIES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (INK, "v"))

_RC = {
    "svg.fonttype": "none",  # text stays text: small files, searchable, read aloud
    "svg.hashsalt": "deidlib",
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that the layout is the same everywhere
    "font.size": 9.2,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.2,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.2,
    "hatch.linewidth": 0.7,
}


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Open a figure of ``width`` and ``height`` inches (:data:`WIDTH` or :data:`SLIM`), in the audit's style."""
    with mpl.rc_context(_RC):
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, key: str, title: str, alternative: str) -> Markup:
    """Give a figure as inline SVG.

    Parameters
    ----------
    figure : Figure
        Drawn within :func:`drawing`.
    key : str
        Distinguishes the ids of this figure from those of every other on the page; letters, digits, hyphens.
    title, alternative : str
        Short title, and what the figure shows in words.
    """
    with mpl.rc_context(_RC):
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)[1]
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    # Matplotlib names clip paths by their exact place, whose last digits the layout's solver does not repeat.
    for number, name in enumerate(dict.fromkeys(re.findall(r'\bid="(p[0-9a-f]{10})"', body))):
        body = body.replace(name, f"clip{number}")
    body = re.sub(r'\bid="', f'id="{key}-', body)
    body = re.sub(r"url\(#", f"url(#{key}-", body).replace('xlink:href="#', f'href="#{key}-')
    body = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]*", _font, body)
    body = re.sub(r"\n\s*", "\n", body)
    kind = "figure slim" if figure.get_figwidth() < WIDTH else "figure"
    return Markup(
        f'<svg class="{kind}" viewBox="{box}" role="img" aria-label="{escape(title)}. {escape(alternative)}" '
        f'font-family="DejaVu Sans, sans-serif" stroke-linejoin="round"><title>{escape(title)}</title>{body.rstrip()}'
    )


def _font(found: re.Match) -> str:
    """Replace the font shorthand, which PDF renderers do not read; the family is that of the page."""
    weight = f"font-weight: {found[1]}; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"
