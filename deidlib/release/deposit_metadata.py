"""Metadata of a deposit: for Zenodo and for DataCite, from what a verified release states of itself.

Values that only people know are ``:tba`` ("to be announced", DataCite's standard value) and listed by :func:`missing`.

Rules that both records keep (:func:`metadata_problems`):

- DataCite 4.6: the mandatory properties creators, titles, publisher, publicationYear (four digits), types with a
  resourceTypeGeneral, and schemaVersion; values of controlled lists as the schema has them. The DOI is left out: the
  repository assigns it.
- Zenodo: title of three characters or more, description, creators, upload_type ``dataset``, publication_date as a
  date; access_right ``restricted``, for which access_conditions are mandatory. A release shows patients' own teeth, so
  open access is never written here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from deidlib.contract.routes import GENERATE
from deidlib.release import card
from deidlib.release.layout import CARD_FILE, SETTINGS_FILE
from deidlib.release.reading import read_index, read_json, read_text

TBA = ":tba"
KEYWORDS = ("dentistry", "orthodontics", "photographs", "de-identification")
#: The method's paper, which every deposit cites.
PAPER = "10.48550/arXiv.2307.02019"
CONDITIONS = (
    "The teeth and lips in these images are patients' own. Do not try to identify a person, do not link the images "
    "with other data on a person, and do not pass them on without these conditions."
)
#: Licences of the Creative Commons: identifier of SPDX → its address.
_CREATIVE_COMMONS = re.compile(r"CC-(BY(?:-NC)?(?:-SA|-ND)?)-4\.0|CC0-1\.0", re.IGNORECASE)

_TEXT = {"type": "string", "minLength": 1}
_NAMED = {"type": "object", "required": ["name"], "properties": {"name": _TEXT}}
_DATE = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_DATACITE = {
    "type": "object",
    "required": ["creators", "titles", "publisher", "publicationYear", "types", "schemaVersion"],
    "properties": {
        "creators": {"type": "array", "minItems": 1, "items": _NAMED},
        "titles": {"type": "array", "minItems": 1, "items": {"required": ["title"], "properties": {"title": _TEXT}}},
        "publisher": _NAMED,
        "publicationYear": {"type": "string", "pattern": r"^\d{4}$"},
        "types": {"required": ["resourceTypeGeneral"], "properties": {"resourceTypeGeneral": {"const": "Dataset"}}},
        "schemaVersion": {"const": "http://datacite.org/schema/kernel-4"},
        "dates": {"items": {"properties": {"date": _DATE, "dateType": {"enum": ["Issued", "Created"]}}}},
        "fundingReferences": {"items": {"required": ["funderName"], "properties": {"funderName": _TEXT}}},
        "rightsList": {"minItems": 1, "items": {"properties": {"rights": _TEXT}}},
    },
}
_ZENODO = {
    "type": "object",
    "required": ["title", "upload_type", "description", "creators", "publication_date", "access_right"],
    "properties": {
        "title": {"type": "string", "minLength": 3},
        "upload_type": {"const": "dataset"},
        "description": _TEXT,
        "creators": {"type": "array", "minItems": 1, "items": _NAMED},
        "publication_date": _DATE,
        "access_right": {"const": "restricted"},
        "access_conditions": _TEXT,
    },
    "dependentRequired": {"access_right": ["access_conditions"]},
}


@dataclass(frozen=True)
class Stated:
    """What a release states of itself; a text is empty where it states nothing.

    Attributes
    ----------
    name, version, date, sentence, content_digest, made_with : str
        From the data card; ``sentence`` has the counts in words, ``made_with`` is deidlib's version.
    institution, contact, licence, terms, funder, protocol : str
        As the settings' block `study` states them.
    generator : str
        Name of the generator that drew the faces; empty where none were drawn.
    tombstones : int
        Ids of earlier versions that have to be deleted.
    embedded : bool
        Whether the release holds Parquet files with its images.
    """

    name: str
    version: str
    date: str
    sentence: str
    content_digest: str
    made_with: str
    institution: str
    contact: str
    licence: str
    terms: str
    funder: str
    protocol: str
    generator: str
    tombstones: int
    embedded: bool


def stated_by(release: Path) -> Stated:
    """Read what a release states of itself.

    Parameters
    ----------
    release : Path
        A release that :func:`deidlib.release.verify_release` found whole.
    """
    on_card, settings = card.read_card(read_text(release, CARD_FILE)), read_json(release, SETTINGS_FILE)
    study, options = _block(settings, "study"), _block(settings, "release")
    return Stated(
        name=_line(options.get("name")) or "De-identified dental photographs",
        version=str(on_card["version"]),
        date=str(on_card["date"]),
        sentence=card.counts_sentence(on_card).replace("*", ""),
        content_digest=str(on_card["content_digest"]),
        made_with=str(on_card.get("made_with", "")),
        institution=_line(study.get("institution")),
        contact=_line(study.get("contact")),
        licence=_line(study.get("licence")),
        terms=_line(study.get("data_use_terms")),
        funder=_line(study.get("funder")),
        protocol=_line(study.get("protocol")),
        generator=_line(settings.get("generator")) if GENERATE in read_index(release)["route"].to_pylist() else "",
        tombstones=int(on_card.get("tombstones") or 0),
        embedded=(release / "data").is_dir(),
    )


def missing(found: Stated) -> list[str]:
    """List what people have to fill in before the deposit, each as ``field: what to write``."""
    asked = {
        "creators": "the people who made the dataset, as Family name, Given names, with their ORCIDs"
        + (f"; so far the institution alone is named ({found.institution})" if found.institution else ""),
        "contact": "" if found.contact else "an address to which requests for access go",
        "licence": "" if found.licence else "the licence of images and index",
        "access conditions": "" if found.terms else "your data use agreement, beside the sentences that stand there",
        "funder": "" if found.funder else "who funded the study, or nothing if nobody did",
        "ethics": "" if found.protocol else "the review board's protocol number, in the description",
        "DOI": "reserve it in the repository's form; it stands in no file of the release",
    }
    return [f"{field}: {what}" for field, what in asked.items() if what]


def zenodo(found: Stated) -> dict[str, Any]:
    """Metadata of Zenodo's deposit, as ``.zenodo.json`` and its deposit API take it."""
    conditions = [found.terms, CONDITIONS, f"Requests: {found.contact or TBA}"]
    record = {
        "title": f"{found.name}, version {found.version}",
        "upload_type": "dataset",
        "description": "".join(f"<p>{html.escape(text)}</p>" for text in _description(found)),
        "creators": [{"name": found.institution or TBA}],
        "publication_date": found.date,
        "version": found.version,
        "language": "eng",
        "keywords": list(KEYWORDS),
        "access_right": "restricted",
        "access_conditions": "".join(f"<p>{html.escape(text)}</p>" for text in conditions if text),
        "related_identifiers": [{"identifier": PAPER, "relation": "cites", "scheme": "doi"}],
        "notes": f"Content digest of index and images (SHA-256): {found.content_digest}",
    }
    if _CREATIVE_COMMONS.fullmatch(found.licence):
        record["license"] = found.licence.lower()
    return record


