"""Report stage: the audit and its summary, each a self-contained page and a PDF, and every number as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from markupsafe import Markup

from deidlib.config import stage_options
from deidlib.outcomes.outcomes import all_outcomes
from deidlib.outcomes.selection import Selection
from deidlib.pages import templates
from deidlib.pages.pdf import to_pdf
from deidlib.pages.tables import label_cells
from deidlib.panel.summary import read_summaries
from deidlib.release import redact
from deidlib.release.layout import TOMBSTONES_FILE
from deidlib.release.study import refuse_patients
from deidlib.release.tombstones import read_tombstones
from deidlib.release.verify import Examined
from deidlib.report import attacks, figures, gallery
from deidlib.report.groups import group_results, member
from deidlib.report.numbers import audit_numbers, index_of
from deidlib.report.summary import summarise
from deidlib.report.tally import CHECKS, JUDGES, Tally, add
from deidlib.review.effect import review_numbers
from deidlib.review.verdicts import OPTIONAL
from deidlib.storage.atomic import write_file
from deidlib.storage.results import REPORT_FILES

#: Sections of the annex, in their order: name of the template → title.
SECTIONS = {
    "criteria": "The criteria and their verdicts",
    "method": "What was done to the photographs",
    "cohort": "Where photographs were held back",
    "attacks": "Attacks on the release",
    "groups": "Results by skin tone, age and sex",
    "fidelity": "How faithful the dental area is",
    "realism": "How real the new faces look",
    "table": "The table beside the images",
    "limits": "What remains, and what this audit cannot show",
    "law": "Law and standards",
    "models": "Models and software",
    "settings": "Settings",
    "reproduce": "How to verify and reproduce",
    "glossary": "Glossary",
}
_GALLERY = ["release_patient_id", "release_photo_id", "path", "view", "route"]


def write_report(
    private: Path,
    release_folder: Path | None,
    report_root: Path,
    shards: list[str],
    attempts: int,
    version: str,
    config: dict,
    models: list[dict],
    attacks_file: Path | None = None,
    examined: Mapping[str, Examined] | None = None,
) -> Path:
    """Write the files of a version's report (:data:`deidlib.storage.results.REPORT_FILES`).

    From the private folder only numbers and pseudonyms are read; images come from the release folder alone.
    The same inputs give the same bytes: no clock, no host name, no path.

    Parameters
    ----------
    private : Path
        The results' private folder.
    release_folder : Path or None
        The version's release folder, None where nothing was released (the audit then says FAIL and why).
    report_root : Path
        Folder of all versions' reports.
    shards, attempts, version, config, models
        As for :func:`deidlib.release.write_release`.
    attacks_file : Path or None
        ``attacks.json`` of the attack suite; without it the audit of a release fails, for nothing was attacked.
    examined : mapping, optional
        What jobs found in the release's images (:func:`deidlib.release.verify.verify_release`).

    Returns
    -------
    Path
        The version's report folder.

    Raises
    ------
    ReleaseError
        A stage's table or ``attacks_file`` is missing or damaged, or a text of ``study`` says something of a single
        patient.
    """
    out = Path(report_root) / version
    out.mkdir(parents=True, exist_ok=True)
    if release_folder is not None:
        (out / TOMBSTONES_FILE).unlink(missing_ok=True)  # of an earlier run in which this version did not come about
    gone = count_tombstones(release_folder or out)
    made_with = shards, attempts, version, config, models, attacks_file, gone, examined
    audit, html = build_audit(private, release_folder, *made_with)
    text = json.dumps(audit, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    summary = summary_page(audit)
    contents = (summary.encode(), to_pdf(summary), html.encode(), to_pdf(html), text.encode())
    for name, data in zip(REPORT_FILES, contents, strict=True):
        write_file(out / name, data, 0o644)
    return out


def build_audit(
    private: Path,
    release_folder: Path | None,
    shards: list[str],
    attempts: int,
    version: str,
    config: dict,
    models: list[dict],
    attacks_file: Path | None = None,
    tombstones: int = 0,
    examined: Mapping[str, Examined] | None = None,
) -> tuple[dict, str]:
    """Give the audit as :func:`write_report` writes it: its numbers, and its page.

    ``tombstones`` is the number of ids that recipients of earlier versions have to delete.
    """
    refuse_patients(config, all_outcomes(private, shards, checks=()))
    tally, selected, members = Tally(), Selection(config["checks"]), []
    for outcome in all_outcomes(private, shards):
        add(tally, outcome)
        selected.add(outcome)
        members.append(member(outcome))
    suite = attacks.read_attacks(attacks_file)
    folder = Path(release_folder) if release_folder is not None else None
    index = index_of(folder)
    mode = {"review": config.get("review", OPTIONAL), "reviewers": config.get("reviewers", 1)}
    review = review_numbers(private, shards, mode)
    about = attempts, version, config, models, tombstones, review, selected.numbers(), examined
    audit = audit_numbers(tally, suite, folder, index, *about)
    images = set() if index is None else set(index["sha256"].to_pylist())
    audit["panel"] = read_summaries(private, audit["release"]["content_sha256"], images)
    audit["groups"] = group_results(members, suite)
    audit["summary"] = summarise(audit)
    return audit, audit_page(audit, _shown(audit, folder, index))


def count_tombstones(folder: Path) -> int:
    """Count the ids on a folder's tombstone list; 0 where there is none, or where it is damaged."""
    try:
        return len(read_tombstones(Path(folder)))
    except ValueError:
        return 0


