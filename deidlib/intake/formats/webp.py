"""WebP: the container's sizes must be right, and its coded data intact."""

from __future__ import annotations

import io

from PIL import Image

from deidlib.intake import colour
from deidlib.intake.formats.opened import LOST_BLOCK, Limits, Opened, Undecodable, zero_run

_PIXELS_A_ZERO = 8000


def opened(data: bytes, limits: Limits) -> Opened:
    """Decode a WebP file of one picture."""
    image = Image.open(io.BytesIO(data), formats=["WEBP"])
    limits.check(*image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise Undecodable("format_unsupported")
    # VP8's coder writes zeros for a flat background too: about one for 10 000 pixels.
    _check_chunks(data, max(LOST_BLOCK, image.width * image.height // _PIXELS_A_ZERO))
    image.load()
    exif = image.getexif()
    return Opened(
        image,
        profile=colour.profile_of(image.info.get("icc_profile"), exif),
        orientation=exif.get(colour.ORIENTATION, 1),
    )


def _check_chunks(data: bytes, lost: int) -> None:
    """Check that the sizes in the RIFF header and chunks match the file, and that no block of coded data is lost."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise Undecodable("image_damaged")
    at = 12
    while at < end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        content = data[at + 8 : min(at + 8 + size, end)]
        if len(content) < size or (data[at : at + 4] in (b"VP8 ", b"VP8L", b"ALPH") and zero_run(content, lost)):
            raise Undecodable("image_damaged")
        at += 8 + size + size % 2
