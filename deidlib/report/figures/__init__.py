"""Figures of the audit: Matplotlib drawings as inline SVG with a text alternative, the same bytes each time."""

from deidlib.report.figures.attacks import (
    SCORE_KINDS,
    det_figure,
    forest_figure,
    rank_figure,
    score_figure,
)
from deidlib.report.figures.fidelity import histogram_figure, smile_figure

__all__ = [
    "SCORE_KINDS",
    "det_figure",
    "forest_figure",
    "histogram_figure",
    "rank_figure",
    "score_figure",
    "smile_figure",
]
