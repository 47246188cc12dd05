"""Embeddings of a shard's photographs: originals, released ones, and both with the preserved area alone or hidden.

They are computed once a shard and kept in a table; every attack of the suite works on them. A released photograph and
its square of the original have one grid, so one mask serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.regions.area import cut_region, preserved_area
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.vision.recognisers import Recogniser

if TYPE_CHECKING:
    from deidlib.reid.looks import LookMeter

#: Rows of the table that hold a perceptual hash, and soft biometrics, instead of an embedding.
PHASH, LOOKS = "phash", "looks"
#: What most attacks compare; it stays in memory while a recogniser attacks.
KEPT = ("original", "square", "released")
_COLUMNS = 32  # of embeddings or looks whose spread is computed at a time
_CHUNK_BYTES = 2**26  # the system gets the memory of such large arrays back when they are deleted
#: What OpenCV and dlib raise on an image that they cannot work with.
_UNABLE = (cv2.error, RuntimeError, ValueError)


@dataclass(frozen=True)
class Released:
    """A photograph as it would be released, or was: the attempt and the pixels (side, side, 3)."""

    attempt: int
    image: np.ndarray


def show_only(image: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Hide a part of a picture with the mean colour of the visible part, so that no strong edge is added.

    Parameters
    ----------
    image : ndarray, (H, W, 3), uint8
        The picture.
    visible : ndarray, (H, W), bool
        What stays.
    """
    if not visible.any():
        return np.full_like(image, 128)
    shown = visible.astype(np.uint8)
    totals = cv2.sumElems(cv2.bitwise_and(image, image, mask=shown))[:3]
    colour = np.round(np.array(totals) / np.count_nonzero(shown)).astype(np.uint8)
    result = np.full_like(image, colour)
    return cv2.copyTo(image, shown, result)


def renderings(image: np.ndarray, area: np.ndarray) -> dict[str, np.ndarray]:
    """Give a square whole (``""``), its preserved area alone (``_region``), and with the area hidden (``_context``).

    The area is cut at its border and includes the band; outside it no pixel is the patient's.
    """
    inside = area > 0
    return {"": image, "_region": show_only(image, inside), "_context": show_only(image, ~inside)}


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """64 bits, as float32 0 or 1, of the DCT perceptual hash (Zauner 2010; OpenCV's implementation)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.unpackbits(cv2.img_hash.pHash(grey).reshape(-1)).astype(np.float32)


def embed_renderings(
    pictures: Mapping[str, np.ndarray],
    recogniser: Recogniser,
    reference: np.ndarray | None = None,
    places: Places | None = None,
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Embed the renderings of one square, all aligned by the face of the whole one.

    Parameters
    ----------
    pictures : mapping
        Suffix → picture, (side, side, 3); ``""`` is the whole one.
    recogniser : Recogniser
        Detects, aligns, embeds.
    reference : ndarray, (side, side, 3), optional
        The original's square. Where the recogniser finds no face in the whole picture, the place of this square's face
        is used: all squares have one layout, so a face that a detector overlooks (pixelated, say) is not protected.
    places : Places, optional
        What was found before, by other recognisers.

    Yields
    ------
    (str, ndarray or None)
        Suffix and embedding; None: no face, or the recogniser could not work.
    """
    places = places or Places()
    face = places.of(pictures[""], recogniser)
    if face is None and reference is not None:
        face = places.of(reference, recogniser)
    for suffix, picture in pictures.items():
        yield suffix, None if face is None else _attempted(recogniser, picture, face)


class Places:
    """Faces that were found in some pictures; recognisers with one detector have each searched once."""

    def __init__(self):
        self._found: dict[tuple[int, int], tuple] = {}

    def of(self, picture: np.ndarray, recogniser: Recogniser):
        """Position of the largest face; None: no face, or the recogniser could not work."""
        key = id(picture), id(recogniser.finder)
        if key not in self._found:
            try:
                face = recogniser.detect(picture)
            except _UNABLE:
                face = None
            self._found[key] = face, picture  # kept, so that no other picture gets its id
        return self._found[key][0]


def _attempted(recogniser: Recogniser, picture: np.ndarray, face) -> np.ndarray | None:
    try:
        found = recogniser.embed_aligned(recogniser.align(picture, face))
    except _UNABLE:
        return None
    return found if np.isfinite(found).all() else None


