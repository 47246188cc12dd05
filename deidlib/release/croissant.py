"""``croissant.json``: the release in the Croissant 1.1 format (mlcommons.org/croissant), with Responsible-AI fields.

Two record sets: ``photographs`` holds the index as it is, ``images`` each photograph with its patient and its pixels.
Provenance is stated in the terms of W3C PROV, terms of use as ``usageInfo`` (section "Responsible AI and Governance" of
the specification). mlcroissant validates everything but these two, which it passes over. The specification asks for the
dataset's ``url`` as well: a release has none before it is deposited, so that this one property is absent.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime

import mlcroissant as mlc
import pyarrow as pa

from deidlib.release.layout import IMAGES_FOLDER, INDEX_FILE
from deidlib.release.summary import Summary

_TYPES = {
    pa.string(): mlc.DataType.TEXT,
    pa.bool_(): mlc.DataType.BOOL,
    pa.int32(): mlc.DataType.INT32,
}
_VERSION = "http://mlcommons.org/croissant/1.1"
#: Terms of the specification's context that mlcroissant's writer leaves out, and the vocabularies used below.
_CONTEXT = {
    "annotation": "cr:annotation",
    "arrayShape": "cr:arrayShape",
    "containedIn": "cr:containedIn",
    "description": {"@container": "@language"},
    "excludes": "cr:excludes",
    "isArray": "cr:isArray",
    "name": {"@container": "@language"},
    "readLines": "cr:readLines",
    "sdVersion": "cr:sdVersion",
    "unArchive": "cr:unArchive",
    "value": "cr:value",
    "prov": "http://www.w3.org/ns/prov#",
    "duo": "http://purl.obolibrary.org/obo/DUO_",
}
_NO_REIDENTIFICATION = "Do not try to identify a person, and do not pass images on without these conditions."
_FILES = "image-files"
_FILE_NAME = mlc.Transform(regex=r"(?:.*/)?([^/]+)$")


def croissant(summary: Summary, schema: pa.Schema, index_sha256: str, study: Mapping[str, str] = {}) -> bytes:
    """JSON-LD of the release.

    Parameters
    ----------
    summary : Summary
        Summary of the run, from which every statement is taken.
    schema : pa.Schema
        Of the index.
    index_sha256 : str
        Checksum of ``index.parquet``.
    study : mapping, optional
        What the study states of itself; ``data_use_terms`` is read.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)  # its remarks on what is recommended are not the user's
    index = mlc.FileObject(
        id=INDEX_FILE,
        name=INDEX_FILE,
        description="One row for each photograph.",
        content_url=INDEX_FILE,
        encoding_formats=["application/x-parquet"],
        sha256=index_sha256,
    )
    images = mlc.FileSet(
        id=_FILES,
        name=_FILES,
        description="One PNG (8-bit sRGB, no metadata) for each photograph.",
        encoding_formats=["image/png"],
        includes=[f"{IMAGES_FOLDER}/**/*.png"],
    )
    metadata = mlc.Metadata(
        ctx=mlc.Context(conforms_to=_VERSION),
        conforms_to=[_VERSION, "http://mlcommons.org/croissant/RAI/1.0"],
        name=summary.name,
        description=(f"{summary.sentence.replace('*', '')} in version {summary.version}. {_shows(summary)}"),
        version=summary.version,
        date_published=datetime.fromisoformat(summary.date),
        license=[summary.licence],
        creators=[mlc.Organization(name=summary.institution)] if summary.institution else [],
        cite_as=_citation(summary),
        keywords=["dentistry", "orthodontics", "de-identified", "face"],
        distribution=[index, images],
        record_sets=[_photographs(schema), _images()],
        **_responsible(summary),
    )
    content = metadata.to_json()
    content["@context"] = dict(sorted((content["@context"] | _CONTEXT).items()))
    content |= _provenance(summary) | {"usageInfo": _terms_of_use(summary.licence, study.get("data_use_terms") or "")}
    return (json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n").encode()


def _provenance(summary: Summary) -> dict:
    """From what the release was derived, by what, with which models, and who answers for it."""
    taken_in = summary.counts["photographs"] + summary.counts["quarantined"]
    activity = {
        "@type": "prov:Activity",
        "prov:label": f"De-identification with deidlib {summary.deidlib_version}, settings {summary.settings_digest}",
        "prov:endedAtTime": summary.date,
        "prov:used": [
            {"@type": "prov:Entity", "prov:label": f"{model['name']}: {model['task']}. Licence: {model['licence']}"}
            for model in summary.models
        ],
    }
    stated = {
        "prov:wasDerivedFrom": {
            "@type": "prov:Entity",
            "prov:label": f"{taken_in} clinical photographs, which are not published",
        },
        "prov:wasGeneratedBy": activity,
    }
    if summary.institution:
        stated["prov:wasAttributedTo"] = {"@type": "prov:Organization", "prov:label": summary.institution}
    return stated


def _terms_of_use(licence: str, own: str) -> list[dict]:
    """The conditions as a text, and as a term of the Data Use Ontology each code that the study's own terms name."""
    text = " ".join(part for part in (f"Licence: {licence}.", " ".join(own.split()), _NO_REIDENTIFICATION) if part)
    codes = dict.fromkeys(re.findall(r"DUO[_:](\d{7})\b", own))
    return [
        {"@type": "CreativeWork", "name": "Terms of use", "text": text},
        *({"@type": "DefinedTerm", "termCode": f"DUO_{code}", "url": f"duo:{code}"} for code in codes),
    ]


def _shows(summary: Summary) -> str:
    if summary.with_faces:
        return "Each image shows the patient's own dental area inside a face drawn by a generator."
    return "Each image shows the patient's own dental area; no face was generated."


def _outside(summary: Summary) -> str:
    """Describe what the images show outside the preserved area, for each route."""
    texts = {
        "generate": f"those of the route generate show a face drawn by {summary.config.get('generator')}",
        "region_only": "those of the route region_only neutral grey",
        "intraoral": "those of the route intraoral are whole, for no face was found in them",
    }
    parts = [text for route, text in texts.items() if summary.routes.get(route)]
    return f"Of the images, outside the preserved area ({summary.config.get('preserve', 'mouth')}): {'; '.join(parts)}."


def _photographs(schema: pa.Schema) -> mlc.RecordSet:
    fields = [
        mlc.Field(
            id=f"photographs/{column.name}",
            name=column.name,
            description=_described(column),
            data_types=[_TYPES[column.type]],
            source=_cell(column.name),
        )
        for column in schema
    ]
    key = ["photographs/release_photo_id"]
    return mlc.RecordSet(id="photographs", name="photographs", description="The index.", key=key, fields=fields)


def _images() -> mlc.RecordSet:
    texts = {
        "release_photo_id": "the photograph",
        "release_patient_id": "its patient",
    }
    fields = [
        mlc.Field(id=f"images/{name}", name=name, description=text, data_types=[mlc.DataType.TEXT], source=_cell(name))
        for name, text in texts.items()
    ]
    fields.append(
        mlc.Field(
            id="images/file_name",
            name="file_name",
            description="name of the image file",
            data_types=[mlc.DataType.TEXT],
            source=mlc.Source(file_object=INDEX_FILE, extract=mlc.Extract(column="path"), transforms=[_FILE_NAME]),
            references=mlc.Source(file_set=_FILES, extract=mlc.Extract(file_property=mlc.FileProperty.filename)),
        )
    )
    content = mlc.Extract(file_property=mlc.FileProperty.content)
    fields.append(
        mlc.Field(
            id="images/image",
            name="image",
            description="its pixels",
            data_types=[mlc.DataType.IMAGE_OBJECT],
            source=mlc.Source(file_set=_FILES, extract=content),
        )
    )
    return mlc.RecordSet(id="images", name="images", description="Each photograph with its pixels.", fields=fields)


def _cell(column: str) -> mlc.Source:
    return mlc.Source(file_object=INDEX_FILE, extract=mlc.Extract(column=column))


def _described(column: pa.Field) -> str:
    metadata = column.metadata or {}
    text, unit = (metadata.get(key, b"").decode() for key in (b"description", b"unit"))
    return f"{text} [{unit}]" if unit else text


def _citation(summary: Summary) -> str:
    author = f"  author = {{{{{summary.institution}}}}},\n" if summary.institution else ""
    return (
        f"@misc{{dataset,\n{author}  title = {{{{{summary.name}}}}},\n  version = {{{summary.version}}},\n"
        f"  year = {{{summary.date[:4]}}}\n}}"
    )


def _responsible(summary: Summary) -> dict:
    """Responsible-AI fields, each from what the run counted, measured or was configured to do."""
    photographs, quarantined = summary.counts["photographs"], summary.counts["quarantined"]
    spread = [
        f"{title.strip('`')}: " + ", ".join(f"{value} {n}" for value, n in tally)
        for title, tally in summary.tallies
        if not title.startswith("Attempt")
    ]
    held = [f"{n} for {code} ({meaning})" for code, n, meaning in summary.reasons]
    return {
        "data_collection": (
            f"{photographs + quarantined} photographs on the institution's sample sheet; {photographs} released, "
            f"{quarantined} held back."
        ),
        "data_collection_missing_data": (
            "; ".join(f"{column} is not stated for {n} of {photographs}" for column, n in summary.missing)
            or "No released column has empty cells."
        ),
        "data_manipulation_protocol": (
            f"{_outside(summary)} deidlib {summary.deidlib_version}, settings {summary.settings_digest}."
        ),
        "data_preprocessing_protocol": [
            f"{key} = {value}" for key, value in sorted(summary.config.get("intake", {}).items())
        ]
        + [f"{key} = {value}" for key, value in sorted(summary.config["preset"]["landmarks"].items())],
        "machine_annotation_tools": [
            f"{model['name']} ({model['task']}; {model['package']} {model['version']})" for model in summary.models
        ],
        "data_biases": spread + ([f"Held back: {'; '.join(held)}"] if held else []),
        "data_limitations": [
            *([f"Asked of every image: {summary.likeness_bounds}. {summary.selected}"] if summary.selected else []),
            *([summary.shown.replace("`", "")] if summary.shown else []),
            f"{summary.several} of {summary.counts['patients']} patients have several photographs, linked by "
            "release_patient_id.",
            (
                f"{summary.k_claim['k']}-anonymity over patients is claimed for: "
                f"{', '.join(summary.k_claim['quasi_identifiers'])}."
                if summary.k_claim["quasi_identifiers"]
                else "No k-anonymity is claimed: no released column is declared a quasi-identifier."
            ),
        ],
        "personal_sensitive_information": [
            f"{name}: {text}"
            for name, _, text, _ in summary.columns
            if name in (*summary.released_columns, "timepoint")
        ]
        + [f"The preserved area ({summary.config.get('preserve', 'mouth')}) is the patient's own, pixel for pixel."],
        "data_release_maintenance_plan": (
            f"Version {summary.version}. {summary.counts['tombstones']} ids of earlier versions are on the tombstone "
            "list and to be deleted."
        ),
    }
