"""Virtual patients for the attack suite: faces drawn by the generator, and results of bad methods."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa
import torch

from deidlib.donors.bank import read_bank, to_uint8
from deidlib.reid.embeddings import embed_renderings
from deidlib.reid.side_channels import Photo
from deidlib.storage import tables
from deidlib.storage.images import encode_png

PATIENTS, SIDE = 5, 256


def draw(generator, codes: np.ndarray) -> list[np.ndarray]:
    """One small face, (256, 256, 3), for each code w."""
    faces = []
    for code in codes.astype(np.float32):
        w = torch.from_numpy(code)[None, None].expand(-1, generator.n_styles, -1)
        with torch.no_grad():
            faces.append(to_uint8(generator.preview(w))[0])
    return faces


def codes(generator, n: int, seed: int) -> np.ndarray:
    """``n`` codes w of people who are not in the donor bank, (n, 512)."""
    z = np.random.default_rng(seed).standard_normal((n, 512)).astype(np.float32)
    with torch.no_grad():
        w = generator.map(torch.from_numpy(z)).numpy()
    mean = read_bank().w.mean(axis=0)
    return (mean + 0.75 * (w - mean)).astype(np.float32)


def two_photographs_each(generator, seed: int = 11) -> list[np.ndarray]:
    """Photographs 2 k and 2 k + 1 show patient k: the second is a tenth on the way to somebody else."""
    first = codes(generator, PATIENTS, seed)
    second = first + 0.1 * (np.roll(first, 1, axis=0) - first)
    return draw(generator, np.stack([first, second], axis=1).reshape(2 * PATIENTS, -1))


def mouth(side: int = SIDE) -> np.ndarray:
    """Core mask around the place of the mouth in an aligned face."""
    mask = np.zeros((side, side), np.uint8)
    centre, axes = (side // 2, round(0.70 * side)), (round(0.12 * side), round(0.06 * side))
    return cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)


def names(index: int) -> tuple[str, str]:
    """(release_photo_id, release_patient_id) of photograph ``index``."""
    return f"photo{index:04d}", f"patient{index // 2:03d}"


def stage_tables(images: list[np.ndarray]) -> tuple[pa.Table, pa.Table]:
    """``tables.PHOTOS`` and ``tables.REGIONS`` of the photographs, whose released square is the whole image."""
    photos, regions = [], []
    for index, image in enumerate(images):
        photo, patient = names(index)
        key = {"release_photo_id": photo}
        photos.append(key | {"release_patient_id": patient, "image": encode_png(image), "status": tables.OK})
        side = image.shape[0]
        band = encode_png(np.zeros((side, side), np.uint8))
        area = {"core": encode_png(mouth(side)), "band": band}
        place = {"crop_left": 0, "crop_top": 0, "crop_side": side, **area}
        regions.append(key | place | {"status": tables.OK})
    return tables.from_rows(photos, tables.PHOTOS), tables.from_rows(regions, tables.REGIONS)


def summary(n: int, **changes) -> list[Photo]:
    """Summary of ``n`` photographs that would be released, each patient with a donor of their own."""
    rows = np.random.default_rng(5).permutation(n)
    every = {"released": True, "side": SIDE, "clean": True} | changes
    return [Photo(*names(i), row=int(rows[i]) + 2, donor=every.get("donor") or names(i)[1], **every) for i in range(n)]


def released_rows(images: list[np.ndarray], originals: list[np.ndarray], recognisers: list) -> pa.Table:
    """``tables.EMBEDDINGS`` of images passed off as released, whole only."""
    rows = []
    for index, (image, original) in enumerate(zip(images, originals, strict=True)):
        photo, patient = names(index)
        for recogniser in recognisers:
            ((_, embedding),) = embed_renderings({"": image}, recogniser, original)
            key = {"release_photo_id": photo, "release_patient_id": patient, "attempt": 0, "shown": "released"}
            rows.append(key | {"recogniser": recogniser.name, "embedding": embedding})
    return tables.from_rows(rows, tables.EMBEDDINGS)


def _light_blur(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 2.0)


def _eye_bar(image: np.ndarray) -> np.ndarray:
    barred = image.copy()
    side = image.shape[0]
    barred[round(0.42 * side) : round(0.52 * side), round(0.2 * side) : round(0.8 * side)] = 0
    return barred


def _pixelated(image: np.ndarray) -> np.ndarray:
    side = image.shape[0]
    small = cv2.resize(image, (side // 6, side // 6), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST)


def _mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def _recoloured(image: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int32)
    hsv[:, :, 0] = (hsv[:, :, 0] + 20) % 180
    hsv[:, :, 1] = hsv[:, :, 1] * 6 // 10
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


#: What is passed off as de-identified elsewhere.
WEAK_METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "originals": np.copy,
    "light blur": _light_blur,
    "eye bar": _eye_bar,
    "pixelation": _pixelated,
    "mirror": _mirrored,
    "recolouring": _recoloured,
}
