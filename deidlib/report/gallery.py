"""Thumbnails of released images for the audit, read only from the release folder."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from deidlib.storage import images

MOST = 24
SIDE = 256


def choose(index: pa.Table, most: int = MOST) -> list[dict]:
    """Rows of the index to show: a first photograph of each patient, then second ones, by pseudonym."""
    return choose_rows(index.to_pylist(), most)


def choose_rows(rows: list[dict], most: int) -> list[dict]:
    """Choose among rows with ``release_patient_id`` and ``release_photo_id`` as :func:`choose` does."""
    nth: dict[str, int] = {}
    ranked = []
    for row in rows:
        patient = row["release_patient_id"]
        nth[patient] = nth.get(patient, -1) + 1
        ranked.append((nth[patient], patient, row["release_photo_id"], row))
    chosen = sorted(ranked, key=lambda entry: entry[:3])[:most]
    return [row for _, _, _, row in sorted(chosen, key=lambda entry: entry[1:3])]


def thumbnail(path: Path, side: int = SIDE) -> str:
    """Make a data URI of a JPEG of a PNG file whose longer side is ``side`` pixels."""
    return thumbnail_of(images.decode_png(Path(path).read_bytes()), side)


def thumbnail_of(pixels: np.ndarray, side: int) -> str:
    """Make a data URI of a JPEG of an RGB image, (H, W, 3), whose longer side is ``side`` pixels."""
    scale = side / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    ok, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not ok:
        raise ValueError("the JPEG encoder refused a thumbnail")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
