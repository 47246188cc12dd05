"""DICOM: one 8-bit photograph (VL Photographic Image, Secondary Capture). Only its pixels and colour are read here.

Uncompressed, RLE, JPEG (8 bit) and JPEG 2000 are accepted. Overlays are not drawn. Refused are pictures that have
burnt-in text by their header, files of several frames, pictures that need windowing, and all other objects.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, pixel_array

from deidlib.intake import colour
from deidlib.intake.formats import jpeg
from deidlib.intake.formats.opened import LOST_BLOCK, Limits, Opened, Undecodable, rounding, zero_run

PHOTOGRAPHS = {
    uid.VLPhotographicImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
}
_PLAIN = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian}
_JPEG = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit}
_JPEG_2000 = {uid.JPEG2000Lossless, uid.JPEG2000}
_GREY = {"MONOCHROME1", "MONOCHROME2"}
_COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
_EOC = b"\xff\xd9"  # end of a JPEG 2000 codestream
#: Elements that change grey levels on the screen, each with the value that changes nothing.
_SHOWN_OTHERWISE = ("ModalityLUTSequence", "VOILUTSequence", "PresentationLUTSequence")


def opened(data: bytes, limits: Limits) -> Opened:
    """Decode a DICOM file of one photograph."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    syntax, kind = (dataset.file_meta.get(name) for name in ("TransferSyntaxUID", "MediaStorageSOPClassUID"))
    if kind not in PHOTOGRAPHS or syntax not in {*_PLAIN, *_JPEG, *_JPEG_2000, uid.RLELossless}:
        raise Undecodable("format_unsupported")
    if dataset.get("SOPClassUID") != kind:  # pydicom reads nothing of a truncated file
        raise Undecodable("image_damaged")
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise Undecodable("text_declared")
    if "PixelData" not in dataset:
        raise Undecodable("image_damaged")
    limits.check(dataset.Columns, dataset.Rows)
    photometric = str(dataset.PhotometricInterpretation)
    if not _is_one_8_bit_picture(dataset, photometric) or _is_shown_otherwise(dataset, photometric):
        raise Undecodable("format_unsupported")
    frame = None if syntax in _PLAIN else get_frame(dataset.PixelData, 0, number_of_frames=1)
    if frame is not None:
        _check_frame(frame, dataset, syntax)
    pixels = _of_jpeg(frame, photometric) if syntax in _JPEG else _pixels(dataset, photometric)
    pixels = 255 - pixels if photometric == "MONOCHROME1" else pixels
    return Opened(Image.fromarray(pixels), profile=_profile(dataset, photometric), plain=syntax in _PLAIN)


def _is_one_8_bit_picture(dataset: pydicom.Dataset, photometric: str) -> bool:
    known = _GREY | {"PALETTE COLOR"} if dataset.SamplesPerPixel == 1 else _COLOURS
    return (
        int(dataset.get("NumberOfFrames") or 1) == 1
        and photometric in known
        and dataset.SamplesPerPixel in (1, 3)
        and (dataset.BitsAllocated, dataset.BitsStored, dataset.get("PixelRepresentation", 0)) == (8, 8, 0)
        and len({int(side) for side in dataset.get("PixelAspectRatio") or (1, 1)}) == 1
    )


def _is_shown_otherwise(dataset: pydicom.Dataset, photometric: str) -> bool:
    """Whether a grey picture is meant to be displayed in other levels than it stores."""
    if photometric not in _GREY:
        return False
    if any(dataset.get(name) for name in _SHOWN_OTHERWISE):
        return True
    if (float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))) != (1.0, 0.0):
        return True
    width, centre = dataset.get("WindowWidth"), dataset.get("WindowCenter")
    return width is not None and (float(width), float(centre)) not in ((256.0, 128.0), (255.0, 127.0), (255.0, 127.5))


def _check_frame(frame: bytes, dataset: pydicom.Dataset, syntax: uid.UID) -> None:
    """Raise Undecodable unless the coded picture is whole and has the size that the header gives."""
    if syntax == uid.RLELossless:
        if zero_run(frame[64:], LOST_BLOCK):  # after RLE's own header
            raise Undecodable("image_damaged")
        return
    if syntax in _JPEG_2000:
        if not frame.rstrip(b"\0").endswith(_EOC) or zero_run(frame.rstrip(b"\0"), LOST_BLOCK):
            raise Undecodable("image_damaged")
    else:
        jpeg.check_whole(frame)
    kind = "JPEG2000" if syntax in _JPEG_2000 else "JPEG"
    if Image.open(io.BytesIO(frame), formats=[kind]).size != (dataset.Columns, dataset.Rows):
        raise Undecodable("image_damaged")


def _pixels(dataset: pydicom.Dataset, photometric: str) -> np.ndarray:
    """Grey or RGB uint8 as pydicom decodes it; every warning counts as damage."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            stored = pixel_array(dataset)
            if photometric == "PALETTE COLOR":
                stored = apply_color_lut(stored, dataset)
        except Warning:
            raise Undecodable("image_damaged") from None
    if stored.dtype == np.uint16:  # a palette of 16 bits
        stored = rounding(65535)[stored]
    return stored


def _of_jpeg(frame: bytes, photometric: str) -> np.ndarray:
    """Grey or RGB uint8 of a JPEG. Its own markers (JFIF, Adobe, components) decide its colours, not DICOM's header."""
    image = Image.open(io.BytesIO(frame), formats=["JPEG"])
    silent = not {"jfif", "adobe"} & set(image.info) and [layer[0] for layer in image.layer] != list(b"RGB")
    if photometric == "RGB" and silent and image.mode == "RGB":
        image.draft("YCbCr", image.size)  # components as stored; unmarked ones libjpeg takes for YCbCr
        return np.asarray(image)
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _profile(dataset: pydicom.Dataset, photometric: str) -> bytes | None:
    if photometric in _GREY:
        return None
    path = (dataset.get("OpticalPathSequence") or [dataset])[0]
    icc = path.get("ICCProfile") or dataset.get("ICCProfile")
    space = str(path.get("ColorSpace") or dataset.get("ColorSpace") or "SRGB").strip()
    return bytes(icc) if icc else colour.named_profile(space)
