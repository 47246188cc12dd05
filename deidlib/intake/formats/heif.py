"""HEIC and AVIF: one still picture, with the orientation and colour that its container states.

The container (ISO/IEC 14496-12 and 23008-12) holds a picture's orientation (irot, imir), its profile (colr: ICC, or
numbers of H.273) and the places of its data. Decoders apply the container's orientation. Exif's orientation repeats it
and is ignored. HEIC is decoded by libheif (pi-heif), AVIF by libavif (Pillow).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pi_heif
from PIL import Image

from deidlib.intake import colour
from deidlib.intake.formats.opened import LOST_BLOCK, Limits, Opened, Undecodable, rounding, zero_run

_HEIC, _AVIF = {b"heic", b"heix"}, {b"avif"}
_STILL = {b"mif1"}  # a still picture in any coding
_CODED = {b"hvc1", b"av01"}


@dataclass
class _Layout:
    """Facts from the container: brands, the primary picture's colour, and the places of the coded data."""

    brands: list[bytes] = field(default_factory=list)
    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    associated: dict[int, list[int]] = field(default_factory=dict)
    embedded: tuple[int, int] = (0, 0)

    def colours(self) -> list[bytes]:
        """The primary picture's colr boxes."""
        mine = [self.properties[number - 1] for number in self.associated.get(self.primary, []) if number]
        return [content for kind, content in mine if kind == b"colr"]


def opened(data: bytes, limits: Limits) -> Opened:
    """Decode a HEIC or AVIF file of one picture."""
    layout = _layout(data)
    major, brands = layout.brands[0], set(layout.brands)
    if major not in _HEIC | _AVIF | _STILL:
        raise Undecodable("format_unsupported")
    profile = _profile(layout)
    _check_extents(data, layout)
    if major in _AVIF or (major in _STILL and brands & _AVIF):
        image = _of_libavif(data, limits)
    elif brands & _HEIC:
        image = _of_libheif(data, limits)
    else:
        raise Undecodable("format_unsupported")
    turned = image.getexif().get(colour.ORIENTATION, 1) if image.format == "AVIF" else 1
    return Opened(image, profile=profile, orientation=turned)


def _of_libavif(data: bytes, limits: Limits) -> Image.Image:
    """Decode with libavif. Pillow gives the container's orientation in the place of Exif's, not yet applied."""
    image = Image.open(io.BytesIO(data), formats=["AVIF"])
    limits.check(*image.size)
    if image.n_frames > 1:
        raise Undecodable("format_unsupported")
    image.load()
    return image


def _of_libheif(data: bytes, limits: Limits) -> Image.Image:
    """Decode with libheif. The picture is already upright; more than 8 bits are rounded."""
    file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    if len(file) != 1:
        raise Undecodable("format_unsupported")
    picture = file[0]
    limits.check(*picture.size)
    mode, bits = picture.mode.split(";")[0], picture.info["bit_depth"]
    values = np.asarray(picture)[:, : picture.size[0]]
    if values.dtype != np.uint8:
        values = rounding(2**bits - 1)[values]
    return Image.frombytes(mode, picture.size, np.ascontiguousarray(values).tobytes())


def _profile(layout: _Layout) -> bytes | None:
    """The ICC profile, else the colour given by numbers. HDR is refused even with a profile."""
    icc = coded = None
    for content in layout.colours():
        if content[:4] in (b"prof", b"rICC"):
            icc = content[4:]
        elif content[:4] == b"nclx":
            numbers = int.from_bytes(content[4:6], "big"), int.from_bytes(content[6:8], "big")
            if icc is None or numbers[1] in colour.HDR:
                coded = colour.coded_profile(*numbers)
    return icc or coded


def _check_extents(data: bytes, layout: _Layout) -> None:
    if not layout.extents or layout.primary not in layout.kinds:
        raise Undecodable("image_damaged")
    for item, pieces in layout.extents.items():
        coded = b"".join(data[start:end] for start, end in pieces)
        if any(end > len(data) for _, end in pieces):
            raise Undecodable("image_damaged")
        if layout.kinds.get(item) in _CODED and zero_run(coded, LOST_BLOCK):
            raise Undecodable("image_damaged")


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of every box; the boxes must fill the range without gaps."""
    while at < end:
        size, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        size = end - at if size == 0 else size
        if size < start - at or at + size > end:
            raise Undecodable("image_damaged")
        yield kind, start, at + size
        at += size


def _layout(data: bytes) -> _Layout:
    layout = _Layout()
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"ftyp":
            layout.brands = [data[start : start + 4], *(data[i : i + 4] for i in range(start + 8, end, 4))]
        elif kind == b"meta":
            _read_meta(data, start + 4, end, layout)
    if not layout.brands:
        raise Undecodable("image_damaged")
    return layout


def _read_meta(data: bytes, start: int, end: int, layout: _Layout) -> None:
    parts = {kind: (at, stop) for kind, at, stop in _boxes(data, start, end)}
    layout.embedded = parts.get(b"idat", (0, 0))
    for kind, (at, stop) in parts.items():
        reader = _Reader(data, at, stop)
        if kind == b"pitm":
            layout.primary = reader.number(4 if reader.full_box()[0] else 2)
        elif kind == b"iinf":
            version, _ = reader.full_box()
            reader.number(4 if version else 2)
            for _, inner, close in _boxes(data, reader.at, stop):
                entry = _Reader(data, inner, close)
                item = entry.number(4 if entry.full_box()[0] >= 3 else 2)
                entry.number(2)
                layout.kinds[item] = data[entry.at : entry.at + 4]
        elif kind == b"iloc":
            _read_places(reader, layout)
        elif kind == b"iprp":
            for inner_kind, inner, close in _boxes(data, at, stop):
                if inner_kind == b"ipco":
                    layout.properties = [(name, data[a:b]) for name, a, b in _boxes(data, inner, close)]
                elif inner_kind == b"ipma":
                    _read_associations(_Reader(data, inner, close), layout)


def _read_places(reader: _Reader, layout: _Layout) -> None:
    version, _ = reader.full_box()
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(reader.number(4 if version == 2 else 2)):
        item = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base = reader.number(base_size) + (layout.embedded[0] if method == 1 else 0)
        pieces = []
        for _ in range(reader.number(2)):
            reader.number(index_size if version else 0)
            start, length = base + reader.number(offset_size), reader.number(length_size)
            pieces.append((start, start + length))
        if method in (0, 1):
            layout.extents[item] = pieces


def _read_associations(reader: _Reader, layout: _Layout) -> None:
    version, flags = reader.full_box()
    for _ in range(reader.number(4)):
        item = reader.number(4 if version else 2)
        width = 2 if flags & 1 else 1
        layout.associated[item] = [
            reader.number(width) & (0x7FFF if width == 2 else 0x7F) for _ in range(reader.number(1))
        ]


class _Reader:
    """Reads a box's big-endian numbers, one after the other; reading past its end is damage."""

    def __init__(self, data: bytes, at: int, end: int):
        self.data, self.at, self.end = data, at, end

    def number(self, size: int) -> int:
        if self.at + size > self.end:
            raise Undecodable("image_damaged")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")

    def full_box(self) -> tuple[int, int]:
        """Version and flags."""
        return self.number(1), self.number(3)
