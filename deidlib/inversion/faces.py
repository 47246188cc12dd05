"""The inversion stage: brings photographs and regions into the generator's frame, and generates the faces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import pyarrow as pa

from deidlib.inversion.going_on import factors, taken_for_the_patient
from deidlib.inversion.identity import fit_template
from deidlib.inversion.invert import BatchSize, Inverted, invert
from deidlib.inversion.mesh import fit_square
from deidlib.inversion.objective import WORK_SIDE, Networks, Targets
from deidlib.regions.area import band_depth, band_width, cut_square, depth_inside, fade_weight
from deidlib.storage import tables
from deidlib.storage.images import decode_png, encode_png
from deidlib.vision.alignment import (
    ALIGNED_SIDE,
    MOUTH_CORNERS,
    align_photo,
    eye_centres,
    invert_similarity,
    matrix_of,
    points_of,
    transform_points,
)

_NOSE_TIP = 1


def area_weight(core: np.ndarray, band: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Weight of the agreement with the photograph, in the released square's grid.

    It is 1 at the core's border and over the band, where the two images meet; 0.5 deep inside the core, whose pixels
    are replaced anyway; 0 outside the photograph.

    Returns
    -------
    ndarray, (side, side), float32
        0 to 1.
    """
    deep = np.clip(depth_inside(core) / band_width(core, band), 0, 1)
    weight = np.where(core > 0, 1 - 0.5 * deep, 0)
    weight = np.where(band > 0, 0.5 + 0.5 * band_depth(core, band), weight)
    return np.where(inside, weight, 0).astype(np.float32)


def _frames(landmark: dict, aligned_to_native: np.ndarray) -> dict[str, np.ndarray]:
    """Frames of recognisers and mesh, from pixels of the aligned frame at ``WORK_SIDE``; eye distance there."""
    points = transform_points(invert_similarity(aligned_to_native), points_of(landmark).astype(np.float64))
    points = (points + 0.5) * (WORK_SIDE / ALIGNED_SIDE) - 0.5
    left, right = eye_centres(points)
    return {
        "frames": fit_template(np.array([left, right, points[_NOSE_TIP], *points[MOUTH_CORNERS]])),
        "squares": fit_square(points),
        "inter_ocular": np.hypot(*(right - left)),
    }


def _target(photo: dict, landmark: dict, region: dict, donor: dict) -> dict[str, np.ndarray]:
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
        "donors": np.array(donor["w"], np.float32),
        "grey": np.array(photo["grey"]),
        "fades": fade,
        "likenesses": np.float32(donor["likeness"]),
        **_frames(landmark, matrix),
        **_start(donor),
    }


def _start(donor: dict) -> dict[str, np.ndarray]:
    """Where a photograph goes on from, and what leads it; nothing for one that starts at its donor."""
    if donor["start"] is None:
        return {}
    code = np.array(donor["start"], np.float32)
    return {
        "starts": code.reshape(-1, len(donor["w"])),
        "raised": factors(donor["led_by"]),
        "recognised": np.array(taken_for_the_patient(donor["led_by"])),
    }


