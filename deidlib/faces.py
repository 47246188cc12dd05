"""The inversion stage: photographs and regions into the generator's frame, generated faces out."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa

from deidlib import tables
from deidlib.guide import fit_template
from deidlib.images import decode_png, encode_png
from deidlib.inversion import WORK_SIDE, Networks, Targets, invert
from deidlib.landmarks import (
    ALIGNED_SIDE,
    MOUTH_CORNERS,
    align_photo,
    eye_centres,
    invert_similarity,
    matrix_of,
    points_of,
    transform_points,
)
from deidlib.mesh import fit_square
from deidlib.regions import band_width, cut_square, distance_outside, fade_weight

_NOSE_TIP = 1


def area_weight(core: np.ndarray, band: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Where agreement counts, in the released square's grid.

    Full at the core's border and over the band (where the two images meet); half deep inside the core, whose pixels
    are replaced anyway; none outside the photograph.

    Returns
    -------
    ndarray, (side, side), float32
        0 to 1.
    """
    outside, width = distance_outside(core), band_width(core, band)
    depth = cv2.distanceTransform((core > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    weight = np.where(core > 0, 1 - 0.5 * np.clip(depth / width, 0, 1), 0)
    weight = np.where(band > 0, 1 - 0.5 * outside / width, weight)
    return np.where(inside, weight, 0).astype(np.float32)


def _frames(landmark: dict, aligned_to_native: np.ndarray) -> dict[str, np.ndarray]:
    """Where guide and mesh look: from pixels of the aligned frame at ``WORK_SIDE``, and the unit of length there."""
    points = transform_points(invert_similarity(aligned_to_native), points_of(landmark).astype(np.float64))
    points = (points + 0.5) * (WORK_SIDE / ALIGNED_SIDE) - 0.5
    left, right = eye_centres(points)
    return {
        "frames": fit_template(np.array([left, right, points[_NOSE_TIP], *points[MOUTH_CORNERS]])),
        "squares": fit_square(points),
        "inter_ocular": np.hypot(*(right - left)),
    }


def _target(photo: dict, landmark: dict, region: dict) -> dict[str, np.ndarray]:
    """One photograph's entries of :class:`Targets`."""
    image, matrix = decode_png(photo["image"]), matrix_of(landmark)
    left, top, side = region["crop_left"], region["crop_top"], region["crop_side"]
    _, inside = cut_square(image, left, top, side)
    core, band = decode_png(region["core"]), decode_png(region["band"])
    to_square = matrix - np.array([[0, 0, left], [0, 0, top]])
    weight, fade = (
        align_photo(map_.astype(np.float32), to_square, WORK_SIDE, border=cv2.BORDER_CONSTANT)
        for map_ in (area_weight(core, band, inside), fade_weight(core, band, inside))
    )
    y, x = np.nonzero(weight > 0.05)
    return {
        "images": align_photo(image, matrix, WORK_SIDE),
        "weights": weight,
        "centres": np.array([(x.min() + x.max()) / 2, (y.min() + y.max()) / 2]),
        "fades": fade,
        **_frames(landmark, matrix),
    }


def invert_faces(
    photos: pa.Table,
    landmarks: pa.Table,
    regions: pa.Table,
    donors: pa.Table,
    networks: Networks,
    settings: dict,
    progress: Callable[[int], None] | None = None,
) -> pa.Table:
    """Generate the face of every photograph that has a donor.

    Parameters
    ----------
    photos, landmarks, regions, donors : Table
        Tables of one shard; ``donors`` says which photographs this attempt handles.
    networks, settings, progress
        See :func:`deidlib.inversion.invert`. Memory is bounded by ``settings["batch"]``, not by the shard.

    Returns
    -------
    Table
        ``tables.FACES``.
    """
    columns = ["release_photo_id", "image", "grey"]
    wanted = set(donors["release_photo_id"].to_pylist())
    by_id = {
        name: {r["release_photo_id"]: r for r in table.to_pylist() if r["release_photo_id"] in wanted}
        for name, table in (("landmark", tables.handled(landmarks)), ("region", tables.handled(regions)))
    }
    photo_rows = {
        r["release_photo_id"]: r for r in photos.select(columns).to_pylist() if r["release_photo_id"] in wanted
    }
    rows = []
    todo = [d for d in donors.to_pylist() if d["release_photo_id"] in by_id["region"]]
    step = max(1, settings["batch"])
    for start in range(0, len(todo), step):
        part = todo[start : start + step]
        ids = [d["release_photo_id"] for d in part]
        entries = [_target(photo_rows[i], by_id["landmark"][i], by_id["region"][i]) for i in ids]
        targets = Targets(
            **{name: np.stack([entry[name] for entry in entries]) for name in entries[0]},
            donors=np.array([d["w"] for d in part], np.float32),
            grey=np.array([photo_rows[i]["grey"] for i in ids]),
            identities=np.array([d["sface"] for d in part], np.float32),
            likenesses=np.array([d["likeness"] for d in part], np.float32),
        )
        result = invert(networks, targets, settings, progress)
        for k, donor in enumerate(part):
            rows.append(
                {
                    "release_photo_id": donor["release_photo_id"],
                    "attempt": donor["attempt"],
                    "latent": result.latents[k].reshape(-1),
                    "image": encode_png(result.images[k]),
                    "loss": float(result.loss[k]),
                    "core_psnr": float(result.psnr[k]),
                    "latent_distance": float(result.distance[k]),
                    "status": tables.OK,
                }
            )
    return tables.from_rows(rows, tables.FACES)
