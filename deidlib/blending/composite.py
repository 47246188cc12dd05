"""Blending: brings the generated face into the photograph's pixel grid, and puts the patient's pixels back.

The photograph is never resampled. Four steps make the generated skin meet the patient's: a tint of the whole face (the
light's colour), one gain (the light's strength), a smooth correction that equals the remaining difference near the core
and dies out with the distance (the gradient-domain idea of Pérez et al. 2003 with a soft boundary), and a cross-fade
over the band. All of them read the photograph only inside the preserved area. Outside it, pixels are generated, with
colours that the area itself shows. In the core the patient's pixels are put back exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa

from deidlib.blending.seam import seam_score
from deidlib.regions.area import (
    area_of_landmarks,
    band_width,
    cut_square,
    distance_outside,
    fade_weight,
    preserved_area,
    smoothstep,
)
from deidlib.storage import tables
from deidlib.storage.images import RELEASED_LEVEL, decode_png, encode_png
from deidlib.vision.alignment import eye_centres, invert_similarity, matrix_of, points_of, resample

_LEAST_SKIN = 64  # pixels; fewest from which a tint is measured
_CLEAR_OF_LIPS = 0.04  # of the distance between the eyes


def warp_to_square(face: np.ndarray, aligned_to_native: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """The generated face, (1024, 1024, 3), resampled into the released square of the native grid."""
    to_aligned = invert_similarity(aligned_to_native - np.array([[0, 0, left], [0, 0, top]]))
    return resample(face, to_aligned, side)


def skin_tint(source: np.ndarray, face: np.ndarray, skin: np.ndarray, limit: float) -> np.ndarray:
    """Factor of each channel, (3,), that gives the generated skin the hue of the photograph's.

    The median over pixels, so that a beard or a strand of hair in some of them does not matter; the geometric mean of
    the channels is 1.

    Parameters
    ----------
    source, face : ndarray, (S, S, 3), uint8
        Photograph and generated face in the grid of the released square.
    skin : ndarray, (S, S), bool
        Where to measure both; with too few pixels there is no tint.
    limit : float
        Each factor is kept within 1/``limit`` to ``limit``.
    """
    if np.count_nonzero(skin) < _LEAST_SKIN:
        return np.ones(3)
    ratios = np.log(np.maximum(source[skin], 1.0) / np.maximum(face[skin], 1.0))
    ratios -= ratios.mean(axis=1, keepdims=True)
    return np.clip(np.exp(np.median(ratios, axis=0)), 1 / limit, limit)


def skin_in_area(points: np.ndarray, area: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Skin in the preserved area, (S, S) bool: its pixels at some distance from the lips.

    Parameters
    ----------
    points : ndarray, (478, 2)
        The photograph's landmarks in pixels of the square.
    area, inside : ndarray, (S, S), bool
        The preserved area; where the square lies inside the photograph.
    """
    left, right = eye_centres(points)
    lips = area_of_landmarks(points, len(area), "mouth", _CLEAR_OF_LIPS * np.hypot(*(right - left)))
    return area & inside & (lips == 0)


def light_gain(source: np.ndarray, face: np.ndarray, weight: np.ndarray, limit: float) -> float:
    """Factor, within 1/``limit`` to ``limit``, that makes the face as bright under ``weight`` as the source."""
    total = weight.sum()
    if total == 0:
        return 1.0
    means = [(image * weight[:, :, None]).sum(axis=(0, 1)) / total for image in (source, face)]
    ratio = np.maximum(means[0], 1) / np.maximum(means[1], 1)
    return float(np.clip(np.exp(np.log(ratio).mean()), 1 / limit, limit))


def soft_membrane(difference: np.ndarray, weight: np.ndarray, outside: np.ndarray, reach: float) -> np.ndarray:
    """Smooth field that continues ``difference`` from where ``weight`` holds and fades to 0 at distance ``reach``.

    Normalised convolution at widening scales: near the border the local difference, farther off its broader mean.
    """
    side = len(weight)
    small = max(1, round(side / max(1, int(reach / 24))))  # a smooth field is computed at a lower resolution
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
    tint: np.ndarray,
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
    tint : ndarray, (3,)
        Factors of the generated face's channels, see :func:`skin_tint`.
    options : dict
        ``gain_limit`` of the light; ``correction_width``, in widths of the band.

    Returns
    -------
    ndarray, (S, S, 3), uint8
        Equal to the source in the core, to colour-matched generated pixels outside core and band.
    """
    outside = distance_outside(core)
    width = band_width(core, band)
    near = ((band > 0) & inside).astype(np.float64)
    photo, generated = source.astype(np.float64), face * tint
    generated = generated * light_gain(photo, generated, near, options["gain_limit"])
    # The difference is read where the images meet: the core's rim and the inner band.
    rim = (outside <= 0.7 * width) & preserved_area(core, band) & inside
    rim = (rim & (cv2.erode(core, None, iterations=max(1, int(width / 3))) == 0)) * 1.0
    reach = options["correction_width"] * width
    generated = generated + soft_membrane(photo - generated, rim, outside, reach)

    fade = fade_weight(core, band, inside)
    mixed = fade[:, :, None] * photo + (1 - fade[:, :, None]) * generated
    result = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    result[core > 0] = source[core > 0]
    return result


def _blend_row(photo: dict, landmark: dict, region: dict, face: dict, options: dict) -> dict:
    square = region["crop_left"], region["crop_top"], region["crop_side"]
    source, inside = cut_square(decode_png(photo["image"]), *square)
    generated = warp_to_square(decode_png(face["image"]), matrix_of(landmark), *square)
    core, band = decode_png(region["core"]), decode_png(region["band"])
    points = points_of(landmark) - np.array([region["crop_left"], region["crop_top"]])
    skin = skin_in_area(points, preserved_area(core, band), inside)
    tint = skin_tint(source, generated, skin, options["tint_limit"])
    result = blend(source, inside, generated, core, band, tint, options)
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
        See :func:`blend`; ``tint_limit``, see :func:`skin_tint`.
    progress : callable, optional
        Called once for each photograph.

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
