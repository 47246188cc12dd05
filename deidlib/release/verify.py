"""Re-check a release from the folder alone: what a recipient runs as ``deidlib verify RELEASE``."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deidlib import images, tables
from deidlib.png import png_problems, png_size
from deidlib.release import card
from deidlib.release.columns import identifying
from deidlib.release.table_risk import CLAIM_KEY, k_problems

INDEX_FILE = "index.parquet"
CARD_FILE = "README.md"
SUMS_FILE = "SHA256SUMS"


def image_path(release_photo_id: str) -> str:
    """Path of a released image relative to the release folder."""
    return f"images/{release_photo_id[:2]}/{release_photo_id}.png"


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every regular file but ``SHA256SUMS``: path relative to ``folder`` → digest, sorted."""
    folder = Path(folder)
    sums = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            if relative != SUMS_FILE and path.is_file() and not path.is_symlink():
                with open(path, "rb") as file:
                    sums[relative] = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(sorted(sums.items()))


def sums_text(sums: dict[str, str]) -> str:
    """Write checksums as the text of ``SHA256SUMS`` (``sha256sum -c`` reads it)."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))


def content_digest(folder: Path) -> str:
    """One SHA-256 for the whole release: of the sorted list of its paths and its files' digests."""
    return hashlib.sha256(sums_text(checksums(folder)).encode()).hexdigest()


def read_index(folder: Path) -> pa.Table:
    """Read a release's index and validate every cell; a ValueError where that cannot be done."""
    try:
        index = pq.read_table(Path(folder) / INDEX_FILE)
        index.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{INDEX_FILE}: cannot be read ({type(error).__name__})") from None
    return index


def verify_release(folder: Path) -> list[str]:
    """List everything that is wrong with a release folder, each as ``path: what``; empty: it is whole.

    Needs nothing but the folder. Checked: the checksum of every file, missing and extra files, schema and
    forbidden columns of the index, agreement of index and images (path, checksum, size), images that decode
    and hold pixels and nothing else, unique ids, and that the data card's counts are those of the index.

    Parameters
    ----------
    folder : Path
        A version's folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [f"{folder.name}: no such folder"]
    sums = checksums(folder)
    problems = _sums_problems(folder, sums) + _odd_entries(folder, sums)
    if any(problem.startswith(f"{INDEX_FILE}: checksum differs") for problem in problems):
        return problems  # a damaged Parquet file is not parsed
    try:
        index = read_index(folder)
    except ValueError as error:
        return [*problems, str(error)]
    schema_problems = _schema_problems(index.schema)
    problems += schema_problems
    if any("is missing" in problem for problem in schema_problems):
        return problems
    return problems + _index_problems(folder, index, sums) + _card_problems(folder, index)


def _sums_problems(folder: Path, sums: dict[str, str]) -> list[str]:
    try:
        text = (folder / SUMS_FILE).read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return [f"{SUMS_FILE}: missing or not a list of checksums"]
    lines = [re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line) for line in text.split("\n") if line]
    if not all(lines):
        return [f"{SUMS_FILE}: a line is not a checksum and a path"]
    listed = {line[2]: line[1] for line in lines}
    problems = [f"{path}: listed in {SUMS_FILE} but missing" for path in listed.keys() - sums.keys()]
    problems += [f"{path}: not listed in {SUMS_FILE}" for path in sums.keys() - listed.keys()]
    problems += [
        f"{path}: checksum differs, the file was changed"
        for path in sums.keys() & listed.keys()
        if sums[path] != listed[path]
    ]
    if not problems and text != sums_text(sums):
        problems.append(f"{SUMS_FILE}: not in the form it was written in")
    return sorted(problems)


def _odd_entries(folder: Path, sums: dict[str, str]) -> list[str]:
    expected = {parent.as_posix() for path in sums for parent in Path(path).parents}
    problems = []
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                problems.append(f"{relative}: not a plain file")
            elif path.is_dir() and relative not in expected:
                problems.append(f"{relative}: empty folder")
    return sorted(problems)


def _schema_problems(schema: pa.Schema) -> list[str]:
    problems = []
    for field in tables.INDEX:
        if field.name not in schema.names or schema.field(field.name).type != field.type:
            problems.append(f"{INDEX_FILE}: column {field.name} is missing or of another type")
    for field in schema:
        if field.name in tables.INDEX.names:
            continue
        if identifying(field.name):
            problems.append(f"{INDEX_FILE}: column {field.name} may not be in a release")
        elif field.type != pa.string():
            problems.append(f"{INDEX_FILE}: column {field.name} is of another type than released columns are")
    if len(set(schema.names)) != len(schema.names):
        problems.append(f"{INDEX_FILE}: a column occurs twice")
    if set(schema.metadata or {}) - {CLAIM_KEY}:
        problems.append(f"{INDEX_FILE}: carries metadata beside its columns' descriptions")
    return problems


def _index_problems(folder: Path, index: pa.Table, sums: dict[str, str]) -> list[str]:
    problems = []
    if index.num_rows == 0:
        problems.append(f"{INDEX_FILE}: holds no photograph")
    problems += [f"{INDEX_FILE}: {problem}" for problem in k_problems(index)]
    counts = Counter(index["release_photo_id"].to_pylist())
    problems += [f"{INDEX_FILE}: photograph {name} occurs {n} times" for name, n in counts.items() if n > 1]
    known = {INDEX_FILE, CARD_FILE}
    rows = index.select(["release_photo_id", "release_patient_id", "path", "width", "height", "sha256"]).to_pylist()
    for row in rows:
        if None in row.values():
            problems.append(f"{INDEX_FILE}: a photograph lacks its id, path, size or checksum")
            continue
        if row["path"] != image_path(row["release_photo_id"]):
            problems.append(f"{INDEX_FILE}: photograph {row['release_photo_id']} has the path of another")
        known.add(row["path"])
        if row["path"] in sums:
            problems += _image_problems(folder, row, sums)
        else:
            problems.append(f"{row['path']}: named by the index but missing")
    return problems + [f"{path}: belongs to no photograph of the index" for path in sorted(sums.keys() - known)]


def _image_problems(folder: Path, row: dict, sums: dict[str, str]) -> list[str]:
    path = row["path"]
    data = (folder / path).read_bytes()
    problems = [f"{path}: {problem}" for problem in png_problems(data)]
    if sums[path] != row["sha256"]:
        problems.append(f"{path}: checksum differs from the index")
    if problems:
        return problems
    if png_size(data) != (row["width"], row["height"]):
        return [f"{path}: size differs from the index"]
    try:
        images.decode_png(data)
    except ValueError:
        return [f"{path}: does not decode"]
    return []


def _card_problems(folder: Path, index: pa.Table) -> list[str]:
    try:
        facts = card.read_counts((folder / CARD_FILE).read_bytes().decode())
    except (OSError, ValueError):
        return [f"{CARD_FILE}: missing, or without the front matter that deidlib writes"]
    counts = {"photographs": index.num_rows, "patients": len(pc.unique(index["release_patient_id"]))}
    return [
        f"{CARD_FILE}: says {facts.get(name)} {name}, the index holds {n}"
        for name, n in counts.items()
        if facts.get(name) != n
    ]
