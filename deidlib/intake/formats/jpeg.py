"""JPEG: Huffman-coded pictures of 8 bits a sample, whole to the last bit.

Pillow ignores libjpeg's warnings and fills lost parts with grey. So a file's scans are decoded again by libjpeg-turbo
through simplejpeg, which raises the warnings. They are decoded once more without their last byte, which must raise a
warning: otherwise the picture ends before its data do. Previews, profiles and comments are left out of this test, since
an unusual comment is no damage.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import simplejpeg
from PIL import Image

from deidlib.intake import colour
from deidlib.intake.formats.opened import LOST_BLOCK, Limits, Opened, Undecodable, zero_run

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_DQT, _DHT, _DRI, _APP2 = 0xDB, 0xC4, 0xDD, 0xE2
_RESTARTS = range(0xD0, 0xD8)
#: Every kind of frame (T.81, table B.1; JPEG-LS), and those that are accepted: baseline, extended, progressive.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {_DHT, 0xC8, 0xCC}
_ACCEPTED, _PROGRESSIVE = {0xC0, 0xC1, 0xC2}, 0xC2
_ICC = b"ICC_PROFILE\0"
_COUNTS = 17  # bytes before a Huffman table's symbols: class, and the number of codes of each length
_MOST_PADDING = 8  # zero bytes after the last scan, which some cameras write


@dataclass
class _Segment:
    """A marker and its payload; ``coded`` are the data of a scan."""

    marker: int
    payload: bytes
    coded: bytes = b""


def opened(data: bytes, limits: Limits) -> Opened:
    """Decode a JPEG file. What follows its end (previews, gain maps) is dropped."""
    segments = _segments(data)
    _frame(segments)
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    limits.check(*image.size)
    _check_scans(segments)
    icc = _profile(segments)
    image.load()
    exif = image.getexif()
    return Opened(image, profile=colour.profile_of(icc, exif), orientation=exif.get(colour.ORIENTATION, 1))


def check_whole(data: bytes) -> None:
    """Raise Undecodable where a JPEG stream is of a kind that is not accepted, or not whole."""
    _check_scans(_segments(data))


def _segments(data: bytes) -> list[_Segment]:
    """Everything between SOI and EOI."""
    found, at = [], 2
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 2 > len(data) or data[at] != 0xFF:
            raise Undecodable("image_damaged")
        marker = data[at + 1]
        if marker == _EOI:
            return found
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0x00, 0x01, _SOI, *_RESTARTS) or size < 2 or at + 2 + size > len(data):
            raise Undecodable("image_damaged")
        segment = _Segment(marker, data[at + 4 : at + 2 + size])
        found.append(segment)
        at += 2 + size
        if marker == _SOS:
            end = _end_of_scan(data, at)
            segment.coded = data[at:end]
            at = end


def _end_of_scan(data: bytes, at: int) -> int:
    """Position of the next marker that is not a restart; restarts are numbered cyclically."""
    restarts = 0
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        if marker in _RESTARTS:
            if marker != _RESTARTS[restarts % len(_RESTARTS)]:
                raise Undecodable("image_damaged")
            restarts += 1
        elif marker not in (0x00, 0xFF):
            return at
        at += 1 if marker == 0xFF else 2
    raise Undecodable("image_damaged")


def _frame(segments: list[_Segment]) -> _Segment:
    """The header of the one frame."""
    frames = [segment for segment in segments if segment.marker in _FRAMES]
    if any(frame.marker not in _ACCEPTED or frame.payload[:1] != b"\x08" for frame in frames) or len(frames) > 1:
        raise Undecodable("format_unsupported")
    if not frames or not any(segment.coded for segment in segments):
        raise Undecodable("image_damaged")
    return frames[0]


def _check_scans(segments: list[_Segment]) -> None:
    frame = _frame(segments)
    space = "CMYK" if frame.payload[5:6] == b"\x04" else "GRAY"
    whole = _bare(segments, frame)
    unpadded = whole.rstrip(b"\0")
    unpadded = unpadded if len(whole) - len(unpadded) <= _MOST_PADDING else whole
    # FF 00 is one data byte: the 00 belongs to the FF.
    shortened = unpadded.removesuffix(b"\xff")[:-1].removesuffix(b"\xff")
    if frame.marker != _PROGRESSIVE and zero_run(whole, LOST_BLOCK) and not _writes_zeros(segments):
        raise Undecodable("image_damaged")
    complete = _decodes(whole, space) or (unpadded != whole and _decodes(unpadded, space))
    if not complete or _decodes(shortened, space):
        raise Undecodable("image_damaged")


def _writes_zeros(segments: list[_Segment]) -> bool:
    """Whether every table codes the end of a block as zeros, so that the data of a flat background can be all zeros.

    Codes are assigned in the order of the table (T.81, annex C), and the first code is all zeros.
    """
    for segment in segments:
        left = segment.payload if segment.marker == _DHT else b""
        while len(left) > _COUNTS:
            if left[0] >> 4 == 1 and left[_COUNTS] != 0:  # a table of AC coefficients
                return False
            left = left[_COUNTS + sum(left[1:_COUNTS]) :]
    return True


def _bare(segments: list[_Segment], frame: _Segment) -> bytes:
    """The stream up to the last coded byte, with tables and scans alone."""
    parts = [b"\xff\xd8"]
    for segment in segments:
        if segment.marker in (_DQT, _DHT, _DRI, _SOS, frame.marker):
            payload = segment.payload
            if segment.marker == _SOS and frame.marker != _PROGRESSIVE:
                payload = (
                    payload[:-3] + b"\x00\x3f\x00"
                )  # these bytes have no meaning here, and some cameras write zeros
            parts += [b"\xff", bytes([segment.marker]), struct.pack(">H", len(payload) + 2), payload, segment.coded]
    return b"".join(parts).rstrip(b"\xff")


def _decodes(stream: bytes, space: str) -> bool:
    """Whether libjpeg decodes a stream without end marker without raising a warning."""
    try:
        simplejpeg.decode_jpeg(stream + b"\xff\xd9", space, fastdct=True, fastupsample=True)
    except ValueError:
        return False
    return True


def _profile(segments: list[_Segment]) -> bytes | None:
    """The ICC profile, joined from its numbered parts: each part once, before the first scan (ICC.1, annex B.4)."""
    first_scan = next(i for i, segment in enumerate(segments) if segment.marker == _SOS)
    parts, counts = {}, set()
    for i, segment in enumerate(segments):
        if segment.marker != _APP2 or not segment.payload.startswith(_ICC):
            continue
        number, count = segment.payload[len(_ICC) : len(_ICC) + 2]
        if number in parts or i > first_scan:
            raise Undecodable("image_damaged")
        parts[number] = segment.payload[len(_ICC) + 2 :]
        counts.add(count)
    if parts and (counts != {len(parts)} or set(parts) != set(range(1, len(parts) + 1))):
        raise Undecodable("image_damaged")
    return b"".join(parts[number] for number in sorted(parts)) or None
