"""Make docs/stages.png from the results of `make demo`: every stage of three virtual patients, side by side.

.venv/bin/python docs/stages.py demo/results docs/stages.png

Columns: the photograph's released square; the preserved core (bright) and its blend band (tinted); the donor with the
photograph's pose and expression; the generated face, warped into the photograph's grid; the released image.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch

from deidlib.blending.composite import warp_to_square
from deidlib.donors.bank import to_uint8
from deidlib.generators import opened
from deidlib.regions.area import cut_region
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.vision.alignment import matrix_of

SHOWN = ("CASE-001-smile", "CASE-003-rest", "CASE-005-smile")
TITLES = ("photograph", "preserved area", "donor", "inversion", "released")
SIDE, GAP, TITLE = 256, 4, 26


def read(shard: Path, name: str, schema: pa.Schema, ids: set[str]) -> dict[str, dict]:
    """Rows of a shard's table by ``release_photo_id``."""
    rows = tables.read(shard / f"{name}.parquet", schema).to_pylist()
    return {row["release_photo_id"]: row for row in rows if row["release_photo_id"] in ids}


def stages(attempt: Path, names: dict[str, str], generator: torch.nn.Module) -> dict[str, list[np.ndarray]]:
    """Original photo id → the five pictures, of the photographs that passed the gate at an attempt of a shard."""
    ids, shard = set(names), attempt.parent
    photos, landmarks = read(shard, "photos", tables.PHOTOS, ids), read(shard, "landmarks", tables.LANDMARKS, ids)
    regions = read(shard, "regions", tables.REGIONS, ids)
    donors, faces = read(attempt, "donors", tables.DONORS, ids), read(attempt, "faces", tables.FACES, ids)
    blended, checks = read(attempt, "blended", tables.BLENDED, ids), read(attempt, "checks", tables.CHECKS, ids)
    found = {}
    for i in ids & {name for name, row in checks.items() if row["passed"]}:
        region = regions[i]
        square, _ = cut_region(decode_png(photos[i]["image"]), region)
        core, band = decode_png(region["core"]) > 0, decode_png(region["band"]) > 0
        area = (0.35 * square).astype(np.uint8)
        area[band] = (0.5 * square[band] + 0.5 * np.array([60, 120, 255])).astype(np.uint8)
        area[core] = square[core]
        w = torch.tensor(donors[i]["w"])[None, None].expand(-1, generator.n_styles, -1)
        with torch.no_grad():
            donor = to_uint8(generator.synthesise(w))[0]
        place = matrix_of(landmarks[i]), region["crop_left"], region["crop_top"], region["crop_side"]
        drawn = [warp_to_square(face, *place) for face in (donor, decode_png(faces[i]["image"]))]
        found[names[i]] = [square, area, *drawn, decode_png(blended[i]["image"])]
    return found


def main(results: Path, out: Path) -> None:
    """Lay the stages out, a row a patient."""
    crosswalk = tables.read(results / "private" / "crosswalk.parquet", tables.CROSSWALK).to_pylist()
    names = {row["release_photo_id"]: row["photo_id"] for row in crosswalk if row["photo_id"] in SHOWN}
    generator, found = opened.generator("mobilestylegan"), {}
    for attempt in sorted((results / "private" / "shards").glob("*/attempt-*")):
        found |= stages(attempt, names, generator)  # a later attempt, of a patient, replaces an earlier one
    if not found:
        raise SystemExit("none of the patients shown passed: run `make demo` first")
    width = len(TITLES) * (SIDE + GAP) - GAP
    lines = [np.full((TITLE, width, 3), 255, np.uint8)]
    for k, title in enumerate(TITLES):
        cv2.putText(
            lines[0], title, (k * (SIDE + GAP) + 4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40, 40, 40), 1, cv2.LINE_AA
        )
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    for name in SHOWN:
        if name in found:
            images = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in found[name]]
            lines += [
                np.hstack([part for image in images for part in (image, gap)][:-1]),
                gap[:GAP, :1].repeat(width, 1),
            ]
    cv2.imwrite(str(out), np.vstack(lines)[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
