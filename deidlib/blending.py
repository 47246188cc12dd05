"""Blending: the generated face goes into the photograph's own pixel grid, and the patient's pixels go back in.

The photograph is never resampled. Three steps make the generated skin meet the patient's: one gain for each colour
channel (light and colour temperature), a smooth correction that equals the remaining difference at the core's border
and dies out with the distance (the gradient-domain idea of Pérez et al. 2003 with a soft boundary), and a cross-fade
over the band. In the core the patient's pixels are put back exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa

from deidlib import tables
from deidlib.images import RELEASED_LEVEL, decode_png, encode_png
from deidlib.landmarks import invert_similarity, matrix_of, resample
from deidlib.regions import band_width, cut_square, distance_outside, fade_weight, smoothstep


def warp_to_square(face: np.ndarray, aligned_to_native: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """The generated face, (1024, 1024, 3), resampled into the released square of the native grid."""
    to_aligned = invert_similarity(aligned_to_native - np.array([[0, 0, left], [0, 0, top]]))
    return resample(face, to_aligned, side)


def channel_gains(
    source: np.ndarray, face: np.ndarray, weight: np.ndarray, gain_limit: float, tint_limit: float
) -> np.ndarray:
    """Gain of each channel, (3,), that brings the face's mean colour under ``weight`` towards the source's.

    The common factor (light) is kept within 1/``gain_limit`` to ``gain_limit``, each channel's departure from it
    (colour temperature) within ``tint_limit``: the gain acts on the whole face, and a stronger tint is seen.
    """
    total = weight.sum()
    if total == 0:
        return np.ones(3)
    means = [(image * weight[:, :, None]).sum(axis=(0, 1)) / total for image in (source, face)]
    ratio = np.maximum(means[0], 1) / np.maximum(means[1], 1)
    light = np.exp(np.log(ratio).mean())
    return np.clip(light, 1 / gain_limit, gain_limit) * np.clip(ratio / light, 1 / tint_limit, tint_limit)


def soft_membrane(difference: np.ndarray, weight: np.ndarray, outside: np.ndarray, reach: float) -> np.ndarray:
    """Smooth field that continues ``difference`` from where ``weight`` holds and fades to 0 at distance ``reach``.

    Normalised convolution at widening scales: near the border the local difference, farther off its broader mean.
    """
    side = len(weight)
    small = max(1, round(side / max(1, int(reach / 24))))  # a smooth field needs no more pixels than this
    weight, weighted, scale = _reduced(weight, small), _reduced(difference * weight[:, :, None], small), small / side
    field, remaining = np.zeros_like(weighted), np.ones_like(weight)
    for sigma in (reach / 12, reach / 6, reach / 3):
        blurred_weight = cv2.GaussianBlur(weight, (0, 0), sigma * scale)
        local = cv2.GaussianBlur(weighted, (0, 0), sigma * scale) / np.maximum(blurred_weight, 1e-6)[:, :, None]
        share = remaining * np.clip(blurred_weight / 0.15, 0, 1)
        field += share[:, :, None] * local
        remaining = remaining - share
    field += remaining[:, :, None] * local
    field = cv2.resize(field, (side, side), interpolation=cv2.INTER_LINEAR)
    return field * (1 - smoothstep(outside / reach))[:, :, None]


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def blend(
    source: np.ndarray,
    inside: np.ndarray,
    face: np.ndarray,
    core: np.ndarray,
    band: np.ndarray,
    options: dict,
) -> np.ndarray:
    """Composite a generated face and the patient's preserved area.

    Parameters
    ----------
    source : ndarray, (S, S, 3), uint8
        The photograph's released square.
    inside : ndarray, (S, S), bool
        Where the square lies inside the photograph.
    face : ndarray, (S, S, 3), uint8
        The generated face in the same grid.
    core, band : ndarray, (S, S), uint8
        Masks, 255 inside.
    options : dict
        ``gain_limit`` and ``tint_limit`` of the colour match; ``reach`` of the correction, in widths of the band.

    Returns
    -------
    ndarray, (S, S, 3), uint8
        Equal to the source in the core, to colour-matched generated pixels outside core and band.
    """
    outside = distance_outside(core)
    width = band_width(core, band)
    near = ((band > 0) & inside).astype(np.float64)
    photo, generated = source.astype(np.float64), face.astype(np.float64)

    generated = generated * channel_gains(photo, generated, near, options["gain_limit"], options["tint_limit"])
    # The difference is read where the images meet: the core's rim and the inner band.
    rim = ((outside <= 0.7 * width) & inside & (cv2.erode(core, None, iterations=max(1, int(width / 3))) == 0)) * 1.0
    reach = options["reach"] * width
    generated = generated + soft_membrane(photo - generated, rim, outside, reach)

    fade = fade_weight(core, band, inside)
    mixed = fade[:, :, None] * photo + (1 - fade[:, :, None]) * generated
    result = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    result[core > 0] = source[core > 0]
    return result


def seam_score(result: np.ndarray, source: np.ndarray, core: np.ndarray, band: np.ndarray) -> float:
    """Discontinuity along the band, over the same statistic of the untouched photograph.

    The mean length of the Lab gradient along the core's border and over the inner band; 1 is what the photograph
    itself shows there, and an unblended paste lies well above.
    """
    outside = distance_outside(core)
    width = band_width(core, band)
    ring = (outside <= 0.5 * width) & (cv2.erode(core, None, iterations=2) == 0)

    def steepness(image: np.ndarray) -> float:
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        dx, dy = cv2.Sobel(lab, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(lab, cv2.CV_32F, 0, 1, scale=1 / 8)
        return float(np.sqrt((dx**2 + dy**2).sum(axis=2))[ring].mean())

    return (steepness(result) + 0.5) / (steepness(source) + 0.5)


def _blend_row(photo: dict, landmark: dict, region: dict, face: dict, options: dict) -> dict:
    square = region["crop_left"], region["crop_top"], region["crop_side"]
    source, inside = cut_square(decode_png(photo["image"]), *square)
    generated = warp_to_square(decode_png(face["image"]), matrix_of(landmark), *square)
    core, band = decode_png(region["core"]), decode_png(region["band"])
    result = blend(source, inside, generated, core, band, options)
    return {"image": encode_png(result, RELEASED_LEVEL), "seam": seam_score(result, source, core, band)}


def blend_faces(
    photos: pa.Table,
    landmarks: pa.Table,
    regions: pa.Table,
    faces: pa.Table,
    options: dict,
    progress: Callable[[], None] | None = None,
) -> pa.Table:
    """Blend every generated face into its photograph.

    Parameters
    ----------
    photos, landmarks, regions, faces : Table
        Tables of one shard; ``faces`` says which photographs this attempt handles.
    options : dict
        See :func:`blend`.
    progress : callable, optional
        Called once a photograph.

    Returns
    -------
    Table
        ``tables.BLENDED``.
    """
    handled = tables.handled(faces)
    wanted = set(handled["release_photo_id"].to_pylist())
    photo, landmark, region = (
        {r["release_photo_id"]: r for r in table.to_pylist() if r["release_photo_id"] in wanted}
        for table in (photos.select(["release_photo_id", "image"]), landmarks, regions)
    )
    rows = []
    for face in handled.select(["release_photo_id", "attempt", "image"]).to_pylist():
        i = face["release_photo_id"]
        row = _blend_row(photo[i], landmark[i], region[i], face, options)
        rows.append({"release_photo_id": i, "attempt": face["attempt"], "status": tables.OK, **row})
        if progress:
            progress()
    return tables.from_rows(rows, tables.BLENDED)