def invert_faces(
    parts: Iterable[tuple[pa.Table, pa.Table, pa.Table, pa.Table]],
    networks: Networks,
    settings: dict,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Iterator[pa.Table]:
    """Generate the face of every photograph that has a donor.

    Parameters
    ----------
    parts : iterable of (Table, Table, Table, Table)
        Photographs, landmarks, regions and donors, some patients at a time; donors say which photographs this
        attempt handles.
    networks, settings
        See :func:`deidlib.inversion.invert.invert`. Batches go across parts.
    workers : int
        Batches at a time, each in its own thread. torch itself uses one thread, so this uses the cores of a CPU best,
        and the faces do not depend on the number. A GPU has one worker, since its memory is for one batch; it runs in
        the caller's thread, because CUDA graphs belong to the thread that captured them.
    progress : callable, optional
        Called with the number of photographs finished.

    Yields
    ------
    Table
        ``tables.FACES`` of one batch, in the order of the donors, apart from those that go on and those that do not,
        which have batches of their own. Memory is bounded by batch and workers, not by the
        number of photographs.
    """
    entries = (entry for part in parts for entry in _entries(*part))
    on_cpu, batch_size = next(networks.generator.parameters()).device.type == "cpu", BatchSize(settings["batch"])
    invert_batch = partial(_invert, networks, settings, batch_size)
    with ThreadPoolExecutor(workers) as inverters, ThreadPoolExecutor(workers) as helpers:
        # While a batch is inverted, the next one is read and the last one is encoded, so that a GPU never waits.
        prepared = _in_order(helpers, _prepared, entries, settings["batch"])
        batches = _batches(prepared, batch_size)
        inverted = _in_order(inverters, invert_batch, batches, workers) if on_cpu else map(invert_batch, batches)
        for made in _encoded_behind(helpers, inverted):
            if progress:
                progress(made.num_rows)
            yield made


def _entries(
    photos: pa.Table, landmarks: pa.Table, regions: pa.Table, donors: pa.Table
) -> Iterator[tuple[dict, dict, dict, dict]]:
    """Photograph, landmarks, region and donor of each photograph that has one."""
    columns = ["release_photo_id", "image", "grey"]
    wanted = set(donors["release_photo_id"].to_pylist())
    landmark_of, region_of, photo_of = (
        {row["release_photo_id"]: row for row in table.to_pylist() if row["release_photo_id"] in wanted}
        for table in (tables.handled(landmarks), tables.handled(regions), photos.select(columns))
    )
    for donor in donors.to_pylist():
        photo_id = donor["release_photo_id"]
        if photo_id in region_of:
            yield photo_of[photo_id], landmark_of[photo_id], region_of[photo_id], donor


def _encoded_behind(helpers: Executor, inverted: Iterable[tuple[Sequence[dict], Inverted]]) -> Iterator[pa.Table]:
    """Each batch's table; its images are encoded while the next batch is inverted."""
    waiting = None
    for donors, result in inverted:
        images = [helpers.submit(encode_png, image) for image in result.images]
        if waiting:
            yield _rows(*waiting)
        waiting = donors, result, images
    if waiting:
        yield _rows(*waiting)


def _in_order(pool: Executor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """The function's result for each item, in order; items are taken only shortly before the pool needs them."""
    waiting: deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(prepared: Iterable[tuple[dict, dict]], batch_size: BatchSize) -> Iterator[list[tuple[dict, dict]]]:
    """Batches of photographs that start at their donors, and of those that go on, which take other steps."""
    waiting: dict[bool, list] = {False: [], True: []}
    for one in prepared:
        alike = waiting["starts" in one[1]]
        alike.append(one)
        if len(alike) >= batch_size.size:
            yield alike.copy()
            alike.clear()
    yield from filter(None, waiting.values())


def _prepared(entry: tuple[dict, dict, dict, dict]) -> tuple[dict, dict[str, np.ndarray]]:
    """Donor and target of a photograph."""
    return entry[-1], _target(*entry)


def _invert(
    networks: Networks, settings: dict, batch_size: BatchSize, batch: list[tuple[dict, dict]]
) -> tuple[Sequence[dict], Inverted]:
    donors, targets = zip(*batch, strict=True)
    stacked = Targets(**{name: np.stack([t[name] for t in targets]) for name in targets[0]})
    return donors, invert(networks, stacked, settings, batch_size)


def _rows(donors: Sequence[dict], result: Inverted, images: Sequence[Future[bytes]]) -> pa.Table:
    rows = [
        {
            "release_photo_id": donor["release_photo_id"],
            "attempt": donor["attempt"],
            "donor_id": donor["donor_id"],
            "latent": result.latents[k].reshape(-1),
            "image": images[k].result(),
            "loss": float(result.loss[k]),
            "core_psnr": float(result.psnr[k]),
            "latent_distance": float(result.distance[k]),
            "status": tables.OK,
        }
        for k, donor in enumerate(donors)
    ]
    return tables.from_rows(rows, tables.FACES)
