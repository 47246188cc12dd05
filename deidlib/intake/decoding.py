"""Decodes an image file to pixels: upright, sRGB, 8 bit, without transparency and without metadata.

A file that cannot be decoded with certainty raises :class:`Undecodable` with a reason code of reasons.REASONS. Of a
decoder's own exceptions only MemoryError gets out, since it is no fault of the file. The choices:

- JPEG, PNG, TIFF, WebP, HEIC, AVIF and DICOM photographs are accepted. The content decides the format, not the name
  (:mod:`deidlib.intake.formats`). A file of several pictures (TIFF pages, animations, DICOM frames) is
  ``format_unsupported``, since it is unclear which one is meant. Previews and gain maps after a JPEG are dropped.
- A decoder's warning counts as damage. So does a picture with a missing part (:mod:`deidlib.intake.missing`).
- An embedded ICC profile is converted to sRGB (relative colorimetric, black point compensation). One that
  cannot be read, or belongs to another kind of image, is ``image_damaged``. A profile that equals sRGB to
  within one level changes nothing. Without a profile, the file's codes for a colour space apply
  (:mod:`deidlib.intake.colour`). Without these, RGB is taken to be sRGB, and CMYK is converted by its definition.
- 16 bit becomes 8 bit by round(x / 257). Floating-point, signed and 32-bit pixels and CIELAB are
  ``format_unsupported``.
- Transparency is laid on white.
"""

from __future__ import annotations

import warnings

import cv2
import numpy as np
from PIL import Image, ImageFile

from deidlib.intake.colour import to_srgb
from deidlib.intake.formats import dicom, heif, jpeg, png, tiff, webp
from deidlib.intake.formats.opened import OF_DAMAGE, Limits, Opened, Undecodable, rounding
from deidlib.intake.missing import is_missing_a_part

__all__ = ["Undecodable", "decode_mask", "decode_photo", "is_grey"]

