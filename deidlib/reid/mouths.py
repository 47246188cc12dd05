"""Pictures for the attack by the teeth: a sample of the patients, originals and what is released of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from deidlib.logs import progress
from deidlib.regions.area import cut_region, preserved_area
from deidlib.reid.restored import by_photo, released_images
from deidlib.reid.side_channels import Photo
from deidlib.reid.teeth import MOST_PHOTOS, Seen, mouth_of
from deidlib.storage.images import decode_png
from deidlib.storage.results import Results, stage_table
from deidlib.storage.stage import read_photos
from deidlib.vision.alignment import points_of

_REGION = ["route", "crop_left", "crop_top", "crop_side", "core", "band"]


def sampled(photos: Sequence[Photo], most: int = MOST_PHOTOS) -> list[Photo]:
    """Photographs of whole patients, by their keyed pseudonyms, those with several photographs first."""
    of_patient: dict[str, list[Photo]] = {}
    for photo in sorted(photos, key=lambda one: (one.patient, one.photo)):
        of_patient.setdefault(photo.patient, []).append(photo)
    chosen: list[Photo] = []
    for mine in sorted(of_patient.values(), key=lambda mine: (len(mine) < 2, mine[0].patient)):
        if len(chosen) + len(mine) <= most:
            chosen += mine
    return chosen


def seen_mouths(
    private: Path,
    photos: Sequence[Photo],
    attempts: Mapping[str, int],
    shards: Sequence[str],
    encoded: Callable[[str], bytes] | None,
) -> list[Seen]:
    """Measure the mouths of a sample.

    Parameters
    ----------
    private : Path
        The results' private folder.
    photos : sequence of Photo
        Every photograph that has a preserved area.
    attempts : mapping
        Photograph → the attempt that would be released, or was.
    shards : sequence of str
        Names of the shards.
    encoded : callable or None
        ``release_photo_id`` → encoded image of a finished release; else the blended tables' images are used.
    """
    wanted = {photo.photo: photo for photo in sampled(photos)}
    found = []
    with progress("teeth", len(wanted)) as step:
        for shard in shards:
            folder = Results(private).shard(shard)
            pictures = read_photos(stage_table(folder, "photos"), "PHOTOS", wanted, ["release_photo_id", "image"])
            here = pictures["release_photo_id"].to_pylist()
            if not here:
                continue
            regions = by_photo(folder, "regions", _REGION, here)
            landmarks = by_photo(folder, "landmarks", ["points"], here)
            released = released_images(folder, {i: attempts[i] for i in here if i in attempts}, encoded)
            for batch in pictures.to_batches(max_chunksize=1):
                (row,) = batch.to_pylist()
                photo = wanted[row["release_photo_id"]]
                region = regions.get(photo.photo)
                if region is not None and region["core"] is not None:
                    points, image = landmarks.get(photo.photo), released.get(photo.photo)
                    found.append(_seen(photo, decode_png(row["image"]), image, region, points))
                step()
    return found


def _seen(photo: Photo, original: np.ndarray, released: bytes | None, region: dict, landmark: dict | None) -> Seen:
    area = preserved_area(decode_png(region["core"]), decode_png(region["band"]))
    square, _ = cut_region(original, region)
    points = None
    if landmark is not None and landmark["points"] is not None:
        corner = np.array([region["crop_left"], region["crop_top"]], np.float32)
        points = points_of(landmark) - corner
    return Seen(
        photo.photo,
        photo.patient,
        region["route"],
        photo.timepoint,
        mouth_of(np.ascontiguousarray(square), area, points),
        None if released is None else mouth_of(decode_png(released), area, points),
    )
