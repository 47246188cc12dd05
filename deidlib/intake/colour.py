"""Colour: which profile a file's colours follow, and the conversion to sRGB.

A profile is ICC bytes, or is made here where a file names its colour space by a code: Exif's Adobe RGB, or the
primaries and transfer of PNG, HEIC and AVIF (ITU-T H.273). Colours without a defined conversion to sRGB, above all HDR,
are refused.
"""

from __future__ import annotations

import functools
import io
import struct

import numpy as np
from PIL import Image, ImageCms

from deidlib.intake.formats.opened import Undecodable

ORIENTATION = 0x0112
_EXIF_IFD, _INTEROP_IFD = 0x8769, 0xA005
_COLOUR_SPACE, _INTEROP_INDEX = 0xA001, 0x0001
_EXIF_ADOBE_RGB, _EXIF_UNCALIBRATED = 2, 0xFFFF

_D65, _D50 = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)  # chromaticity; XYZ of ICC's connection space
#: Chromaticities (x, y) of red, green and blue by H.273's number of the primaries; 2 means "not stated".
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709 and sRGB
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),  # BT.601, 625 lines
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # BT.601, 525 lines
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # SMPTE 240M
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_ADOBE_PRIMARIES, _ADOBE_GAMMA = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)), 563 / 256
#: H.273's transfers with a defined conversion to sRGB: a gamma, or None for sRGB's own curve. A still picture with the
#: transfer of BT.709, BT.601 or BT.2020 is meant for the same screens as sRGB and is treated as sRGB.
_TRANSFERS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
_UNSPECIFIED, _BT709 = 2, 1
#: Transfers of HDR: PQ and HLG.
HDR = {16, 18}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_PNG_SRGB_GAMMA, _GAMMA_TOLERANCE, _CHROMATICITY_TOLERANCE = 0.45455, 0.03, 0.01


def profile_of(icc: bytes | None, exif: Image.Exif) -> bytes | None:
    """Profile of a file with an ICC profile or Exif.

    Parameters
    ----------
    icc : bytes or None
        The embedded profile; it takes precedence over Exif.
    exif : PIL.Image.Exif
        Its ``InteroperabilityIndex`` R03 or ``ColorSpace`` 2 says Adobe RGB (DCF 2.0).

    Raises
    ------
    Undecodable
        ``colour_unsupported``: Exif says that the colours are not sRGB, and the colour space is not stated.
    """
    if icc:
        return icc
    camera = exif.get_ifd(_EXIF_IFD)
    index = exif.get_ifd(_INTEROP_IFD).get(_INTEROP_INDEX, "")
    index = index.decode("latin-1") if isinstance(index, bytes) else str(index)
    space = camera.get(_COLOUR_SPACE)
    if index.startswith("R03") or space == _EXIF_ADOBE_RGB:
        return matrix_profile(_ADOBE_PRIMARIES, _ADOBE_GAMMA)
    if space == _EXIF_UNCALIBRATED:
        raise Undecodable("colour_unsupported")
    return None


def srgb_profile() -> bytes:
    """Profile of sRGB itself, always the same bytes, for files that must contain a profile."""
    return matrix_profile(_PRIMARIES[_BT709], None)


def named_profile(name: str) -> bytes | None:
    """Profile by DICOM's Color Space (0028,2002): SRGB, ADOBERGB or DISPLAYP3.

    Raises
    ------
    Undecodable
        ``colour_unsupported``: any other name.
    """
    if name == "SRGB":
        return None
    if name == "ADOBERGB":
        return matrix_profile(_ADOBE_PRIMARIES, _ADOBE_GAMMA)
    if name == "DISPLAYP3":
        return coded_profile(12, 13)
    raise Undecodable("colour_unsupported")


def coded_profile(primaries: int, transfer: int) -> bytes | None:
    """Profile of colours coded by H.273's numbers; None: sRGB.

    Raises
    ------
    Undecodable
        ``colour_unsupported``: HDR (transfer 16, PQ, and 18, HLG), and colours that no screen shows.
    """
    primaries = _BT709 if primaries == _UNSPECIFIED else primaries
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        raise Undecodable("colour_unsupported")
    gamma = _TRANSFERS[transfer]
    if primaries == _BT709 and gamma is None:
        return None
    return matrix_profile(_PRIMARIES[primaries], gamma)


def measured_profile(gamma: float | None, chromaticity: tuple[float, ...] | None) -> bytes | None:
    """Profile of a PNG with gAMA (for example 0.45455) and cHRM (white, red, green, blue); None: practically sRGB."""
    srgb = (_D65, *_PRIMARIES[_BT709])
    points = srgb if chromaticity is None else tuple(zip(chromaticity[::2], chromaticity[1::2], strict=True))
    same = np.abs(np.subtract(points, srgb)).max() <= _CHROMATICITY_TOLERANCE
    usual = gamma is None or abs(gamma / _PNG_SRGB_GAMMA - 1) <= _GAMMA_TOLERANCE
    if same and usual:
        return None
    if gamma is not None and gamma <= 0:
        raise Undecodable("image_damaged")
    return matrix_profile(points[1:], None if usual else 1 / gamma, points[0])


@functools.cache
def matrix_profile(
    primaries: tuple[tuple[float, float], ...], gamma: float | None, white: tuple[float, float] = _D65
) -> bytes:
    """ICC profile (version 4) of an RGB space.

    Parameters
    ----------
    primaries : three (x, y)
        Chromaticities of red, green and blue.
    gamma : float or None
        Exponent of the transfer; None: sRGB's curve (IEC 61966-2-1).
    white : (x, y)
        Chromaticity of white, brought to D50 by Bradford's matrix (ICC.1, annex E).
    """

    def tristimulus(point):
        return np.array([point[0] / point[1], 1.0, (1 - point[0] - point[1]) / point[1]])

    columns = np.stack([tristimulus(point) for point in primaries], axis=1)
    scaled = columns * np.linalg.solve(columns, tristimulus(white))
    gain = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ tristimulus(white))
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD @ scaled
    if gamma is None:
        curve = _parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    else:
        curve = _parametric(0, gamma)
    tags = {b"wtpt": _xyz(_D50)}
    tags |= {name: _xyz(adapted[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", at + len(body), 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    head = head.ljust(68, b"\0") + _fixed(*_D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """Bring a grey, RGB or CMYK image to sRGB; relative colorimetric with black point compensation.

    A profile that equals sRGB to within one level changes nothing.

    Raises
    ------
    Undecodable
        ``image_damaged``: the profile belongs to another kind of image.
    PIL.ImageCms.PyCMSError, OSError
        The profile cannot be read.
    """
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


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _parametric(kind: int, *parameters: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">H2x", kind) + _fixed(*parameters)
