"""Documents of a release: index, metadata, data card, datasheet, settings, tombstones, checksums."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deidlib.errors import ReleaseError
from deidlib.release import card
from deidlib.release.embedded import write_embedded
from deidlib.release.files import write_synced
from deidlib.release.layout import (
    CARD_FILE,
    CRATE_FILE,
    CROISSANT_FILE,
    DATASHEET_FILE,
    GALLERY_FILE,
    INDEX_FILE,
    SETTINGS_FILE,
    SUMS_FILE,
    TOMBSTONES_FILE,
    content_digest,
    file_digest,
    sums_text,
)
from deidlib.release.summary import gather
from deidlib.release.tombstones import tombstones_text
from deidlib.storage import tables

#: Rows of a row group of the index: some 2 MB, so that a reader fetches one by a range request.
ROW_GROUP = 16384


def release_date(config: dict, folder: Path) -> str:
    """Date of a version (ISO 8601): ``release.date``, else the one it was first written with, else today (UTC).

    Raises
    ------
    ReleaseError
        ``release.date`` is no date.
    """
    given = config.get("release", {}).get("date")
    if given:
        try:
            return datetime.date.fromisoformat(given).isoformat()
        except ValueError:
            raise ReleaseError(f"release.date: {given!r} is no date; write year-month-day, in quotes") from None
    try:
        return str(card.read_card((folder / CARD_FILE).read_text(encoding="utf-8"))["date"])
    except (OSError, ValueError, KeyError):
        return datetime.datetime.now(datetime.UTC).date().isoformat()


def write_documents(
    folder: Path,
    index: pa.Table,
    quarantine: list[tuple],
    tombstones: list[str],
    config: dict,
    models: list[dict],
    version: str,
    date: str,
    from_run: Mapping[str, Any] | None = None,
) -> None:
    """Write everything but the images, which lie in ``folder`` already; ``SHA256SUMS`` last.

    Parameters
    ----------
    folder : Path
        The release's folder while it is written.
    index : pa.Table
        Its index, sorted by patient and photograph.
    quarantine : list of tuple
        Rows of the quarantine list; the third cell is the reason code.
    tombstones : list of str
        From :func:`deidlib.release.tombstones.tombstones`.
    config, models, version
        As for :func:`deidlib.release.write_release`.
    date : str
        From :func:`release_date`.
    from_run : mapping, optional
        What the index does not contain: see :func:`deidlib.release.summary.gather`.
    """
    from deidlib.release.crate import ro_crate, workflow_files
    from deidlib.release.croissant import croissant
    from deidlib.release.gallery import gallery_page

    write_index(index, folder / INDEX_FILE)
    embedded = write_embedded(folder, index) if config.get("release", {}).get("embed") else []
    sums = dict(zip(index["path"].to_pylist(), index["sha256"].to_pylist(), strict=True))
    sums |= {name: file_digest(folder / name) for name in (INDEX_FILE, *embedded)}
    reasons = Counter(row[2] for row in quarantine)
    digest = content_digest(sums)
    summary = gather(index, reasons, len(tombstones), len(embedded), version, date, digest, config, models, from_run)
    documents = {
        CARD_FILE: card.data_card(summary).encode(),
        DATASHEET_FILE: card.datasheet(summary).encode(),
        GALLERY_FILE: gallery_page(index, summary.name, summary.licence, version, date),
        CROISSANT_FILE: croissant(summary, index.schema, sums[INDEX_FILE], summary.study),
        SETTINGS_FILE: (json.dumps(summary.config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(),
        TOMBSTONES_FILE: tombstones_text(tombstones).encode(),
        **workflow_files(),
    }
    sums |= {name: hashlib.sha256(data).hexdigest() for name, data in documents.items()}
    documents[CRATE_FILE] = ro_crate(summary, dict(sorted(sums.items())))
    sums[CRATE_FILE] = hashlib.sha256(documents[CRATE_FILE]).hexdigest()
    documents[SUMS_FILE] = sums_text(sums).encode()
    for name, data in documents.items():
        write_synced(folder / name, data)


def write_index(index: pa.Table, path: Path) -> None:
    """Write ``index.parquet``: zstd, sorted, with a page index, its layout's number in the metadata."""
    metadata = {**(index.schema.metadata or {}), tables.LAYOUT_KEY: str(tables.INDEX_LAYOUT).encode()}
    index = index.replace_schema_metadata(metadata)
    order = [index.schema.names.index(name) for name in ("release_patient_id", "release_photo_id")]
    with open(path, "wb") as file:
        pq.write_table(
            index,
            file,
            compression="zstd",
            row_group_size=ROW_GROUP,
            write_page_index=True,
            sorting_columns=[pq.SortingColumn(column) for column in order],
        )
        file.flush()
        os.fsync(file.fileno())