def audit_page(audit: dict, shown: list[dict]) -> str:
    """Give the page of an audit: one HTML document that needs nothing else.

    Parameters
    ----------
    audit : dict
        From :func:`deidlib.report.numbers.audit_numbers`.
    shown : list of dict
        Released images: ``release_photo_id, view, uri``.
    """
    html = templates.render(
        "audit.html.j2",
        audit=audit,
        sections=SECTIONS,
        at={name: number for number, name in enumerate(SECTIONS, 1)},
        gallery=shown,
        attacked=attacks.grouped(audit),
        untried=attacks.untried(audit),
        calibration=attacks.calibrations(audit),
        compared=attacks.compared(audit),
        priced=attacks.priced(audit),
        forests=[(f"forest {key}", title) for key, (title, _) in attacks.FORESTS.items()],
        score_groups=attacks.score_groups(audit),
        titles=attacks.recogniser_titles(audit),
        region_words=attacks.REGION_WORDS,
        score_words={kind: words for kind, (words, _) in figures.SCORE_KINDS.items()},
        figures=_figures(audit),
        settings=[
            (key, value) for key, value in redact.flat_config(audit["configuration"]) if not key.startswith("study")
        ],
    )
    return label_cells(html)


def summary_page(audit: dict) -> str:
    """Give the page of the summary alone, for the review board."""
    return label_cells(templates.render("summary.html.j2", audit=audit, at=None))


def _figures(audit: dict) -> dict[str, Markup | None]:
    titles, checks = attacks.recogniser_titles(audit), stage_options(audit["configuration"], "checks")
    drawn = {
        "det": figures.det_figure(audit["calibration"], titles),
        "ranks": figures.rank_figure(audit["ranks"], titles),
        "smile": figures.smile_figure(list(audit["fidelity"]["smile"].values())),
    }
    for group in attacks.forest_groups(audit):
        title = f"Success of the attacks: {group['title']}"
        drawn[f"forest {group['key']}"] = figures.forest_figure(group["key"], title, group["rows"], titles)
    for group in attacks.score_groups(audit):
        name, title = group["name"], group.get("title") or group["name"]
        drawn[f"scores {name}"] = figures.score_figure(
            f"scores-{name}",
            f"Scores of {title}",
            f"{title}, {group.get('measure', 'score')}",
            group["scores"],
            group["thresholds"],
            group.get("same_above", True),
        )
    for name in JUDGES:
        drawn[f"gate {name}"] = _gate_figure(name, audit["privacy"][name])
    for name, title, axis in (
        ("mouth_shift", "Largest displacement of a mouth landmark", "% of the distance between the eye centres"),
        (
            "latent_distance",
            "Distance of the faces from what the generator draws",
            "distance in the generator's own units",
        ),
        ("realism", "Realism score of the upper faces", "score; higher is more like the generator's own"),
    ):
        numbers = audit["fidelity"][name]
        entry = numbers["histogram"] | {"n": numbers["n"]}
        check = CHECKS[name]
        drawn[name] = figures.histogram_figure(name, title, axis, entry, checks.get(check.option), check.upper)
    return drawn


def _gate_figure(name: str, judge: dict) -> Markup | None:
    scores = [
        {"kind": kind, "width": 0.02, "n": sum(n for _, n in bins), "bins": bins}
        for kind, bins in (
            ("released_same_photo", judge["histogram"]["released"]),
            ("stopped", judge["histogram"]["stopped"]),
        )
    ]
    thresholds = [] if judge["threshold"] is None else [(judge["threshold"], "gate")]
    title = f"Scores of {judge['name']} in the gate on single photographs"
    axis = f"{judge['name']}, {judge['measure']} to the most similar photograph of the patient"
    return figures.score_figure(f"gate-{judge['name']}", title, axis, scores, thresholds, name == "sface_cosine", True)


def _shown(audit: dict, folder: Path | None, index: pa.Table | None) -> list[dict]:
    """Thumbnails of released images, from a release that is whole and holds what passed; else none."""
    release = audit["release"]
    if not (release["written"] and release["problems"] == 0 and release["agrees"]):
        return []
    return [row | {"uri": gallery.thumbnail(folder / row["path"])} for row in gallery.choose(index.select(_GALLERY))]
