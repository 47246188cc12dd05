"""The summary of a release: what card, datasheet, Croissant and RO-Crate say, gathered once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.columns.faces import words as shown_words
from deidlib.columns.protect import claim, measured_k
from deidlib.config import NO_GENERATOR, draws_faces
from deidlib.contract.checks import LIKENESS
from deidlib.contract.routes import GENERATE
from deidlib.outcomes.selection import words as selection_words
from deidlib.pages.templates import markdown_code
from deidlib.release import redact
from deidlib.release.study import study_fields
from deidlib.review.effect import nobody_looked, review_words
from deidlib.storage import tables
from deidlib.storage.reasons import public_text_of

_TALLIED = {
    "view": "View",
    "timepoint": "Time point",
    "route": "Route",
    "region_method": "Preserved area",
    "attempt": "Attempt that passed (column `attempt`; 0 is the first)",
}
#: Most values of a released column that are listed with their counts.
_MOST_VALUES = 40


@dataclass(frozen=True)
class Summary:
    """Summary of a release for its documents.

    Attributes
    ----------
    name : str
        As the configuration gives it.
    study : dict
        What the configuration states of the study: see :func:`deidlib.release.study.study_fields`.
    version, date : str
        Version, and its date (ISO 8601).
    counts : dict
        ``photographs``, ``patients``, ``quarantined``, ``tombstones``.
    several : int
        Patients with more than one photograph.
    reasons : list of (code, count, meaning)
        Of the quarantined photographs.
    tallies : list of (title, list of (value, count))
        Photographs by view, time point, preserved area, attempt and each released column of few values.
    missing : list of (column, count)
        Columns of the sheet with empty cells among the released photographs.
    routes : dict
        Route → photographs.
    sides : (int, int)
        Smallest and largest side of an image in pixels.
    columns : list of (name, type, description, unit)
        Of the index.
    released_columns : list of str
        Columns that came from the sheet by the configuration.
    k_claim : dict
        What the index claims: see :func:`deidlib.columns.protect.claim`.
    k_measured : int or None
        Patients that share the rarest record; None where the columns tell nobody apart.
    selection : dict
        What was made again and by whom it was selected: see :func:`deidlib.outcomes.selection.selection`.
    shown_by_faces : dict or None
        What the faces show of columns that were made coarser: see :func:`deidlib.columns.faces.shown_by_faces`.
    content_digest, settings_digest : str
        See :func:`deidlib.release.layout.content_digest` and :func:`deidlib.release.redact.config_digest`.
    config : dict
        The public configuration, ``release.date`` being the release's.
    models : list of dict
        See :func:`deidlib.release.redact.public_models`.
    embedded : int
        Parquet files that hold the images as well.
    review : dict
        What reviewers did: see :func:`deidlib.review.effect.review_numbers`.
    not_judged : list of str
        Statements of the release gate's criteria that the cohort is too small to judge.
    """

    name: str
    study: dict
    version: str
    date: str
    counts: dict
    several: int
    reasons: list
    tallies: list
    missing: list
    routes: dict
    sides: tuple
    columns: list
    released_columns: list
    k_claim: dict
    k_measured: int | None
    selection: dict
    shown_by_faces: dict | None
    content_digest: str
    settings_digest: str
    config: dict
    models: list
    embedded: int
    review: dict
    not_judged: list

    @property
    def deidlib_version(self) -> str:
        """Version of the software that made the release."""
        return package_version("deidlib")

    @property
    def licence(self) -> str:
        """Licence of images and index."""
        return self.study.get("licence", "not stated")

    @property
    def institution(self) -> str:
        """The institution that shares the dataset; empty where it is not stated."""
        return self.study.get("institution", "")

    @property
    def contact(self) -> str:
        """Contact for recipients; empty where it is not stated."""
        return self.study.get("contact", "")

    @property
    def per_patient(self) -> bool:
        """Whether all photographs of a patient show the same new person."""
        return self.config.get("identity", "per_patient") == "per_patient"

    @property
    def reviewed(self) -> str:
        """Whether a person looked, in words."""
        return review_words(self.review)

    @property
    def with_faces(self) -> bool:
        """Whether a photograph shows a generated face."""
        return bool(self.routes.get(GENERATE))

    @property
    def selected(self) -> str:
        """How images were selected, and by which recognisers, in words; empty where no face was generated."""
        return selection_words(self.selection) if self.selection else ""

    @property
    def shown(self) -> str:
        """Columns that were made coarser and that the faces still show, in words; empty where there are none."""
        return shown_words(self.shown_by_faces) if self.shown_by_faces else ""

    @property
    def likeness_bounds(self) -> str:
        """Bounds of the checks on the recognisers' scores, in words."""
        checks = self.config.get("checks", {})
        return ", ".join(
            f"{title} {check.bound_in_words(checks)}"
            for check, title in zip(LIKENESS.values(), ("SFace cosine", "dlib distance"), strict=True)
        )

    @property
    def sentence(self) -> str:
        """The card's first sentence: its counts in words."""
        return counts_sentence(self.counts)


