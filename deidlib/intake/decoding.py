"""An image file's bytes become pixels: upright, sRGB, 8 bit, without transparency and without metadata.

What cannot be decoded with certainty raises :class:`Undecodable` with a reason code of tables.REASONS; no
exception of a decoder gets out, but for want of memory, which is no fault of the file. The choices:

- JPEG, PNG, TIFF and WebP, told by content. A file of several pictures (TIFF pages, animations) is
  ``format_unsupported``, since nobody can know which is meant; previews and gain maps behind a JPEG are
  dropped.
- An embedded ICC profile is converted to sRGB (relative colorimetric, black point compensation). One that
  cannot be read, or belongs to another kind of image, is ``image_damaged``. A profile that equals sRGB to
  within one level changes nothing. Without a profile, RGB is taken to be sRGB, and CMYK is converted by its
  definition.
- 16 bit becomes 8 bit by round(x / 257). Floating-point, signed and 32-bit pixels and CIELAB are
  ``format_unsupported``.
- Transparency is laid on white.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin, UnidentifiedImageError

from deidlib.errors import InputError

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_WHITE = 255
_GREY_LEVELS, _GREY_SHARE = 8, 0.99
#: What Pillow, OpenCV and LittleCMS raise over damaged bytes. The file is in memory, so that an OSError (Pillow's
#: commonest) tells of the bytes and not of a disk; "decoder error -9", memory by its name, is what a TIFF with absurd
#: strips gets. Not among them: MemoryError, and ImportError and NameError, which tell of the installation.
_OF_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImageCms.PyCMSError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    cv2.error,
    struct.error,
    zlib.error,
)


class Undecodable(InputError):
    """The file gives no pixels that can be vouched for.

    Attributes
    ----------
    reason : str
        Reason code of tables.REASONS.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def decode_photo(data: bytes, max_pixels: int, min_side: int = 1) -> np.ndarray:
    """Pixels of a photograph.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels, min_side : int
        Limits on width × height and on the shorter side in pixels, judged by the header before anything is
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
    return _guarded(lambda: _on_white(*_colours(*_opened(data, max_pixels, min_side), data, managed=True)))


def decode_mask(data: bytes, max_pixels: int) -> np.ndarray:
    """Mask uint8 (H, W), upright: 255 where the image is brighter than 127 (transparent is outside), else 0.

    Raises
    ------
    Undecodable
        With the reason code.
    MemoryError
        The machine has too little memory for a mask within the limit.
    """
    colours, alpha = _guarded(lambda: _colours(*_opened(data, max_pixels, 1), data, managed=False))
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
    # A switch of the whole process: a library that wants truncated files (the PDF's renderer) turns it on for all.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return decode()
    except Undecodable:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit of pixels, by the header
        raise Undecodable("image_too_large") from None
    except _OF_DAMAGE as error:
        if isinstance(error, cv2.error) and getattr(error, "code", None) == cv2.Error.STS_NO_MEM:
            raise MemoryError from None
        raise Undecodable("image_damaged") from None


def _format(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    raise Undecodable("format_unsupported")


def _opened(data: bytes, max_pixels: int, min_side: int) -> tuple[Image.Image, int, bool]:
    """Decode with Pillow: the image, its bits a channel, and whether its 16-bit grey has 0 for white."""
    kind = _format(data)
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
    except UnidentifiedImageError:
        readable = kind == "TIFF" and _has_tiff_layout(data)
        raise Undecodable("format_unsupported" if readable else "image_damaged") from None
    if image.width * image.height > max_pixels:
        raise Undecodable("image_too_large")
    if min(image.size) < min_side:
        raise Undecodable("image_too_small")
    if kind != "JPEG" and getattr(image, "n_frames", 1) > 1:
        raise Undecodable("format_unsupported")
    bits = data[24] if kind == "PNG" else 8
    inverted = False
    if kind == "TIFF":
        bits = max(image.tag_v2.get(_TIFF_BITS, (1,)))
        if set(image.tag_v2.get(_TIFF_SAMPLE_FORMAT, (1,))) != {1}:
            raise Undecodable("format_unsupported")
        inverted = image.mode == "I;16" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
    image.load()
    return image, bits, inverted


def _has_tiff_layout(data: bytes) -> bool:
    """Whether a TIFF that Pillow does not know is sound enough to be unsupported instead of damaged."""
    file = io.BytesIO(data)
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        return _TIFF_BITS in directory and _TIFF_PHOTOMETRIC in directory
    except _OF_DAMAGE:
        return False


def _colours(
    image: Image.Image, bits: int, inverted: bool, data: bytes, managed: bool
) -> tuple[Image.Image, Image.Image | None]:
    """Upright RGB image and its alpha channel (or None)."""
    orientation = image.getexif().get(_ORIENTATION, 1)  # 1 after Pillow has turned a TIFF itself
    profile = image.info.get("icc_profile") if managed else None
    colours, alpha = _split(_in_8_bit(image, bits, inverted, data))
    colours = _to_srgb(colours, profile) if profile else colours.convert("RGB")
    turn = _UPRIGHT.get(orientation)
    if turn is not None:
        colours = colours.transpose(turn)
        alpha = alpha.transpose(turn) if alpha is not None else None
    return colours, alpha


def _in_8_bit(image: Image.Image, bits: int, inverted: bool, data: bytes) -> Image.Image:
    if image.mode in ("1", "L", "I;16", "I;16B", "I;16L") and "transparency" in image.info:
        raise Undecodable("format_unsupported")  # a transparent grey level: Pillow gives it at an uncertain scale
    if image.mode.startswith("I;16"):
        values = _rounding(2**bits - 1)[np.asarray(image)]
        return Image.fromarray(255 - values if inverted else values)
    if bits <= 8:
        return image
    if "transparency" in image.info:
        raise Undecodable("format_unsupported")
    return _reduced_colour(image, data)


def _reduced_colour(image: Image.Image, data: bytes) -> Image.Image:
    """Reduce 16-bit colour read by OpenCV; Pillow keeps but the upper byte, and the two must agree on it."""
    wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    has_alpha = image.mode in ("RGBA", "LA")
    cut = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    if wide is None or wide.dtype != np.uint16 or wide.ndim != 3 or wide.shape[2] < cut.shape[2]:
        raise Undecodable("format_unsupported")
    wide = wide[:, :, [2, 1, 0, 3] if has_alpha else [2, 1, 0]]
    if wide.shape != cut.shape or not np.array_equal((wide >> 8).astype(np.uint8), cut):
        raise Undecodable("format_unsupported")
    return Image.fromarray(_rounding(65535)[wide])


@functools.cache
def _rounding(white: int) -> np.ndarray:
    """Table from values 0 … white to 0 … 255, rounded; what lies above white becomes white."""
    values = np.minimum(np.arange(65536, dtype=np.int64), white)
    return ((values * 255 + white // 2) // white).astype(np.uint8)


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


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    if space == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}.get(space) != image.mode:
        raise Undecodable("image_damaged")
    transform = ImageCms.buildTransform(
        profile,
        _srgb(),
        image.mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if image.mode == "RGB" and _changes_nothing(transform):
        return image
    return ImageCms.applyTransform(image, transform)


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(17, -1, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform))
    return int(np.abs(moved.astype(int) - grid).max()) <= 1


def _on_white(colours: Image.Image, alpha: Image.Image | None) -> np.ndarray:
    rgb = np.array(colours)
    if alpha is None:
        return rgb
    cover = np.asarray(alpha)[:, :, None].astype(np.uint16)
    return ((rgb * cover + _WHITE * (255 - cover) + 127) // 255).astype(np.uint8)
