"""``gallery.html``: a page to look through a release's photographs, from the disk and without a network.

The page holds what the index holds, and shows the image files beside it. Everything but the block of data is the same
in every release of one deidlib. Its Content-Security-Policy allows this style and this script, by their digests, images
of the same folder, and nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from deidlib.errors import InputError
from deidlib.pages.templates import render, template_folder
from deidlib.release.layout import GALLERY_FILE
from deidlib.release.listing import GALLERY_BYTES
from deidlib.release.reading import read_text
from deidlib.storage import tables

#: Most photographs of a page. A hundred thousand take about 6 MB.
MOST_PHOTOGRAPHS = 100_000
#: Most bytes of the data of a page; the listing allows some more for the rest of it.
MOST_BYTES = GALLERY_BYTES - (1 << 20)
#: Columns of the index that the page derives (ids, path) or does not show (checksum).
_LEFT_OUT = frozenset({"release_photo_id", "release_patient_id", "path", "sha256"})
#: Most columns that stand below a small picture, and most distinct values of one.
_BRIEF, _BRIEF_VALUES = 4, 60

_HEAD = ("name", "licence", "version", "date")
_START, _END = '<script type="application/json" id="data">', "</script>"


def gallery_page(index: pa.Table, name: str, licence: str, version: str, date: str) -> bytes:
    """Write the page of a release.

    Parameters
    ----------
    index : pa.Table
        The release's index, sorted by patient.
    name, licence, version, date : str
        As the data card states them.

    Returns
    -------
    bytes
        HTML (UTF-8). If there are more than :data:`MOST_PHOTOGRAPHS` photographs, or their data would take more than
        :data:`MOST_BYTES`, the page says how to look at the index instead.
    """
    head = dict(zip(_HEAD, (name, licence, version, date), strict=True))
    before, after = _shell()
    return (before + _json(head | _data(index)) + after).encode()


def gallery_problems(folder: Path, index: pa.Table, version: str, date: str) -> list[str]:
    """List where a release's page contradicts its index or card, or could reach a network.

    Parameters
    ----------
    folder : Path
        A release that holds the page.
    index : pa.Table
        Its index.
    version, date : str
        As the card states them.

    Raises
    ------
    InputError
        The page is not in the form that deidlib writes.
    """
    before, given, after = _parts(read_text(folder, GALLERY_FILE))
    problems = []
    if {"version": given.get("version"), "date": given.get("date")} != {"version": version, "date": date}:
        problems.append(f"{GALLERY_FILE}: states another version or date than the card")
    expected = _data(index)
    if {key: value for key, value in given.items() if key not in _HEAD} != expected:
        problems.append(f"{GALLERY_FILE}: shows other photographs or values than the index holds")
    if not _is_confined(before + after):
        problems.append(f"{GALLERY_FILE}: has not the security policy that deidlib writes; do not open it")
    return problems


def gallery_warning(folder: Path) -> str | None:
    """Say that the page's program is not the one that this deidlib writes; None where it is, or where there is no page.

    The page of another version of deidlib differs too, so this is no fault of the release.
    """
    try:
        before, _, after = _parts(read_text(folder, GALLERY_FILE))
    except InputError:
        return None
    if (before, after) == _shell():
        return None
    return (
        f"{GALLERY_FILE}: its program is not the one that this deidlib writes. Another version of deidlib may have "
        "written it; open it only if you trust where the release came from"
    )


@functools.cache
def _shell() -> tuple[str, str]:
    """The page before and after its data."""
    folder = template_folder() / "gallery"
    style, script = ((folder / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    marker = "{{data}}"
    page = render(
        "gallery/gallery.html.j2",
        policy=Markup(_policy(style, script)),
        style=Markup(style),
        script=Markup(script),
        data=marker,
    )
    before, after = page.split(marker)
    return before, after


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; script-src '{_csp_digest(script)}'; style-src '{_csp_digest(style)}'; "
        "img-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )


def _csp_digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _is_confined(page: str) -> bool:
    """Whether the page without its data begins with the policy for the one style and the one script that it holds."""
    head = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    match = re.match(re.escape(head) + r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">\n', page)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    alone = len(styles) == len(scripts) == 1 and len(re.findall("<script", page, re.IGNORECASE)) == 2  # and the data
    return bool(match) and alone and match[1] == _policy(styles[0], scripts[0])


def _parts(page: str) -> tuple[str, dict, str]:
    """The page before its data, the data, and the page after it."""
    before, found, rest = page.partition(_START)
    text, ended, after = rest.partition(_END)
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not (found and ended and isinstance(given, dict)):
        raise InputError(f"{GALLERY_FILE}: not in the form that deidlib writes")
    return before + found, given, ended + after


def _data(index: pa.Table) -> dict[str, Any]:
    """What the page knows of the photographs.

    ``ids`` and ``patient_ids`` are ids of 16 characters without anything between them; ``photographs_of`` counts each
    patient's photographs; ``depths`` (where one is not 0) says how many folders below ``images/ab`` an image lies; a
    column has its distinct ``values`` and, for each photograph, the place among them (-1: no value) in ``cells``.
    """
    patients: dict[str, int] = {}
    for patient in index["release_patient_id"].to_pylist():
        patients[patient] = patients.get(patient, 0) + 1
    counts = {"photographs": index.num_rows, "patients": len(patients), "limit": MOST_PHOTOGRAPHS}
    if index.num_rows > MOST_PHOTOGRAPHS:
        return counts
    depths = [(path or "").count("/") - 2 for path in index["path"].to_pylist()]
    columns = [_column(field, index[field.name]) for field in index.schema if field.name not in _LEFT_OUT]
    data = counts | {
        "ids": "".join(index["release_photo_id"].to_pylist()),
        "patient_ids": "".join(patients),
        "photographs_of": list(patients.values()),
        **({"depths": depths} if any(depths) else {}),
        "columns": columns,
        "brief": _brief(columns),
    }
    return data if len(_json(data)) <= MOST_BYTES else counts


def _column(field: pa.Field, cells: pa.ChunkedArray) -> dict[str, Any]:
    given = cells.to_pylist()
    values = sorted({value for value in given if value is not None}, key=_natural)
    places = {value: place for place, value in enumerate(values)} | {None: -1}
    meaning = (field.metadata or {}).get(b"description", b"").decode()
    return {"name": field.name, "meaning": meaning, "values": values, "cells": [places[value] for value in given]}


def _natural(value: object) -> list:
    """Key that sorts numbers in texts by their value: 5-9 before 10-14."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", str(value))]


def _brief(columns: list[dict]) -> list[str]:
    """Columns that stand below a small picture: the view, the time point, and released ones of few values."""
    own = [column["name"] for column in columns if column["name"] not in tables.INDEX.names]
    few = {column["name"] for column in columns if len(column["values"]) <= _BRIEF_VALUES}
    stated = {column["name"] for column in columns if column["values"]}
    return [name for name in ("view", "timepoint", *own) if name in few & stated][:_BRIEF]


def _json(data: dict) -> str:
    """JSON in ASCII that no value can end or turn into markup."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
