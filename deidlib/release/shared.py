"""A release whose images several jobs write: each those of some shards; the stage ``release`` joins them.

A part is a private folder: the images at their paths in the release, and ``rows.parquet``, their rows of the index
before it is protected. It appears whole or not at all, and states which decision it was made for.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from deidlib.columns import rules as columns
from deidlib.errors import ReleaseError
from deidlib.release.dataset import index_schema, write_shard
from deidlib.release.decision import obey, read_decision, released_paths
from deidlib.release.files import report_full_disk
from deidlib.storage import sealed, tables
from deidlib.storage.shares import dealt

ROWS_FILE = "rows.parquet"
_MADE_FOR = "made for"


def write_part(
    private: Path, out: Path, shards: Sequence[str], part: tuple[int, int], config: Mapping[str, Any], threads: int = 1
) -> int:
    """Write the images of a part of the shards, checked once more, and their rows of the index; returns their number.

    Parameters
    ----------
    private : Path
        The results' private folder.
    out : Path
        Folder to make; one that exists is replaced.
    shards : sequence of str
        Names of all shards.
    part : (int, int)
        Number of the part, from 0, and how many there are.
    config : mapping
        The whole configuration.
    threads : int
        Shards whose images are examined and written at a time.

    Raises
    ------
    ReleaseError
        As for :func:`deidlib.release.write_release`, where it concerns the images.
    """
    decision = read_decision(private)
    obey(decision)
    rules, paths = columns.rules_of(config), released_paths(private)
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)

    def write(shard: str) -> list[dict]:
        return write_shard(private, shard, aside, rules, paths)

    try:
        with report_full_disk("a part of the release was not written, and nothing half-written is left of it"):
            aside.mkdir(parents=True)
            with ThreadPoolExecutor(threads) as pool:
                rows = [row for rows in pool.map(write, dealt(shards, part)) for row in rows]
            schema = index_schema(rules)
            with tables.writing(
                aside / ROWS_FILE, schema, lambda: {_MADE_FOR: _made_for(decision.chosen, rules)}
            ) as append:
                append(pa.Table.from_pylist(rows, schema=schema))
            shutil.rmtree(out, ignore_errors=True)
            aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return len(rows)


def join_parts(
    private: Path, aside: Path, parts: Sequence[Path], rules: Mapping, paths: Mapping[str, str], threads: int
) -> pa.Table:
    """Put the images of all parts into the folder of the release; gives the rows of the index.

    An image gets a second name there (a hard link), or is copied where the file system has no links.

    Raises
    ------
    ReleaseError
        A part was made for another decision, or the parts do not hold exactly the photographs of the release.
    """
    schema, made_for = index_schema(rules), _made_for(read_decision(private).chosen, rules)
    index = [schema.empty_table()]
    for part in parts:
        try:
            with sealed.opened(part / ROWS_FILE) as file:
                made = file.notes.get(_MADE_FOR)
        except OSError:
            made = None
        if made != made_for:
            raise ReleaseError(
                f"part {part.name} of the release's images is missing, or was made for another decision: delete "
                f"{part.parent.parent.name}/{part.parent.name} in the private folder and run the workflow again"
            )
        rows = tables.read(part / ROWS_FILE, schema)
        index.append(rows)
        here = rows["path"].to_pylist()
        for folder in {os.path.dirname(path) for path in here}:
            (aside / folder).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda path, part=part: _link(part / path, aside / path), here))
    whole = pa.concat_tables(index)
    if sorted(whole["release_photo_id"].to_pylist()) != sorted(paths):
        raise ReleaseError("the parts of the release's images are not those of the release: run the workflow again")
    return whole


def _link(image: Path, there: Path) -> None:
    try:
        os.link(image, there)
    except OSError:
        shutil.copyfile(image, there)


def _made_for(chosen: str, rules: Mapping) -> str:
    return json.dumps([chosen, rules], sort_keys=True)