def embed_shard(
    photos: pa.Table,
    regions: pa.Table,
    released: Callable[[str], Released | None],
    recognisers: Sequence[Recogniser],
    donor: Callable[[str], np.ndarray | None] = lambda photo_id: None,
    progress: Callable[[], None] | None = None,
    meter: LookMeter | None = None,
) -> pa.Table:
    """Embed everything that the attacks on one shard, or on a part of it, need.

    Parameters
    ----------
    photos, regions : Table
        Rows of ``tables.PHOTOS`` and ``tables.REGIONS``.
    released : callable
        ``release_photo_id`` → the photograph as it would be released, None where it would not.
    recognisers : sequence
        Recognisers; each aligns the face by its own detector.
    donor : callable
        ``release_photo_id`` → the donor's face, drawn by the generator, if a donor was first used for this photograph.
    progress : callable, optional
        Called once a photograph.
    meter : LookMeter, optional
        Measures soft biometrics; without it the table has none.

    Returns
    -------
    Table
        ``tables.EMBEDDINGS``, sorted by photograph.
    """
    region_of = {row["release_photo_id"]: row for row in tables.handled(regions).to_pylist()}
    patient_of: dict[str, str] = {}
    rows: list[dict] = []

    def add(
        photo_id: str, shown: str, recogniser: str, embedding: np.ndarray | None, attempt: int | None = None
    ) -> None:
        rows.append(
            {
                "release_photo_id": photo_id,
                "release_patient_id": patient_of[photo_id],
                "attempt": attempt,
                "shown": shown,
                "recogniser": recogniser,
                "embedding": embedding,
            }
        )

    columns = ["release_photo_id", "release_patient_id", "image"]
    for batch in tables.handled(photos).select(columns).to_batches(max_chunksize=1):
        for photo in batch.to_pylist():
            photo_id = photo["release_photo_id"]
            patient_of[photo_id] = photo["release_patient_id"]
            original, region, result = decode_png(photo["image"]), region_of.get(photo_id), released(photo_id)
            places = Places()
            for recogniser in recognisers:
                ((_, whole),) = embed_renderings({"": original}, recogniser, places=places)
                add(photo_id, "original", recogniser.name, whole)
            if region is not None:
                area = preserved_area(decode_png(region["core"]), decode_png(region["band"]))
                square, _ = cut_region(original, region)
                shown = {"square": (np.ascontiguousarray(square), None)}
                if result is not None:
                    shown["released"] = (result.image, result.attempt)
                for name, (image, attempt) in shown.items():
                    add(photo_id, name, PHASH, perceptual_hash(image), attempt)
                    pictures = renderings(image, area)
                    for recogniser in recognisers:
                        for suffix, embedding in embed_renderings(pictures, recogniser, shown["square"][0], places):
                            add(photo_id, name + suffix, recogniser.name, embedding, attempt)
                if meter is not None:
                    for name, look, attempt in _looks(shown, area, meter):
                        add(photo_id, name, LOOKS, look, attempt)
            if (drawn := donor(photo_id)) is not None:
                for recogniser in recognisers:
                    ((_, embedding),) = embed_renderings({"": drawn}, recogniser, places=places)
                    add(photo_id, "donor", recogniser.name, embedding)
            if progress:
                progress()
    rows.sort(key=lambda row: (row["release_photo_id"], row["shown"], row["recogniser"]))
    return tables.from_rows(rows, tables.EMBEDDINGS)


def _looks(
    shown: Mapping[str, tuple[np.ndarray, int | None]], area: np.ndarray, meter: LookMeter
) -> Iterator[tuple[str, np.ndarray | None, int | None]]:
    """Soft biometrics of each picture, whole and of the preserved area alone; as with recognisers, by one layout."""
    reference = meter.find(shown["square"][0])
    for name, (image, attempt) in shown.items():
        face = reference if name == "square" else meter.find(image) or reference
        yield name, meter.look(image, face), attempt
        yield f"{name}_region", meter.look(image, face, area), attempt


@dataclass(frozen=True)
class Faces:
    """Embeddings of one kind by one recogniser.

    Attributes
    ----------
    photos, patients : ndarray, (N,), str
        Pseudonyms.
    vectors : ndarray, (N, D), float32
        Embeddings.
    missing : int
        Photographs in which the recogniser found no face, could not work, or gave no finite numbers; they are not
        among the N.
    """

    photos: np.ndarray
    patients: np.ndarray
    vectors: np.ndarray
    missing: int = 0

    def __len__(self) -> int:
        return len(self.photos)

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of each value, (D,); photographs in which it was not measured (nan) are left out."""
        return _mean(self.vectors)

    @cached_property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each value, (D,), in the same way."""
        some = range(0, self.vectors.shape[1], _COLUMNS)  # at a time: the differences are as large as all values
        pieces = (self.vectors[:, first : first + _COLUMNS] for first in some)
        with np.errstate(all="ignore"):
            return np.sqrt(np.concatenate([_mean((piece - _mean(piece)) ** 2) for piece in pieces]))

    def named(self) -> Faces:
        """The same without vectors."""
        return replace(self, vectors=np.zeros((len(self), 0), np.float32))