#: Offset and bytes that identify a format, and the function that opens it.
_SIGNATURES = (
    (128, b"DICM", dicom.opened),  # first, because its preamble may look like a TIFF
    (0, b"\xff\xd8\xff", jpeg.opened),
    (0, png.SIGNATURE, png.opened),
    (0, b"II*\0", tiff.opened),
    (0, b"MM\0*", tiff.opened),
    (0, b"II+\0", tiff.opened),
    (0, b"MM\0+", tiff.opened),
    (8, b"WEBP", webp.opened),
    (4, b"ftyp", heif.opened),
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = 255
_GREY_LEVELS, _GREY_SHARE = 8, 0.99


def decode_photo(data: bytes, max_pixels: int, min_side: int = 1) -> np.ndarray:
    """Pixels of a photograph.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels, min_side : int
        Limits on width × height and on the shorter side in pixels. The header is checked before anything is
        decoded.

    Returns
    -------
    np.ndarray
        RGB uint8 (H, W, 3), upright, sRGB: the native frame.

    Raises
    ------
    Undecodable
        With the reason code.
    MemoryError
        The machine has too little memory for a photograph within the limits.
    """
    return _guarded(lambda: _photo(data, Limits(max_pixels, min_side)))


def decode_mask(data: bytes, max_pixels: int) -> np.ndarray:
    """Mask uint8 (H, W), upright: 255 where the image is brighter than 127 (transparent is outside), else 0.

    Raises
    ------
    Undecodable
        With the reason code.
    MemoryError
        The machine has too little memory for a mask within the limit.
    """
    colours, alpha = _guarded(lambda: _colours(_opened(data, Limits(max_pixels, 1)), data, managed=False))
    inside = np.asarray(colours.convert("L")) > 127
    if alpha is not None:
        inside &= np.asarray(alpha) > 127
    return inside.astype(np.uint8) * 255


def is_grey(rgb: np.ndarray) -> bool:
    """Whether an RGB image (H, W, 3) has no colour.

    At least 99 % of its pixels have max(R, G, B) − min(R, G, B) ≤ 8: the noise that JPEG's colour planes
    leave on a black-and-white photograph stays below, skin (20 and more) above. A sepia print counts as
    coloured.
    """
    red, green, blue = cv2.split(rgb)
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    return bool(np.count_nonzero(spread <= _GREY_LEVELS) >= _GREY_SHARE * spread.size)


def _guarded(decode):
    # This switch is global: a library that accepts truncated files (the PDF renderer) turns it on for everybody.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return decode()
    except Undecodable:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit on pixels, checked by the header
        raise Undecodable("image_too_large") from None
    except OF_DAMAGE as error:
        if isinstance(error, cv2.error) and getattr(error, "code", None) == cv2.Error.STS_NO_MEM:
            raise MemoryError from None
        raise Undecodable("image_damaged") from None


def _opened(data: bytes, limits: Limits) -> Opened:
    for at, signature, opened in _SIGNATURES:
        if data[at : at + len(signature)] == signature:
            return opened(data, limits)
    raise Undecodable("format_unsupported")


def _photo(data: bytes, limits: Limits) -> np.ndarray:
    stored = _opened(data, limits)
    if stored.image.mode != "P" and is_missing_a_part(np.asarray(stored.image), stored.plain):
        raise Undecodable("image_damaged")
    return _on_white(*_colours(stored, data, managed=True))


def _colours(stored: Opened, data: bytes, managed: bool) -> tuple[Image.Image, Image.Image | None]:
    """Upright RGB image and its alpha channel (or None)."""
    colours, alpha = _split(_in_8_bit(stored.image, stored.bits, stored.inverted, data))
    colours = to_srgb(colours, stored.profile) if stored.profile and managed else colours.convert("RGB")
    turn = _UPRIGHT.get(stored.orientation)
    if turn is not None:
        colours = colours.transpose(turn)
        alpha = alpha.transpose(turn) if alpha is not None else None
    return colours, alpha


def _in_8_bit(image: Image.Image, bits: int, inverted: bool, data: bytes) -> Image.Image:
    if image.mode in ("1", "L", "I;16", "I;16B", "I;16L") and "transparency" in image.info:
        raise Undecodable("format_unsupported")  # a transparent grey level: its scale in Pillow is uncertain
    if image.mode.startswith("I;16"):
        values = rounding(2**bits - 1)[np.asarray(image)]
        return Image.fromarray(255 - values if inverted else values)
    if bits <= 8:
        return image
    if "transparency" in image.info:
        raise Undecodable("format_unsupported")
    return _reduced_colour(image, data)


def _reduced_colour(image: Image.Image, data: bytes) -> Image.Image:
    """Reduce 16-bit colour read by OpenCV to 8 bit. Pillow keeps the upper byte only; the two must agree on it."""
    wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    has_alpha = image.mode in ("RGBA", "LA")
    cut = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    if wide is None or wide.dtype != np.uint16 or wide.ndim != 3 or wide.shape[2] < cut.shape[2]:
        raise Undecodable("format_unsupported")
    wide = wide[:, :, [2, 1, 0, 3] if has_alpha else [2, 1, 0]]
    if wide.shape != cut.shape or not np.array_equal((wide >> 8).astype(np.uint8), cut):
        raise Undecodable("format_unsupported")
    return Image.fromarray(rounding(65535)[wide])


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Grey, RGB or CMYK image and its alpha channel (or None)."""
    if image.mode == "P":
        clear = "transparency" in image.info or image.palette.mode == "RGBA"
        image = image.convert("RGBA" if clear else "RGB")
    elif (image.mode == "RGB" and "transparency" in image.info) or image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode in ("RGBX", "YCbCr"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode == "RGBA":
        return image.convert("RGB"), image.getchannel("A")
    if image.mode == "LA":
        return image.convert("L"), image.getchannel("A")
    if image.mode not in ("L", "RGB", "CMYK"):
        raise Undecodable("format_unsupported")
    return image, None


def _on_white(colours: Image.Image, alpha: Image.Image | None) -> np.ndarray:
    rgb = np.array(colours)
    if alpha is None:
        return rgb
    cover = np.asarray(alpha)[:, :, None].astype(np.uint16)
    return ((rgb * cover + _WHITE * (255 - cover) + 127) // 255).astype(np.uint8)
