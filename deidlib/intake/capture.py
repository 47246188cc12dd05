"""Capture settings that identify nobody: coarse classes of exposure, lens, ISO, flash and sensor.

Only the values of :data:`CAPTURE` are read from Exif: no date, name, place, serial number, model, software or maker's
note, and no free text at all. Each value is the nearest one of a short list written here. Values beyond the list, and
texts in place of numbers, are left out. A value is released only if ``release.metadata`` names it.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import pi_heif
from PIL import Image

from deidlib.intake.formats.opened import OF_DAMAGE

_EXIF_IFD = 0x8769
_EXPOSURE_TIME, _F_NUMBER, _ISO, _FLASH, _FOCAL_LENGTH, _EQUIVALENT = 0x829A, 0x829D, 0x8827, 0x9209, 0x920A, 0xA405
#: Whole stops, as cameras write them.
_TIMES = {
    **{1 / n: f"1/{n}" for n in (8000, 4000, 2000, 1000, 500, 250, 125, 60, 30, 15, 8, 4, 2)},
    **{float(n): str(n) for n in (1, 2, 4, 8, 15, 30)},
}
_APERTURES = {float(n): n for n in ("1", "1.4", "2", "2.8", "4", "5.6", "8", "11", "16", "22", "32", "45", "64")}
_ISOS = {float(n): str(n) for n in (50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600)}
#: Focal lengths of a full-frame camera with this angle of view, in mm.
_FOCAL_LENGTHS = {float(n): str(n) for n in (14, 20, 28, 35, 50, 70, 85, 100, 135, 200, 300)}
#: Upper ends of the ratio of equivalent to real focal length: how much smaller the sensor is than full frame.
_SENSORS = ((1.15, "full frame"), (2.2, "cropped sensor"), (20.0, "small sensor"))
_FLASH_CLASSES = ("fired", "not fired")


@dataclass(frozen=True)
class Kept:
    """One value that can be kept: what it is, its unit, and every value that it can have."""

    description: str
    unit: str
    values: frozenset[str]


#: What ``release.metadata`` may name.
CAPTURE: dict[str, Kept] = {
    "exposure_time": Kept("exposure time in whole stops", "s", frozenset(_TIMES.values())),
    "f_number": Kept("aperture in whole stops", "f-number", frozenset(_APERTURES.values())),
    "focal_length": Kept("focal length, as on full frame, in classes", "mm", frozenset(_FOCAL_LENGTHS.values())),
    "iso": Kept("sensitivity in whole stops", "ISO 12232", frozenset(_ISOS.values())),
    "flash": Kept("whether a flash fired", "", frozenset(_FLASH_CLASSES)),
    "camera_class": Kept(
        "size of the camera's sensor: full frame, cropped or small (telephones, compacts)",
        "",
        frozenset(name for _, name in _SENSORS),
    ),
}


def read_capture(data: bytes) -> dict[str, str]:
    """Classes of a photograph's capture settings, by the names of :data:`CAPTURE`; unknown ones are left out.

    Parameters
    ----------
    data : bytes
        The whole file. DICOM headers are not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif = _exif(data)
            focal, equivalent = _number(exif.get(_FOCAL_LENGTH)), _number(exif.get(_EQUIVALENT))
            flash = exif.get(_FLASH)
            found = {
                "exposure_time": _nearest(_number(exif.get(_EXPOSURE_TIME)), _TIMES),
                "f_number": _nearest(_number(exif.get(_F_NUMBER)), _APERTURES),
                "focal_length": _nearest(equivalent, _FOCAL_LENGTHS),
                "iso": _nearest(_number(exif.get(_ISO)), _ISOS),
                "flash": _FLASH_CLASSES[0 if flash & 1 else 1] if isinstance(flash, int) else None,
                "camera_class": _sensor(focal, equivalent),
            }
    except (*OF_DAMAGE, Image.DecompressionBombError):
        return {}
    return {name: value for name, value in found.items() if value is not None}


def capture_cell(text: str | None, name: str) -> str | None:
    """Cell of the index for one value.

    Parameters
    ----------
    text : str or None
        The column ``capture`` of tables.PHOTOS: :func:`read_capture` as JSON.
    name : str
        A name of :data:`CAPTURE`. The cell is None if the value is not on its list.
    """
    found: Mapping = json.loads(text or "{}")
    value = found.get(name)
    return value if value in CAPTURE[name].values else None


def _exif(data: bytes) -> Mapping:
    """The Exif block of exposure and lens."""
    if data[4:8] == b"ftyp" and data[8:12] != b"avif":
        exif = Image.Exif()
        exif.load(pi_heif.open_heif(io.BytesIO(data)).info.get("exif") or b"")
        return exif.get_ifd(_EXIF_IFD)
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "TIFF", "WEBP", "AVIF"]) as image:
        return image.getexif().get_ifd(_EXIF_IFD)


def _number(value: object) -> float | None:
    """A finite positive number, or the only one of a list; else None."""
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, (str, bytes)) or value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) and number > 0 else None


def _nearest(number: float | None, stops: Mapping[float, str]) -> str | None:
    """The nearest stop on a scale of factors; None for a number more than a stop beyond either end."""
    if number is None:
        return None
    distance, stop = min((abs(math.log2(number / stop)), stop) for stop in stops)
    return stops[stop] if distance <= 1 else None


def _sensor(focal: float | None, equivalent: float | None) -> str | None:
    if focal is None or equivalent is None:
        return None
    ratio = equivalent / focal
    return next((name for end, name in _SENSORS if 0.5 <= ratio <= end), None)