def _mean(values: np.ndarray) -> np.ndarray:
    there = ~np.isnan(values)
    with np.errstate(all="ignore"):
        return np.where(there, values, 0).sum(axis=0) / there.sum(axis=0)


def faces_of(embeddings: pa.Table, recogniser: str, shown: str) -> Faces:
    """Select from ``tables.EMBEDDINGS``. A look may hold nan (not measured); an embedding that holds one is missing."""
    wanted = pc.and_(pc.equal(embeddings["recogniser"], recogniser), pc.equal(embeddings["shown"], shown))
    chosen = _where(embeddings, wanted)
    found = _where(chosen, pc.is_valid(chosen["embedding"])).combine_chunks()
    if not len(found):
        return Faces(np.zeros(0, str), np.zeros(0, str), np.zeros((0, 1), np.float32), len(chosen))
    flat = np.array(found["embedding"].combine_chunks().flatten(), np.float32)  # its own: Arrow keeps twice the room
    vectors = flat.reshape(len(found), -1)
    sound = np.ones(len(found), bool) if recogniser == LOOKS else comparable(vectors)
    names = (np.array(found[name].to_pylist(), dtype=str) for name in ("release_photo_id", "release_patient_id"))
    missing = len(chosen) - int(sound.sum())
    if sound.all():
        return Faces(*names, vectors, missing)
    return Faces(*(values[sound] for values in names), vectors[sound], missing)


def _where(table: pa.Table, wanted: pa.ChunkedArray) -> pa.Table:
    """The wanted rows; a table that is wanted whole is not copied."""
    return table if pc.all(wanted).as_py() else table.filter(wanted)


def comparable(vectors: np.ndarray) -> np.ndarray:
    """Which rows of embeddings, (N, D), give finite scores whatever they are compared with, (N,) bool.

    With squared lengths below a quarter of the largest number, no product and no squared distance of two overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squared = np.einsum("nd,nd->n", vectors, vectors)
    return squared < np.finfo(vectors.dtype).max / 4  # false for NaN


class CohortFaces(Mapping[str, Faces]):
    """What is shown → embeddings of all shards by one recogniser, in the shards' order.

    They are read when they are asked for. In memory are those of :data:`KEPT` and the last of the others.

    Parameters
    ----------
    read : callable
        Recogniser and what is shown → the shards' ``tables.EMBEDDINGS``, one after the other.
    recogniser : str
        Its name.
    shown : sequence of str
        The keys.
    """

    def __init__(self, read: Callable[[str, str], Iterable[pa.Table]], recogniser: str, shown: Sequence[str]):
        self._read, self._recogniser, self._shown = read, recogniser, shown
        self._kept: dict[str, Faces] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kept": {}}  # another process reads them again

    def __getitem__(self, shown: str) -> Faces:
        if shown not in self._shown:
            raise KeyError(shown)
        if shown not in self._kept:
            self._kept = {name: faces for name, faces in self._kept.items() if name in KEPT or shown in KEPT}
            tables_read = self._read(self._recogniser, shown)
            self._kept[shown] = joined(faces_of(table, self._recogniser, shown) for table in tables_read)
        return self._kept[shown]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shown)

    def __len__(self) -> int:
        return len(self._shown)


def joined(pieces: Iterable[Faces]) -> Faces:
    """Several sets of embeddings as one, in their order."""
    missing, photos, patients, chunks, small = 0, [], [], [], []
    for piece in pieces:
        missing += piece.missing
        if len(piece):
            photos.append(piece.photos)
            patients.append(piece.patients)
            small.append(piece.vectors)
        if sum(vectors.nbytes for vectors in small) >= _CHUNK_BYTES:
            chunks.append(np.concatenate(small))
            small.clear()
    if not photos:
        return Faces(np.zeros(0, str), np.zeros(0, str), np.zeros((0, 1), np.float32), missing)
    chunks += [np.concatenate(small)] if small else []
    return Faces(np.concatenate(photos), np.concatenate(patients), _stacked(chunks), missing)


def _stacked(chunks: list[np.ndarray]) -> np.ndarray:
    """Rows of all chunks; empties the list as it goes, so that they are not in memory twice."""
    if len(chunks) == 1:
        return chunks.pop()
    end = sum(map(len, chunks))
    whole = np.empty((end, chunks[0].shape[1]), chunks[0].dtype)
    while chunks:
        chunk = chunks.pop()
        whole[end - len(chunk) : end] = chunk
        end -= len(chunk)
    return whole
