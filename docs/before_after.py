"""Make docs/before-after.png from the results of `make demo` (virtual patients only).

.venv/bin/python docs/before_after.py demo/results docs/before-after.png
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from deidlib.regions.area import cut_square
from deidlib.storage import tables
from deidlib.storage.images import decode_png

SHOWN = ("CASE-001-smile", "CASE-003-smile", "CASE-005-smile")
SIDE, GAP = 320, 6


def pair(private: Path, release: Path, shard: str, photo_id: str) -> np.ndarray | None:
    """The released square before and after, side by side, or None where the shard lacks a released one."""
    photos = tables.read(private / "shards" / shard / "photos.parquet", tables.PHOTOS).to_pylist()
    found = [row for row in photos if row["photo_id"] == photo_id]
    index = pd.read_parquet(release / "index.parquet").set_index("release_photo_id")
    if not found or found[0]["release_photo_id"] not in index.index:
        return None
    name = found[0]["release_photo_id"]
    regions = tables.read(private / "shards" / shard / "regions.parquet", tables.REGIONS).to_pylist()
    (region,) = [row for row in regions if row["release_photo_id"] == name]
    square, _ = cut_square(decode_png(found[0]["image"]), region["crop_left"], region["crop_top"], region["crop_side"])
    after = decode_png((release / index.loc[name, "path"]).read_bytes())
    return np.hstack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in (square, after)])


def main(results: Path, out: Path) -> None:
    """Lay the pairs out in a row."""
    (release,) = (results / "release").iterdir()
    shards = sorted(path.name for path in (results / "private" / "shards").iterdir() if path.is_dir())
    pairs = [pair(results / "private", release, shard, photo) for photo in SHOWN for shard in shards]
    shown = [image for image in pairs if image is not None]
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    row = np.hstack([part for image in shown for part in (image, gap)][:-1])
    cv2.imwrite(str(out), row[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
