"""Images inside Parquet files (``data/*.parquet``), as the Hugging Face ``datasets`` library loads them.

Each file holds every column of the index and ``image``, a struct of the file's bytes and its name with the feature type
``Image`` in the schema's ``huggingface`` metadata. A file holds the patients whose ids begin with the same bits: as few
bits as keep it within about 500 MB. So a patient's photographs stay together, no file holds all of a large dataset,
and a new version changes only the files of patients that changed.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deidlib.release.layout import EMBEDDED_FOLDER

#: Most bytes of images in a file, unless a single patient has more.
FILE_BYTES = 500_000_000
#: Most rows, and bytes of images, of a row group: one is fetched and shown without reading the whole file.
ROW_GROUP = 100
ROW_GROUP_BYTES = 64_000_000

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_HF_TYPES = {
    pa.string(): "string",
    pa.bool_(): "bool",
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.float32(): "float32",
}


def write_embedded(folder: Path, index: pa.Table, file_bytes: int = FILE_BYTES) -> list[str]:
    """Write ``data/*.parquet`` from the index and the image files that lie in ``folder``.

    Parameters
    ----------
    folder : Path
        Release folder with the images.
    index : pa.Table
        The release's index, sorted by patient.
    file_bytes : int
        Most bytes of images in a file.

    Returns
    -------
    list of str
        Names of the files, relative to ``folder``.
    """
    sizes: dict[str, int] = defaultdict(int)
    rows: dict[str, list[int]] = defaultdict(list)
    ids = zip(index["release_patient_id"].to_pylist(), index["path"].to_pylist(), strict=True)
    for number, (patient, path) in enumerate(ids):
        sizes[patient] += (folder / path).stat().st_size
        rows[patient].append(number)
    schema = embedded_schema(index.schema)
    names = []
    (folder / EMBEDDED_FOLDER).mkdir(exist_ok=True)
    for name, patients in embedded_files(sizes, file_bytes).items():
        of_file = index.take([number for patient in patients for number in rows[patient]])
        _write_file(folder, folder / name, of_file, schema)
        names.append(name)
    return names


def embedded_files(sizes: Mapping[str, int], file_bytes: int = FILE_BYTES) -> dict[str, list[str]]:
    """Deal patients to files.

    Parameters
    ----------
    sizes : mapping
        Patient (release id) → bytes of their images.
    file_bytes : int
        Most bytes of a file that holds several patients.

    Returns
    -------
    dict of str to list of str
        ``data/patients.parquet`` (all), or ``data/patients-0110.parquet`` (those whose ids begin with these bits)
        → its patients, sorted.
    """
    files: dict[str, list[str]] = {}
    waiting = [("", sorted(sizes))]
    while waiting:
        bits, patients = waiting.pop()
        if sum(sizes[patient] for patient in patients) <= file_bytes or len(patients) == 1:
            files[f"{EMBEDDED_FOLDER}/patients{'-' * bool(bits)}{bits}.parquet"] = patients
            continue
        halves: dict[str, list[str]] = {"0": [], "1": []}
        for patient in patients:
            halves[_bit(patient, len(bits))].append(patient)
        waiting += [(bits + bit, half) for bit, half in halves.items() if half]
    return dict(sorted(files.items()))


def embedded_schema(index: pa.Schema) -> pa.Schema:
    """Schema of the files: the index's columns, ``image``, and the features that ``datasets`` reads."""
    image = pa.field(
        "image",
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        metadata={"description": "the image file's bytes and its name"},
    )
    features = {f.name: {"dtype": _HF_TYPES[f.type], "_type": "Value"} for f in index} | {"image": {"_type": "Image"}}
    return pa.schema([*index, image], metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _bit(patient: str, number: int) -> str:
    return str(_BASE32.index(patient[number // 5]) >> (4 - number % 5) & 1)


def _write_file(folder: Path, path: Path, rows: pa.Table, schema: pa.Schema) -> None:
    with open(path, "wb") as file:
        dictionaries = [name for name in schema.names if name != "image"]
        with pq.ParquetWriter(file, schema, compression="none", use_dictionary=dictionaries) as writer:
            for group in _row_groups(folder, rows.to_pylist()):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
        file.flush()
        os.fsync(file.fileno())


def _row_groups(folder: Path, rows: list[dict]) -> Iterator[list[dict]]:
    group, size = [], 0
    for row in rows:
        data = (folder / row["path"]).read_bytes()
        if group and (len(group) == ROW_GROUP or size + len(data) > ROW_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row | {"image": {"bytes": data, "path": Path(row["path"]).name}})
        size += len(data)
    yield group
