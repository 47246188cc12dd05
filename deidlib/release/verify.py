"""Re-check a release from the folder alone: what a recipient runs as ``deidlib verify RELEASE``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from deidlib.columns.protect import CLAIM_KEY, k_problems
from deidlib.columns.rules import identifying
from deidlib.errors import InputError
from deidlib.intake.capture import CAPTURE
from deidlib.logs import printable
from deidlib.release.document_checks import DOCUMENTS, document_problems, embedded_problems
from deidlib.release.layout import (
    EMBEDDED_FOLDER,
    IMAGES_FOLDER,
    INDEX_FILE,
    SUMS_FILE,
    UNLISTED,
    image_paths,
    reading_threads,
)
from deidlib.release.listing import WORKFLOW_FILE, Listing, list_release
from deidlib.release.reading import digest, opened, read_index, read_sums
from deidlib.release.signature import signature_problems
from deidlib.storage import tables
from deidlib.storage.png import png_problems, png_size

#: Images that wait for a thread at a time.
_AT_A_TIME = 256
_PIECE = 1 << 20


class Examined(NamedTuple):
    """What an image file of a release holds.

    Attributes
    ----------
    bytes : int
        Its size; −1 where it cannot be read.
    sha256 : str
        Its digest.
    size : (int, int) or None
        Width and height; None where it is no image.
    problems : list of str
        What an image of a release may not hold, each as ``path: what``.
    """

    bytes: int
    sha256: str
    size: tuple[int, int] | None
    problems: list[str]


def examine_images(folder: Path, paths: Iterable[str]) -> Iterator[tuple[str, Examined]]:
    """Read image files of a release: path and what each holds, in their order.

    Parameters
    ----------
    folder : Path
        A version's folder.
    paths : iterable of str
        Paths in it.
    """
    waiting = list(paths)
    with ThreadPoolExecutor(reading_threads()) as pool:
        for first in range(0, len(waiting), _AT_A_TIME):
            few = waiting[first : first + _AT_A_TIME]
            yield from zip(few, pool.map(lambda path: _examine(folder, path), few), strict=True)


def _examine(folder: Path, path: str) -> Examined:
    """Read an image file once, from its start to its end."""
    try:
        with opened(folder, path) as file:
            hashed = _Hashed(file)
            problems = [f"{path}: {problem}" for problem in png_problems(hashed)]
            while hashed.read(_PIECE):
                pass
            length = file.tell()
            file.seek(0)
            size = None if problems else png_size(file.read(24))
        return Examined(length, hashed.sha256.hexdigest(), size, problems)
    except InputError as error:
        return Examined(-1, "", None, [str(error)])


class _Hashed:
    """A file that takes the digest of what is read from it."""

    def __init__(self, file: BinaryIO):
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Read so many bytes, or up to the end."""
        piece = self._file.read(size)
        self.sha256.update(piece)
        return piece


def verify_release(
    folder: Path, public_key: Path | None = None, examined: Mapping[str, Examined] | None = None
) -> list[str]:
    """List everything that is wrong with a release folder, each as ``path: what``; empty: it is whole.

    Needs nothing but the folder. Names, kinds and sizes of all that lies there are judged first, and nothing is opened
    that a release cannot hold. Checked then: the checksum of every file, missing and extra files, the signature where
    there is one, layout, schema and forbidden columns of the index, agreement of index and images (path, checksum,
    size), images that hold pixels and nothing else, unique ids, embedded images that are the same ones, and
    that card, settings, Croissant, RO-Crate and tombstones agree with the index and each other. Control characters of
    what is quoted from the release are escaped.

    Parameters
    ----------
    folder : Path
        A version's folder.
    public_key : Path or None
        Public key with which the release must be signed; by default a signature is checked with the key in the folder.
    examined : mapping, optional
        Path → what jobs found in image files just before (:func:`examine_images`); these are not read again, unless
        they are of another size now.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [printable(f"{folder.name}: no such folder")]
    return [printable(problem) for problem in _problems(folder, public_key, examined or {})]


def _problems(folder: Path, public_key: Path | None, examined: Mapping[str, Examined]) -> list[str]:
    found = list_release(folder)
    known = {path: one for path, one in examined.items() if found.files.get(path) == one.bytes}
    images = (path for path in sorted(found.files) if path.startswith(f"{IMAGES_FOLDER}/") and path not in known)
    known |= examine_images(folder, images)
    sums = _checksums(folder, found, known)
    problems = _sums_problems(folder, sums, found) + found.problems + signature_problems(folder, public_key)
    if any(problem.startswith(f"{INDEX_FILE}: checksum differs") for problem in problems):
        return problems  # a damaged Parquet file is not parsed
    try:
        index = read_index(folder)
    except ValueError as error:
        return [*problems, str(error)]
    schema_problems = layout_problems(index.schema) or _schema_problems(index.schema)
    problems += schema_problems
    if schema_problems and not all("may not be in a release" in problem for problem in schema_problems):
        return problems
    problems += _index_problems(folder, index, sums, found.refused, known) + document_problems(folder, index, sums)
    return problems + embedded_problems(folder, index, sums.keys() | found.refused, found.files)


def layout_problems(schema: pa.Schema) -> list[str]:
    """Say whether this deidlib knows the index's layout: a newer one is not damage, but needs a newer deidlib."""
    found = tables.layout_of(schema)
    if found in tables.INDEX_LAYOUTS:
        return []
    if found is not None and found > tables.INDEX_LAYOUT:
        return [
            f"{INDEX_FILE}: layout {found} is newer than this deidlib knows ({tables.INDEX_LAYOUT}); install the "
            "deidlib that the data card names, or a later one"
        ]
    return [f"{INDEX_FILE}: does not say which layout it has; deidlib writes layout {tables.INDEX_LAYOUT}"]


