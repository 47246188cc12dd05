"""Images of the reversal attack: pairs of an original and a released photograph, for a sample of the patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deidlib.logs import progress
from deidlib.storage.results import Results, stage_table
from deidlib.storage.stage import read_photos
from deidlib.vision.networks import open_recognisers

if TYPE_CHECKING:
    from deidlib.reid.attack import Attack
    from deidlib.reid.attacker import Attacker
    from deidlib.reid.reversal import Pairs


def reversal(
    private: Path,
    photos: list,
    attempts: Mapping[str, int],
    shards: list[str],
    encoded: Callable[[str], bytes] | None,
    options: Mapping,
) -> Callable[[Attacker], list[Attack]]:
    """Train the networks on a sample, and return the attack that uses them.

    Parameters
    ----------
    private : Path
        The results' private folder.
    photos : list of deidlib.reid.side_channels.Photo
        Every photograph that has a face.
    attempts : mapping
        Photograph → the attempt that would be released, or was.
    shards : list of str
        Names of the shards.
    encoded : callable or None
        ``release_photo_id`` → encoded image of a finished release; else the blended tables' images are used.
    options : mapping
        ``config["reid"]``.
    """
    from deidlib.reid.reversal import embed_restored, restore_unseen, reversal_attacks

    steps, seed = options["reversal_steps"], options["seed"]
    wanted = _sample({photo.photo: photo.patient for photo in photos if photo.released and photo.side is not None})
    pairs = _pairs(private, shards, {i: attempts[i] for i in wanted}, wanted, encoded)
    with progress("reversal", 2 * steps, "training steps") as step:
        restored = restore_unseen(pairs, steps, seed, step)
    embedded = embed_restored(restored, open_recognisers(options["recognisers"])) if restored else {}
    return partial(reversal_attacks, restored=restored, embedded=embedded)


def _sample(patient_of: Mapping[str, str]) -> dict[str, str]:
    """Photographs of whole patients, by their keyed pseudonyms, as many as are trained on at most."""
    from deidlib.reid.reversal import MOST_PHOTOS

    order = sorted(patient_of, key=lambda photo: (patient_of[photo], photo))
    if len(order) > MOST_PHOTOS:
        last = patient_of[order[MOST_PHOTOS]]
        order = [photo for photo in order[:MOST_PHOTOS] if patient_of[photo] != last]
    return {photo: patient_of[photo] for photo in order}


def _pairs(
    private: Path,
    shards: list[str],
    attempts: Mapping[str, int],
    patient_of: Mapping[str, str],
    encoded: Callable[[str], bytes] | None,
) -> Pairs:
    from deidlib.contract.routes import GENERATE
    from deidlib.reid.reversal import SIDE, Pairs, aligned_pair
    from deidlib.storage.images import decode_png
    from deidlib.vision.alignment import matrix_of

    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for shard in shards:
        folder = Results(private).shard(shard)
        photos = read_photos(stage_table(folder, "photos"), "PHOTOS", patient_of, ["release_photo_id", "image"])
        here = photos["release_photo_id"].to_pylist()
        if not here:
            continue
        landmarks = by_photo(folder, "landmarks", ["aligned_to_native"], here)
        regions = by_photo(folder, "regions", ["route", "crop_left", "crop_top"], here)
        released = released_images(folder, {i: attempts[i] for i in here}, encoded)
        for batch in photos.to_batches(max_chunksize=1):
            (photo,) = batch.to_pylist()
            i = photo["release_photo_id"]
            if regions[i]["route"] == GENERATE and landmarks[i]["aligned_to_native"] is not None:
                found[i] = aligned_pair(
                    decode_png(photo["image"]),
                    decode_png(released[i]),
                    matrix_of(landmarks[i]),
                    regions[i]["crop_left"],
                    regions[i]["crop_top"],
                )
    names = sorted(found)
    shape = (len(names), SIDE, SIDE, 3)
    originals, images = (np.array([found[i][k] for i in names], np.uint8).reshape(shape) for k in (0, 1))
    return Pairs(np.array(names, str), np.array([patient_of[i] for i in names], str), images, originals)


def by_photo(folder: Path, name: str, columns: list[str], wanted: list[str]) -> dict[str, dict]:
    """Rows of a shard's table that belong to these photographs, by ``release_photo_id``."""
    rows = read_photos(stage_table(folder, name), name.upper(), wanted, ["release_photo_id", *columns])
    return {row["release_photo_id"]: row for row in rows.to_pylist()}


def released_images(
    folder: Path, attempts: Mapping[str, int], encoded: Callable[[str], bytes] | None
) -> dict[str, bytes]:
    """Encoded images of these photographs: of a finished release (``encoded``), else of the shard's attempts."""
    if encoded is not None:
        return {photo_id: encoded(photo_id) for photo_id in attempts}
    found = {}
    for attempt in sorted(set(attempts.values())):
        wanted = [i for i, number in attempts.items() if number == attempt]
        path = stage_table(folder, "blended", attempt)
        for row in read_photos(path, "BLENDED", wanted, ["release_photo_id", "image"]).to_pylist():
            found[row["release_photo_id"]] = row["image"]
    return found
