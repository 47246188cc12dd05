"""Masks that reviewers drew: one PNG a photograph below ``private/review/masks/SHARD/``.

Intake uses them in place of the sheet's masks, so that a drawn area counts in the next run without a change of the
sheet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deidlib.errors import InputError
from deidlib.intake.decoding import Undecodable, decode_mask
from deidlib.storage import tables
from deidlib.storage.atomic import write_file
from deidlib.storage.images import decode_png, encode_png
from deidlib.storage.results import Results


def mask_file(private: Path, shard: str, photo: str) -> Path:
    """Path of the mask that a reviewer drew on a photograph (``release_photo_id``)."""
    if not tables.is_pseudonym(photo):
        raise InputError("this photograph is not part of the review")
    return Results(Path(private)).masks / shard / f"{photo}.png"


def save_mask(private: Path, shard: str, photo: str, png: bytes, shape: tuple[int, int]) -> None:
    """Keep a mask that a reviewer drew; the disk has it when this returns.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shard, photo : str
        Where the photograph is, and its ``release_photo_id``.
    png : bytes
        White where the photograph is preserved.
    shape : (int, int)
        Height and width of the photograph in its native frame, pixels.

    Raises
    ------
    InputError
        It is not an image, does not have the size of the photograph, or is completely white or black.
    """
    try:
        mask = decode_mask(png, shape[0] * shape[1])
    except Undecodable:
        raise InputError("this is no mask for this photograph: draw it on the page that the review opens") from None
    if mask.shape != tuple(shape):
        raise InputError("the mask is not of the photograph's size: draw it on the page that the review opens")
    if not mask.any() or mask.all():
        raise InputError("the mask is empty, or covers the whole photograph: paint what is to be preserved, no more")
    path = mask_file(private, shard, photo)
    for folder in (path.parent.parent.parent, path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    write_file(path, encode_png(mask))


def read_mask(private: Path, shard: str, photo: str) -> np.ndarray | None:
    """Mask, uint8 (H, W), that a reviewer drew; None where nobody did."""
    try:
        return decode_png(mask_file(private, shard, photo).read_bytes())
    except FileNotFoundError:
        return None
