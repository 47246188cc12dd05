"""PNG: every chunk's checksum must hold; colour follows cICP, iCCP, sRGB or gAMA, in this order (third edition)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

from PIL import Image

from deidlib.intake import colour
from deidlib.intake.formats.opened import Limits, Opened, Undecodable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BITS_AT = 24
_FULL_RANGE = b"\x00\x01"  # no YCbCr matrix; values from 0 to white


def opened(data: bytes, limits: Limits) -> Opened:
    """Decode a PNG file of one picture."""
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    limits.check(*image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise Undecodable("format_unsupported")
    chunks = dict(_chunks(data))
    image.load()
    exif = image.getexif()
    return Opened(
        image,
        bits=data[_BITS_AT],
        profile=_profile(image, chunks, exif),
        orientation=exif.get(colour.ORIENTATION, 1),
    )


def _profile(image: Image.Image, chunks: dict[bytes, bytes], exif: Image.Exif) -> bytes | None:
    if b"cICP" in chunks:
        coded = chunks[b"cICP"]
        if len(coded) != 4 or coded[2:] != _FULL_RANGE:
            raise Undecodable("colour_unsupported")
        return colour.coded_profile(coded[0], coded[1])
    if b"iCCP" in chunks:
        icc = image.info.get("icc_profile")
        if not icc:
            raise Undecodable("image_damaged")
        return icc
    if b"sRGB" in chunks:
        return None
    gamma = image.info.get("gamma")
    measured = colour.measured_profile(gamma, image.info.get("chromaticity")) if gamma is not None else None
    return measured or colour.profile_of(None, exif)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of every chunk up to IEND; a wrong checksum or a missing IEND is damage."""
    at = len(SIGNATURE)
    while True:
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            raise Undecodable("image_damaged")
        named = data[at + 4 : at + 8 + size]
        if zlib.crc32(named) != int.from_bytes(data[at + 8 + size : at + 12 + size], "big"):
            raise Undecodable("image_damaged")
        yield named[:4], named[4:] if named[:4] != b"IDAT" else b""
        if named[:4] == b"IEND":
            return
        at += 12 + size
