"""Masking: makes the results without a generated face, once (routes ``region_only`` and ``intraoral``).

``region_only`` keeps the preserved core and puts the neutral fill everywhere else, without a band: a cross-fade would
show the patient's pixels beyond the area. ``intraoral`` keeps the whole photograph.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from deidlib.contract.routes import INTRAORAL, NEUTRAL, REGION_ONLY
from deidlib.regions.area import cut_region
from deidlib.storage import tables
from deidlib.storage.images import RELEASED_LEVEL, decode_png, encode_png


def keep_core(crop: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The crop, (H, W, 3) uint8, where ``core``, (H, W), is above 0; the neutral fill elsewhere."""
    return np.where(core[:, :, None] > 0, crop, np.array(NEUTRAL, np.uint8))


def outside_is_neutral(result: np.ndarray, core: np.ndarray) -> bool:
    """Whether every pixel outside the core, in every channel, is the neutral fill."""
    return result.shape == (*core.shape, 3) and bool((result[core == 0] == np.array(NEUTRAL, np.uint8)).all())


def without_face(regions: pa.Table) -> pa.Table:
    """The rows of ``tables.REGIONS`` that this module makes: handled, and on a route without a generated face."""
    return tables.of_routes(tables.handled(regions), REGION_ONLY, INTRAORAL)


def mask_photos(
    photos: pa.Table, regions: pa.Table, attempt: int, progress: Callable[[], None] | None = None
) -> pa.Table:
    """Make every photograph of a shard that needs no generated face.

    Parameters
    ----------
    photos, regions : Table
        Tables of one shard.
    attempt : int
        Their result depends on nothing that another attempt would change, so they are made at attempt 0 alone.
    progress : callable, optional
        Called once for each photograph.

    Returns
    -------
    Table
        ``tables.BLENDED``; the seam score is null, since these results have no seam.
    """
    todo = {row["release_photo_id"]: row for row in without_face(regions).to_pylist()} if attempt == 0 else {}
    rows = []
    for batch in tables.handled(photos).select(["release_photo_id", "image"]).to_batches(max_chunksize=1):
        (photo,) = batch.to_pylist()
        region = todo.get(photo["release_photo_id"])
        if region is None:
            continue
        crop, _ = cut_region(decode_png(photo["image"]), region)
        result = crop if region["route"] == INTRAORAL else keep_core(crop, decode_png(region["core"]))
        rows.append(
            {
                "release_photo_id": photo["release_photo_id"],
                "attempt": attempt,
                "image": encode_png(result, RELEASED_LEVEL),
                "status": tables.OK,
            }
        )
        if progress:
            progress()
    return tables.from_rows(rows, tables.BLENDED)