def gather(
    index: pa.Table,
    reasons: Mapping[str, int],
    tombstones: int,
    embedded: int,
    version: str,
    date: str,
    content_digest: str,
    config: Mapping,
    models: list[dict],
    from_run: Mapping[str, Any] | None = None,
) -> Summary:
    """Gather the summary of a release.

    Parameters
    ----------
    index : pa.Table
        The release's index.
    reasons : mapping
        Reason code → number of quarantined photographs.
    tombstones, embedded : int
        Ids on the tombstone list; Parquet files with images.
    version, date, content_digest : str
        See :class:`Summary`.
    config, models
        As for :func:`deidlib.release.write_release`.
    from_run : mapping, optional
        What the index does not contain: ``review`` (:func:`deidlib.review.effect.review_numbers`; by default nobody
        looked), ``not_judged``, ``selection`` and ``shown_by_faces`` as in :class:`Summary`.
    """
    options, from_run = config.get("release", {}), from_run or {}
    patients = Counter(index["release_patient_id"].to_pylist())
    released = [name for name in index.schema.names if name not in tables.INDEX.names]
    tallies = [(title, _tally(index, name)) for name, title in _TALLIED.items()]
    tallies += [(markdown_code(name), _tally(index, name)) for name in released]
    shown = redact.public_config(config)
    return Summary(
        name=options.get("name") or "De-identified dental photographs",
        study=study_fields(config),
        version=version,
        date=date,
        counts={
            "photographs": index.num_rows,
            "patients": len(patients),
            "quarantined": sum(reasons.values()),
            "tombstones": tombstones,
        },
        several=sum(1 for n in patients.values() if n > 1),
        reasons=[(code, n, public_text_of(code)) for code, n in sorted(reasons.items())],
        tallies=[(title, tally) for title, tally in tallies if len(tally) <= _MOST_VALUES],
        missing=[(n, index[n].null_count) for n in ("view", "timepoint", *released) if index[n].null_count],
        routes=dict(_tally(index, "route")),
        sides=(pc.min(index["width"]).as_py(), pc.max(index["width"]).as_py()),
        columns=[(f.name, str(f.type), _meta(f, "description"), _meta(f, "unit")) for f in index.schema],
        released_columns=released,
        k_claim=claim(index) or {"k": None, "quasi_identifiers": []},
        k_measured=measured_k(index),
        selection=dict(from_run.get("selection") or {}),
        shown_by_faces=from_run.get("shown_by_faces"),
        content_digest=content_digest,
        settings_digest=redact.config_digest(config),
        config=shown | _generator(config) | {"version": version, "release": {**shown.get("release", {}), "date": date}},
        models=redact.public_models(models, GENERATE in index["route"].to_pylist()),
        embedded=embedded,
        review=dict(from_run.get("review") or nobody_looked(index.num_rows)),
        not_judged=list(from_run.get("not_judged") or ()),
    )


def _generator(config: Mapping) -> dict:
    """The generator as a release states it: the one by which attacks calibrate touches no released photograph."""
    return {} if draws_faces(config) else {"generator": NO_GENERATOR}


def counts_sentence(counts: Mapping) -> str:
    """Say how many photographs of how many patients, in bold Markdown."""
    photographs, patients = counts.get("photographs"), counts.get("patients")
    many, several = "s" * (photographs != 1), "s" * (patients != 1)
    return f"**{photographs} photograph{many}** of **{patients} patient{several}**"


def _tally(index: pa.Table, column: str) -> list[tuple[str, int]]:
    counts = Counter("not stated" if value is None else str(value) for value in index[column].to_pylist())
    return sorted(counts.items())


def _meta(field: pa.Field, key: str) -> str:
    return (field.metadata or {}).get(key.encode(), b"").decode()
