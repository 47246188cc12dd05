"""Whether a release's documents say what its index holds, and the embedded images are the released ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deidlib.columns.protect import claimed_k
from deidlib.release import card, redact
from deidlib.release.embedded import embedded_files, embedded_schema
from deidlib.release.gallery import gallery_problems
from deidlib.release.layout import (
    CARD_FILE,
    CRATE_FILE,
    CROISSANT_FILE,
    DATASHEET_FILE,
    EMBEDDED_FOLDER,
    GALLERY_FILE,
    IMAGES_FOLDER,
    INDEX_FILE,
    SETTINGS_FILE,
    TOMBSTONES_FILE,
    content_digest,
)
from deidlib.release.parquet_limits import open_parquet, plain_text
from deidlib.release.reading import opened, read_bytes, read_json, read_text
from deidlib.release.tombstones import read_tombstones
from deidlib.storage import tables

DOCUMENTS = (CARD_FILE, DATASHEET_FILE, GALLERY_FILE, CROISSANT_FILE, CRATE_FILE, SETTINGS_FILE, TOMBSTONES_FILE)
_CROISSANT_TYPES = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.float32(): "cr:Float32",
}


def document_problems(folder: Path, index: pa.Table, sums: Mapping[str, str]) -> list[str]:
    """List where card, datasheet, settings, Croissant, RO-Crate or tombstones contradict the index or each other.

    Parameters
    ----------
    folder : Path
        A release.
    index : pa.Table
        Its index, of a schema that was found right.
    sums : mapping
        Checksums of its files.
    """
    try:
        summary = card.read_card(read_text(folder, CARD_FILE))
    except ValueError:
        return [f"{CARD_FILE}: missing, or without the front matter that deidlib writes"]
    problems = _card_problems(summary, index, sums)
    problems += _tombstone_problems(folder, summary, index)
    for check in (_datasheet_problems, _gallery_problems, _settings_problems, _croissant_problems, _crate_problems):
        try:
            problems += check(folder, summary, index, sums)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            name = check.__name__.removeprefix("_").removesuffix("_problems")
            problems.append(f"{_FILES[name]}: missing, or not in the form that deidlib writes")
    return problems


_FILES = {
    "datasheet": DATASHEET_FILE,
    "gallery": GALLERY_FILE,
    "settings": SETTINGS_FILE,
    "croissant": CROISSANT_FILE,
    "crate": CRATE_FILE,
}


def _card_problems(summary: dict, index: pa.Table, sums: Mapping[str, str]) -> list[str]:
    counts = {"photographs": index.num_rows, "patients": len(pc.unique(index["release_patient_id"]))}
    problems = [
        f"{CARD_FILE}: says {summary.get(name)} {name}, the index holds {n}"
        for name, n in counts.items()
        if summary.get(name) != n
    ]
    if summary.get("k_anonymity") != claimed_k(index):
        problems.append(
            f"{CARD_FILE}: says {summary.get('k_anonymity')}-anonymity, the index claims {claimed_k(index)}"
        )
    if summary.get("content_digest") != content_digest(sums):
        problems.append(f"{CARD_FILE}: states another content digest than index and images have")
    return problems


def _tombstone_problems(folder: Path, summary: dict, index: pa.Table) -> list[str]:
    try:
        gone = read_tombstones(folder)
    except ValueError as error:
        return [str(error)]
    here = set(index["release_photo_id"].to_pylist()) | set(index["release_patient_id"].to_pylist())
    problems = [f"{TOMBSTONES_FILE}: {name} is to be deleted, yet the index holds it" for name in gone if name in here]
    if summary.get("tombstones") != len(gone):
        problems.append(
            f"{CARD_FILE}: says {summary.get('tombstones')} tombstones, {TOMBSTONES_FILE} holds {len(gone)}"
        )
    return problems


def _datasheet_problems(folder: Path, summary: dict, index: pa.Table, sums: Mapping[str, str]) -> list[str]:
    text = read_text(folder, DATASHEET_FILE)
    stated = (f", version {summary['version']}\n", card.counts_sentence(summary), summary["content_digest"])
    if all(part in text for part in stated):
        return []
    return [f"{DATASHEET_FILE}: states another version, other counts or another digest than the card"]


def _gallery_problems(folder: Path, summary: dict, index: pa.Table, sums: Mapping[str, str]) -> list[str]:
    if GALLERY_FILE not in sums:  # a release of an earlier deidlib has none; else the crate names it
        return []
    return gallery_problems(folder, index, summary["version"], summary["date"])


def _settings_problems(folder: Path, summary: dict, index: pa.Table, sums: Mapping[str, str]) -> list[str]:
    settings = read_json(folder, SETTINGS_FILE)
    problems = []
    if settings != redact.public_config(settings):
        problems.append(f"{SETTINGS_FILE}: holds what may not be published (a path, a key, a dropped column)")
    if (settings["version"], settings["release"]["date"]) != (summary["version"], summary["date"]):
        problems.append(f"{SETTINGS_FILE}: states another version or date than the card")
    return problems


def _croissant_problems(folder: Path, summary: dict, index: pa.Table, sums: Mapping[str, str]) -> list[str]:
    content = read_json(folder, CROISSANT_FILE)
    problems = []
    if content["version"] != summary["version"] or not content["datePublished"].startswith(summary["date"]):
        problems.append(f"{CROISSANT_FILE}: states another version or date than the card")
    if card.counts_sentence(summary).replace("*", "") not in content["description"]:
        problems.append(f"{CROISSANT_FILE}: states other counts than the card")
    files = {entry["@id"]: entry for entry in content["distribution"]}
    if files[INDEX_FILE]["sha256"] != sums.get(INDEX_FILE) or files[INDEX_FILE]["contentUrl"] != INDEX_FILE:
        problems.append(f"{CROISSANT_FILE}: names another {INDEX_FILE} than the one that is there")
    records = {entry["@id"]: entry for entry in content["recordSet"]}
    stated = {field["name"]: field["dataType"] for field in records["photographs"]["field"]}
    if stated != {field.name: _CROISSANT_TYPES[field.type] for field in index.schema}:
        problems.append(f"{CROISSANT_FILE}: states other columns than the index has")
    return problems


def _crate_problems(folder: Path, summary: dict, index: pa.Table, sums: Mapping[str, str]) -> list[str]:
    entities = {e["@id"]: e for e in read_json(folder, CRATE_FILE)["@graph"]}
    root = entities["./"]
    problems = []
    if (root["version"], root["datePublished"]) != (summary["version"], summary["date"]):
        problems.append(f"{CRATE_FILE}: states another version or date than the card")
    digest = f"sha256:{summary['content_digest']}"
    if root["identifier"] != digest or card.counts_sentence(summary).replace("*", "") not in root["description"]:
        problems.append(f"{CRATE_FILE}: states other counts or another content digest than the card")
    parts = {part["@id"] for part in root["hasPart"]}
    listed = {
        path: sum_ for path, sum_ in sums.items() if path != CRATE_FILE and not path.startswith(f"{IMAGES_FOLDER}/")
    }
    for path, sum_ in listed.items():
        if path not in parts or entities[path].get("sha256") != sum_:
            problems.append(f"{CRATE_FILE}: does not describe {path} as it is")
    folders = {f"{name}/" for name in (IMAGES_FOLDER, EMBEDDED_FOLDER) if any(p.startswith(f"{name}/") for p in sums)}
    problems += [f"{CRATE_FILE}: names {path}, which is not there" for path in sorted(parts - {*listed, *folders})]
    return problems


def embedded_problems(folder: Path, index: pa.Table, there: Collection[str], sizes: Mapping[str, int]) -> list[str]:
    """List where ``data/*.parquet`` (where it is there) holds other rows or images than index and image files.

    ``there`` are the paths of all files of the folder, ``sizes`` the bytes of those that may be opened.
    """
    found = sorted(path for path in there if path.startswith(f"{EMBEDDED_FOLDER}/"))
    if not found:
        return []
    of_patients: dict[str, int] = {}
    for row in index.select(["release_patient_id", "path"]).to_pylist():
        patient = row["release_patient_id"]
        of_patients[patient] = of_patients.get(patient, 0) + sizes.get(row["path"], 0)
    if not all(tables.is_pseudonym(patient or "") for patient in of_patients):
        return []  # the index already has this problem; such patients are in no file
    expected = embedded_files(of_patients)
    problems = [f"{path}: belongs to no patients of the index" for path in found if path not in expected]
    problems += [f"{path}: missing, though images are embedded" for path in expected if path not in found]
    for path in set(found) & set(expected) & sizes.keys():
        patients = pa.array(expected[path])
        rows = index.filter(pc.is_in(index["release_patient_id"], value_set=patients))
        problems += _embedded_file_problems(folder, path, rows, sizes)
    return sorted(problems)


def _embedded_file_problems(folder: Path, path: str, rows: pa.Table, sizes: Mapping[str, int]) -> list[str]:
    try:
        with opened(folder, path) as file:
            parquet, schema = open_parquet(file)
            if not schema.equals(embedded_schema(rows.schema), check_metadata=True):
                return [f"{path}: has another schema than the index and its images"]
            at = 0
            for batch in parquet.iter_batches(batch_size=16):
                part = plain_text(pa.Table.from_batches([batch]), sizes[path])
                if part.select(rows.schema.names).to_pylist() != rows.slice(at, batch.num_rows).to_pylist():
                    return [f"{path}: holds other rows than the index"]
                for row in part.select(["path", "image"]).to_pylist():
                    if not _is_image(folder, row):
                        return [f"{path}: holds another image than {row['path']}"]
                at += batch.num_rows
            return [] if at == rows.num_rows else [f"{path}: holds other rows than the index"]
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return [f"{path}: cannot be read"]


def _is_image(folder: Path, row: dict) -> bool:
    name, data = row["image"]["path"], row["image"]["bytes"]
    return name == Path(row["path"]).name and read_bytes(folder, row["path"]) == data
