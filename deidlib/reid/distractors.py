"""Distractors in the gallery: the donor bank's synthetic people, and the user's folder of photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deidlib.errors import InputError
from deidlib.logs import progress, say
from deidlib.reid.embeddings import comparable
from deidlib.storage.stage import open_private, read
from deidlib.vision.networks import open_recognisers

if TYPE_CHECKING:
    import numpy as np

    from deidlib.vision.recognisers import Recogniser

#: Recognisers whose embeddings the donor bank holds, by their names, which are also its columns.
_IN_BANK = ("sface", "dlib", "facexzoo")


def bank_faces(generator: str, names: list[str]) -> tuple[dict[str, np.ndarray], str]:
    """Embeddings of the donor bank by the recognisers that it holds, and its digest."""
    import numpy as np

    from deidlib.models import bank_file

    path = bank_file(generator)
    columns = [name for name in names if name in _IN_BANK]
    if not columns:
        return {}, sha256(path)
    table = read(path, "BANK", columns)
    flat = {name: np.asarray(table[name].combine_chunks().flatten(), np.float32) for name in columns}
    faces = {name: values.reshape(len(table), -1) for name, values in flat.items()}
    if not all(comparable(vectors).all() for vectors in faces.values()):
        raise InputError(f"{path.name}: holds embeddings that are no numbers; build the donor bank again")
    return faces, sha256(path)


def gallery_faces(folder: Path, names: list[str], known: Mapping, kept: Path) -> dict[str, np.ndarray]:
    """Embed the photographs of a folder; what was embedded before (by content and network) is taken from ``kept``."""
    import numpy as np

    from deidlib.intake.decoding import Undecodable, decode_photo
    from deidlib.storage import tables

    if not folder.is_dir():
        raise InputError("reid.gallery: no such folder; name a folder of photographs, or leave it out")
    open_private(kept)
    cached = read(kept, "EMBEDDINGS").to_pylist() if kept.is_file() else []
    cache = {(row["release_photo_id"], row["recogniser"]): row for row in cached}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    opened: dict[str, Recogniser] = {}
    used, here = [], set()
    with progress("gallery", len(files)) as step:
        for path in files:
            data = path.read_bytes()
            keys = {name: hashlib.sha256(data + known[name]["sha256"].encode()).hexdigest()[:32] for name in known}
            here.update((key, name) for name, key in keys.items())
            for name in names:
                key = keys[name]
                if (key, name) not in cache:
                    opened = opened or {recogniser.name: recogniser for recogniser in open_recognisers(names)}
                    try:
                        found = opened[name].embed(decode_photo(data, 10**8))
                    except Undecodable:
                        found = None
                    if found is not None and not comparable(np.asarray(found)[None])[0]:
                        found = None
                    row = {"release_photo_id": key, "release_patient_id": key, "shown": "gallery", "recogniser": name}
                    cache[key, name] = row | {"embedding": found}
                used.append((key, name))
            step()
    # Embeddings of photographs that were taken out of the folder are removed as well.
    rows = [row for key, row in cache.items() if key in here]
    tables.write(tables.from_rows(rows, tables.EMBEDDINGS), kept, tables.EMBEDDINGS)
    vectors = {
        name: [cache[key]["embedding"] for key in used if key[1] == name and cache[key]["embedding"] is not None]
        for name in names
    }
    say(f"gallery: {len(files)} files; faces in {min(len(found) for found in vectors.values())} or more of them")
    return {name: np.array(found, np.float32) for name, found in vectors.items() if found}


def sha256(path: Path) -> str:
    """Digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
