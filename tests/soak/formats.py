"""Damage photographs of every accepted format at random places and count the verdicts of intake.

    python tests/soak/formats.py --rounds 100

A file whose picture changed has to be refused as ``image_damaged``; another reason is wrong, since the format is known.
What is accepted is compared with the whole picture: "changed" counts files of which more than a hundredth of the pixels
differ by more than 16 grey levels. The exit code is 1 if a reason is wrong, or if one of the four damages of
:data:`picture_files.DAMAGES` goes unseen and changes the picture in a format that can show it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from picture_files import DAMAGES, every_format

from deidlib.intake.decoding import Undecodable, decode_photo

LIMIT = 10_000_000
LEVELS, SHARE = 16, 0.01
#: Formats without a checksum, restart or end in their coded data: bytes that are lost there may go unseen.
NO_WITNESS = ("WebP", "HEIC", "AVIF", "DICOM JPEG 2000", "TIFF", "TIFF LZW", "TIFF PackBits", "DICOM", "DICOM RLE")


def noise(data: bytes, at: int, rng: np.random.Generator) -> bytes:
    """Replace 32 bytes by noise."""
    return data[:at] + rng.bytes(32) + data[at + 32 :]


def verdict(data: bytes, whole: np.ndarray) -> str:
    """Reason code, or whether the accepted picture changed."""
    try:
        found = decode_photo(data, LIMIT)
    except Undecodable as refusal:
        return refusal.reason
    if found.shape != whole.shape:
        return "changed"
    apart = np.abs(found.astype(np.int16) - whole).max(axis=2)
    return "changed" if (apart > LEVELS).mean() > SHARE else "same"


def main() -> int:
    """Print a table of formats and damages, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="places a format and damage")
    parser.add_argument("--seed", type=int, default=18)
    given = parser.parse_args()
    rng, failed, total = np.random.default_rng(given.seed), False, Counter()
    kinds = {**DAMAGES, "32 bytes of noise": lambda data, at: noise(data, at, rng)}
    print(
        "| format | damage | damaged | same picture | changed picture | other reason |\n|---|---|---:|---:|---:|---:|"
    )
    for name, data in every_format().items():
        whole = decode_photo(data, LIMIT)
        for damage, apply in kinds.items():
            places = rng.integers(len(data) // 5, len(data) * 4 // 5, given.rounds)
            told = Counter(verdict(apply(data, int(at)), whole) for at in places)
            other = told.total() - told["image_damaged"] - told["same"] - told["changed"]
            print(f"| {name} | {damage} | {told['image_damaged']} | {told['same']} | {told['changed']} | {other} |")
            total["files"] += given.rounds
            total += Counter(
                {"damaged": told["image_damaged"], "same": told["same"], "changed": told["changed"], "o": other}
            )
            failed |= other > 0 or (damage in DAMAGES and told["changed"] > 0 and name not in NO_WITNESS)
    print(
        f"\n{total['files']} files: {total['damaged']} refused as image_damaged, {total['o']} for another reason; "
        f"accepted {total['same']} with the same picture, {total['changed']} with a changed one"
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
