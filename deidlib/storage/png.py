"""What a PNG file holds, chunk by chunk: a released image is pixels and nothing else."""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_problems(data: bytes) -> list[str]:
    """List what is wrong with a released image file; empty when it holds 8-bit RGB pixels and nothing else.

    Checked: signature, only IHDR, IDAT and IEND chunks with right CRCs, nothing after IEND, 8-bit RGB without
    interlacing, and a pixel stream of exactly the size that the header announces, with nothing hidden
    behind it.
    """
    try:
        return _problems(data)
    except (struct.error, zlib.error):
        return ["damaged PNG"]


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the header of a PNG that :func:`png_problems` found no fault with."""
    return struct.unpack(">II", data[16:24])


def _problems(data: bytes) -> list[str]:
    if not data.startswith(_SIGNATURE):
        return ["not a PNG"]
    kinds, pixels, at = [], [], len(_SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        if crc != zlib.crc32(kind + body):
            return ["damaged PNG"]
        kinds.append(kind)
        pixels += [body] if kind == b"IDAT" else []
        at += 12 + length
        if kind == b"IEND":
            break
    problems = []
    if at != len(data):
        problems.append("bytes after the end of the PNG")
    if set(kinds) - {b"IHDR", b"IDAT", b"IEND"}:
        problems.append("PNG carries more than pixels (chunks other than IHDR, IDAT, IEND)")
    if kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or len(kinds) != kinds.count(b"IDAT") + 2:
        return problems or ["damaged PNG"]
    width, height, *form = struct.unpack(">IIBBBBB", data[16:29])
    if form != [8, 2, 0, 0, 0] or struct.unpack(">I", data[8:12])[0] != 13:
        return [*problems, "PNG is not plain 8-bit RGB"]
    expected = height * (1 + 3 * width)
    stream = zlib.decompressobj()
    raw = stream.decompress(b"".join(pixels), expected + 1)
    if len(raw) != expected or not stream.eof or stream.unused_data or max(raw[:: 1 + 3 * width], default=0) > 4:
        problems.append("PNG's pixel stream has not the size its header announces")
    return problems
