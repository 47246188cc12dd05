"""How far a recogniser's score moves when the same picture is saved again or cut one pixel elsewhere.

    python tests/bench/margin.py FOLDER

FOLDER holds portraits (PNG or JPEG), one of each person. Of every ordered pair of different people one picture is
changed.
The margins of ``deidlib.contract.checks`` come from here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from deidlib import compute
from deidlib.vision.networks import dlib_resnet, sface, yunet

CHANGES = {
    "JPEG, quality 95": lambda picture: saved(picture, 95),
    "JPEG, quality 90": lambda picture: saved(picture, 90),
    "first row and column cut off": lambda picture: np.ascontiguousarray(picture[1:, 1:]),
    "first column cut off": lambda picture: np.ascontiguousarray(picture[:, 1:]),
    "half size": lambda picture: cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
}


def saved(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture, (H, W, 3) uint8, as JPEG and back."""
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


def main() -> None:
    """Print the absolute change of the scores for each recogniser and change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    files = sorted(path for path in parser.parse_args().folder.iterdir() if path.suffix in (".png", ".jpg"))
    pictures = [np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1]) for path in files]
    compute.quiet_native_libraries()
    for judge in (sface(yunet()), dlib_resnet()):
        known = {k: found for k, picture in enumerate(pictures) if (found := judge.embed(picture)) is not None}
        for name, change in CHANGES.items():
            changed = {k: judge.embed(change(pictures[k])) for k in known}
            moved = [
                abs(judge.compare(changed[a], known[b]) - judge.compare(known[a], known[b]))
                for a in known
                for b in known
                if a != b and changed[a] is not None
            ]
            quantiles = "  ".join(f"{np.percentile(moved, share):.4f}" for share in (50, 95, 99, 100))
            print(f"{judge.name:6} {name:30} {len(moved)} pairs; 50, 95, 99, 100 %: {quantiles}", flush=True)


if __name__ == "__main__":
    main()