def datacite(found: Stated) -> dict[str, Any]:
    """Metadata in the JSON form of DataCite 4.6, without a DOI."""
    rights: dict[str, Any] = {"rights": found.licence or TBA}
    if match := _CREATIVE_COMMONS.fullmatch(found.licence):
        kind = f"licenses/{match[1].lower()}/4.0" if match[1] else "publicdomain/zero/1.0"
        rights |= {
            "rightsUri": f"https://creativecommons.org/{kind}/",
            "rightsIdentifier": found.licence.lower(),
            "rightsIdentifierScheme": "SPDX",
            "schemeUri": "https://spdx.org/licenses/",
        }
    name = found.institution or TBA
    return {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "creators": [{"name": name, **({"nameType": "Organizational"} if found.institution else {})}],
        "titles": [{"title": found.name}],
        "publisher": {"name": "Zenodo"},
        "publicationYear": found.date[:4],
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "De-identified photographs"},
        "subjects": [{"subject": word} for word in KEYWORDS],
        "dates": [{"date": found.date, "dateType": "Issued"}],
        "language": "en",
        "version": found.version,
        "formats": ["image/png", "application/vnd.apache.parquet"],
        "rightsList": [rights, *([{"rights": found.terms}] if found.terms else []), {"rights": CONDITIONS}],
        "descriptions": [{"description": " ".join(_description(found)), "descriptionType": "Abstract"}],
        "alternateIdentifiers": [
            {"alternateIdentifier": f"sha256:{found.content_digest}", "alternateIdentifierType": "content digest"}
        ],
        "relatedIdentifiers": [
            {"relatedIdentifier": PAPER, "relatedIdentifierType": "DOI", "relationType": "Cites"},
        ],
        **({"fundingReferences": [{"funderName": found.funder}]} if found.funder else {}),
    }


def metadata_problems(records: Mapping[str, Mapping]) -> list[str]:
    """List where ``zenodo`` or ``datacite`` breaks a rule that the module states, each as ``record: where: what``."""
    rules = {"zenodo": _ZENODO, "datacite": _DATACITE}
    return [
        f"{name}: {'.'.join(map(str, error.absolute_path)) or 'record'}: {error.message}"
        for name, record in records.items()
        for error in jsonschema.Draft202012Validator(rules[name]).iter_errors(record)
    ]


def _description(found: Stated) -> list[str]:
    around = (
        f"Where the column route says generate, it is shown inside a face drawn by a network ({found.generator})."
        if found.generator
        else "No face was generated."
    )
    texts = [
        f"{found.sentence}, de-identified with deidlib {found.made_with}.",
        f"Each image shows the patient's own dental area, pixel for pixel. {around} README.md is the data card: it "
        "describes every column, how the images were made, what is not protected, and the licence of every model.",
        f"Licence of images and index: {found.licence or TBA}."
        + (" The licences of the models bind as well." if found.generator else ""),
    ]
    if found.protocol:
        texts.append(f"Ethical review: {found.protocol}.")
    return texts


def _block(settings: Mapping, name: str) -> Mapping:
    block = settings.get(name) or {}
    return block if isinstance(block, Mapping) else {}


def _line(value: object) -> str:
    return " ".join(str(value or "").split())
