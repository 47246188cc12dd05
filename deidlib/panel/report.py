"""The panel's report: HTML and PDF for people, and the summary that the audit takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deidlib.pages import templates
from deidlib.pages.pdf import to_pdf
from deidlib.panel import figures
from deidlib.panel.analysis import headline
from deidlib.panel.study import ACQUAINTED
from deidlib.panel.summary import SIMULATED_FILE, SUMMARY_FILE

LABELS = {
    "angle_class": "Angle class",
    "overjet": "Overjet",
    "crowding": "Crowding",
    "midline": "Midline",
    "smile_line": "Smile line",
    "gingival_display": "Gingival display",
    "asymmetry": "Asymmetry",
    "aesthetic_component": "Aesthetic component",
}


def write_panel_report(results: Mapping, folder: Path) -> Path:
    """Write ``report.html``, ``report.pdf`` and the summary; returns the summary's path.

    Results of simulated raters are called so on every page, and their summary has another name, so that no audit
    takes it.
    """
    folder = Path(folder)
    html = report_page(results)
    (folder / "report.html").write_text(html, encoding="utf-8")
    (folder / "report.pdf").write_bytes(to_pdf(html))
    for stale in (SUMMARY_FILE, SIMULATED_FILE):
        (folder / stale).unlink(missing_ok=True)
    path = folder / (SIMULATED_FILE if results["simulated"] else SUMMARY_FILE)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path


def report_page(results: Mapping) -> str:
    """One HTML page of the results, which needs nothing else."""
    names = rater_names(results)
    findings = [
        one | {"label": LABELS.get(one["name"], one["name"].replace("_", " "))} for one in results["reading"] or []
    ]
    drawn = {
        "realism": figures.realism_figure(results["realism"], names) if results["realism"] else None,
        "equivalence": figures.equivalence_figure(findings),
        "usefulness": figures.likert_figure(results["usefulness"]) if results["usefulness"] else None,
        "identity": figures.identity_figure(results["identity"]) if results["identity"] else None,
    }
    return templates.render(
        "panel/report.html.j2",
        results=results,
        findings=findings,
        names=names,
        flagged=[names[rater] for rater in results["flagged"]],
        without=results["without_flagged"],
        figures=drawn,
        headline=headline(results),
        conditions={"result": "whole result", "mouth": "mouth alone"},
        groups={"panel": "panel", "acquainted": "raters who know the patients"},
    )


def rater_names(results: Mapping) -> dict[str, str]:
    """Name of each rater for the reader: simulated ones are called so."""
    word = "simulated rater" if results["simulated"] else "rater"
    return {
        row["rater"]: f"{word} {row['rater'].rsplit('-', 1)[-1]}" + (" (knows)" if row["group"] == ACQUAINTED else "")
        for row in results["raters"]
    }
