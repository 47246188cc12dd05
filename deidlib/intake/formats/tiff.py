"""TIFF: one picture of unsigned integers with intact strips; raw camera files and previews are refused."""

from __future__ import annotations

import io
import zlib

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from deidlib.intake import colour
from deidlib.intake.formats import jpeg
from deidlib.intake.formats.opened import LOST_BLOCK, OF_DAMAGE, Limits, Opened, Undecodable, zero_run

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SUBFILES, _SAMPLE_FORMAT = 254, 258, 259, 262, 330, 339
_JPEG_TABLES, _DNG_VERSION = 347, 50706
_STRIPS, _TILES = (273, 279), (324, 325)  # offsets and byte counts
_REDUCED = 1  # bit of _SUBFILE: a preview
_RAW_COLOURS = {32803, 34892}  # colour filter array and linear raw
_NONE, _FAX, _LZW, _JPEG, _DEFLATE, _PACKBITS = 1, {2, 3, 4}, 5, 7, {8, 32946}, 32773
_ACCEPTED = {_NONE, _LZW, _JPEG, _PACKBITS, *_FAX, *_DEFLATE}
_CANON_RAW = b"CR"
_WORK = 1 << 20


def opened(data: bytes, limits: Limits) -> Opened:
    """Decode a TIFF file of one page."""
    if data[8:10] == _CANON_RAW:
        raise Undecodable("format_unsupported")
    try:
        image = Image.open(io.BytesIO(data), formats=["TIFF"])
    except UnidentifiedImageError:
        raise Undecodable("format_unsupported" if _has_layout(data) else "image_damaged") from None
    limits.check(*image.size)
    tags = image.tag_v2
    if getattr(image, "n_frames", 1) > 1 or _is_raw(data, tags) or tags.get(_COMPRESSION, _NONE) not in _ACCEPTED:
        raise Undecodable("format_unsupported")
    if set(tags.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise Undecodable("format_unsupported")
    _check_strips(data, tags)
    bits = max(tags.get(_BITS, (1,)))
    inverted = image.mode == "I;16" and tags.get(_PHOTOMETRIC) == 0
    unpacked = tags.get(_COMPRESSION, _NONE) == _NONE
    image.load()
    exif = image.getexif()
    return Opened(
        image,
        bits=bits,
        inverted=inverted,
        profile=colour.profile_of(image.info.get("icc_profile"), exif),
        orientation=exif.get(colour.ORIENTATION, 1),  # 1 after Pillow has turned a TIFF itself
        plain=unpacked,
    )


def _has_layout(data: bytes) -> bool:
    """Whether a TIFF that Pillow cannot read is intact, so that it counts as unsupported and not as damaged."""
    file = io.BytesIO(data)
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        return _BITS in directory and _PHOTOMETRIC in directory
    except OF_DAMAGE:
        return False


def _is_raw(data: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Whether the first picture of the file is only a preview, or raw sensor values."""
    if _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _RAW_COLOURS:
        return True
    if tags.get(_SUBFILE, 0) & _REDUCED:
        return True
    below = tags.get(_SUBFILES, ())
    for offset in below if isinstance(below, tuple) else (below,):
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(offset)
        directory.load(file)
        if not directory.get(_SUBFILE, 0) & _REDUCED:
            return True
    return False


def _check_strips(data: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """Check that every strip or tile lies in the file and, where its compression reveals damage, has none."""
    compression = tags.get(_COMPRESSION, _NONE)
    offsets, counts = (tags.get(tag, ()) for tag in (_TILES if _TILES[0] in tags else _STRIPS))
    if not offsets or (len(counts) != len(offsets)):
        if compression == _NONE and offsets:
            return  # an uncompressed file may lack byte counts; Pillow reports missing data
        raise Undecodable("image_damaged")
    tables = tags.get(_JPEG_TABLES, b"")
    for offset, count in zip(offsets, counts, strict=True):
        strip = data[offset : offset + count]
        if len(strip) < count or not count:
            raise Undecodable("image_damaged")
        if compression == _JPEG:
            jpeg.check_whole(tables[:-2] + strip[2:] if tables else strip)
        elif compression in _DEFLATE:
            _check_deflated(strip)
        elif compression in (_LZW, _PACKBITS) and zero_run(strip, LOST_BLOCK):
            raise Undecodable("image_damaged")


def _check_deflated(strip: bytes) -> None:
    """Decompress a zlib stream to check the checksum at its end; the result is not kept."""
    stream, left = zlib.decompressobj(), strip
    while left and not stream.eof:
        stream.decompress(left, _WORK)
        left = stream.unconsumed_tail
    if not stream.eof:
        raise Undecodable("image_damaged")