def layout_warning(folder: Path) -> str | None:
    """Warning about an older layout; None for the present one, or where there is no index to read."""
    try:
        schema = read_index(folder).schema
    except InputError:
        return None
    measured = [name for name in tables.MEASURED_ON_ORIGINALS.names if name in schema.names]
    if not measured:
        return None
    return printable(
        f"{INDEX_FILE}: {layout_words(schema)} holds numbers that were measured on the originals "
        f"({', '.join(measured)}). With the originals, each photograph can be found by them. Ask the institution for a "
        f"version of layout {tables.INDEX_LAYOUT}, which has none, and delete this one"
    )


def layout_words(schema: pa.Schema) -> str:
    """Name an index's layout."""
    return f"layout {tables.layout_of(schema)}"


def _checksums(folder: Path, found: Listing, known: Mapping[str, Examined]) -> dict[str, str]:
    """SHA-256 of the files that may be opened: path → digest, sorted; one that cannot be read has an empty digest."""

    def of(path: str) -> str:
        try:
            return digest(folder, path)
        except InputError:
            return ""

    paths = sorted(found.files.keys() - UNLISTED)
    unknown = [path for path in paths if path not in known]
    with ThreadPoolExecutor(reading_threads()) as pool:
        read = dict(zip(unknown, pool.map(of, unknown), strict=True))
    return {path: known[path].sha256 if path in known else read[path] for path in paths}


def _sums_problems(folder: Path, sums: dict[str, str], found: Listing) -> list[str]:
    try:
        listed, in_form = read_sums(folder)
    except ValueError as error:
        return [str(error)]
    there = (sums.keys() | found.refused) - UNLISTED
    problems = [f"{path}: listed in {SUMS_FILE} but missing" for path in listed.keys() - there]
    problems += [f"{path}: not listed in {SUMS_FILE}" for path in there - listed.keys()]
    problems += [
        f"{path}: checksum differs, the file was changed"
        for path in sums.keys() & listed.keys()
        if sums[path] != listed[path]
    ]
    if not problems and not in_form:
        problems.append(f"{SUMS_FILE}: not in the form it was written in")
    return sorted(problems)


def _schema_problems(schema: pa.Schema) -> list[str]:
    problems, expected = [], tables.INDEX_LAYOUTS[tables.layout_of(schema)]
    for field in expected:
        if field.name not in schema.names or schema.field(field.name).type != field.type:
            problems.append(f"{INDEX_FILE}: column {field.name} is missing or of another type")
    for field in schema:
        if field.name in expected.names:
            continue
        if identifying(field.name):
            problems.append(f"{INDEX_FILE}: column {field.name} may not be in a release")
        elif field.type != pa.string():
            problems.append(f"{INDEX_FILE}: column {field.name} is of another type than released columns are")
    if len(set(schema.names)) != len(schema.names):
        problems.append(f"{INDEX_FILE}: a column occurs twice")
    if set(schema.metadata or {}) - {tables.LAYOUT_KEY, CLAIM_KEY}:
        problems.append(f"{INDEX_FILE}: carries metadata beside its columns' descriptions")
    return problems


def _index_problems(
    folder: Path, index: pa.Table, sums: dict[str, str], refused: set[str], examined: Mapping[str, Examined]
) -> list[str]:
    problems = []
    if index.num_rows == 0:
        problems.append(f"{INDEX_FILE}: holds no photograph")
    problems += [f"{INDEX_FILE}: {problem}" for problem in k_problems(index)]
    problems += [
        f"{INDEX_FILE}: column {name} holds a value that deidlib never writes there"
        for name in CAPTURE.keys() & set(index.schema.names)
        if set(index[name].to_pylist()) - {None, *CAPTURE[name].values}
    ]
    counts = Counter(index["release_photo_id"].to_pylist())
    problems += [f"{INDEX_FILE}: photograph {name} occurs {n} times" for name, n in counts.items() if n > 1]
    expected = image_paths([name for name in counts if name is not None])
    known = {INDEX_FILE, *DOCUMENTS}
    rows = index.select(["release_photo_id", "release_patient_id", "path", "width", "height", "sha256"]).to_pylist()
    for number, row in enumerate(rows):
        if None in row.values():
            problems.append(f"{INDEX_FILE}: a photograph lacks its id, path, size or checksum")
            continue
        if row["path"] != expected[row["release_photo_id"]]:
            problems.append(f"{INDEX_FILE}: photograph {row['release_photo_id']} has the path of another")
        if not (tables.is_pseudonym(row["release_photo_id"]) and tables.is_pseudonym(row["release_patient_id"])):
            problems.append(f"{INDEX_FILE}: an id of row {number} is not of the form that deidlib gives")
        known.add(row["path"])
        if row["path"] in sums:
            problems += _image_problems(row, sums, examined.get(row["path"]) or _examine(folder, row["path"]))
        elif row["path"] not in refused:
            problems.append(f"{row['path']}: named by the index but missing")
    strange = (sums.keys() | refused) - known
    return problems + [
        f"{path}: belongs to no photograph of the index"
        for path in sorted(strange)
        if not WORKFLOW_FILE.fullmatch(path) and not path.startswith(f"{EMBEDDED_FOLDER}/") and path not in UNLISTED
    ]


def _image_problems(row: dict, sums: dict[str, str], found: Examined) -> list[str]:
    path, problems = row["path"], list(found.problems)
    if found.bytes < 0:
        return problems
    if sums[path] != row["sha256"]:
        problems.append(f"{path}: checksum differs from the index")
    if not problems and found.size != (row["width"], row["height"]):
        problems.append(f"{path}: size differs from the index")
    return problems
