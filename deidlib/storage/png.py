"""Checks a PNG file chunk by chunk: a released image holds pixels and nothing else."""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIECE = 1 << 16
#: Most pixels (as the configuration's intake.max_pixels allows) and longest side of a released image, and most bytes of
#: its file: the uncompressed pixels and the overhead of PNG.
MOST_PIXELS, LONGEST_SIDE = 178_000_000, 65_535
MOST_BYTES = 3 * MOST_PIXELS + (MOST_PIXELS >> 6) + (1 << 20)


def png_problems(data: bytes | BinaryIO) -> list[str]:
    """List what is wrong with a released image file; empty when it holds 8-bit RGB pixels and nothing else.

    The file must have the PNG signature; only IHDR, IDAT and IEND chunks, with right CRCs; nothing after IEND; 8-bit
    RGB without interlacing; and a pixel stream of exactly the size that the header announces, with a valid filter in
    every row and nothing after it. Such a file can be decoded. The file is read in pieces, so memory grows neither
    with its announced size nor with its real one.

    Parameters
    ----------
    data : bytes or binary file
        The whole file; an open file is read from its current position.
    """
    try:
        return _problems(io.BytesIO(data) if isinstance(data, bytes) else data)
    except (struct.error, zlib.error):
        return ["damaged PNG"]


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels from the first 24 bytes of a PNG that :func:`png_problems` found no fault with."""
    return struct.unpack(">II", data[16:24])


def _problems(file: BinaryIO) -> list[str]:
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        return ["not a PNG"]
    length, kind = struct.unpack(">I4s", file.read(8))
    if kind != b"IHDR":
        return ["damaged PNG"]
    header = _body(file, kind, length)
    if length != 13 or header[8:] != bytes((8, 2, 0, 0, 0)):
        return ["PNG is not plain 8-bit RGB"]
    width, height = struct.unpack(">II", header[:8])
    if not (width and height):
        return ["damaged PNG"]
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        return ["PNG has more pixels than a released image can have"]
    return _after_header(file, _Pixels(width, height))


def _after_header(file: BinaryIO, pixels: _Pixels) -> list[str]:
    more, kind = False, b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", file.read(8))
        more |= kind not in (b"IDAT", b"IEND") or (kind == b"IEND" and length > 0)
        _body(file, kind, length, pixels if kind == b"IDAT" else None)
    problems = ["bytes after the end of the PNG"] if file.read(1) else []
    if more:
        problems.append("PNG carries more than pixels (chunks other than IHDR, IDAT, IEND)")
    if not pixels.complete:
        problems.append("the PNG's pixel stream does not have the size that its header announces")
    return problems


def _body(file: BinaryIO, kind: bytes, length: int, pixels: _Pixels | None = None) -> bytes:
    """Read a chunk's content and CRC in pieces, and return the first piece; compressed pixels are counted."""
    crc, first, left = zlib.crc32(kind), b"", length
    while left:
        piece = file.read(min(left, _PIECE))
        if not piece:
            raise struct.error
        crc, left, first = zlib.crc32(piece, crc), left - len(piece), first or piece
        if pixels is not None:
            pixels.add(piece)
    if struct.unpack(">I", file.read(4))[0] != crc:
        raise struct.error
    return first


class _Pixels:
    """Counts the bytes of a pixel stream and looks at the filter of each row."""

    def __init__(self, width: int, height: int):
        self._row = 1 + 3 * width
        self._expected = height * self._row
        self._stream = zlib.decompressobj()
        self._n = 0
        self._whole = True

    def add(self, piece: bytes) -> None:
        """Take the next compressed bytes."""
        if self._stream.eof:
            self._whole = False  # bytes after the stream
        while self._whole and not self._stream.eof:
            raw = self._stream.decompress(piece, 1 << 20)
            piece = self._stream.unconsumed_tail
            if not raw and not piece:
                break
            filters = raw[-self._n % self._row :: self._row]
            self._n += len(raw)
            self._whole = max(filters, default=0) <= 4 and self._n <= self._expected
        self._whole &= not self._stream.unused_data

    @property
    def complete(self) -> bool:
        """Whether the stream ended where it should, with nothing after it."""
        return self._whole and self._stream.eof and self._n == self._expected
