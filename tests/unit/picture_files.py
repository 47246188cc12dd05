"""Photographs in every accepted format, and typical damage of such files."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from skimage.data import astronaut

pillow_heif.register_heif_opener()
SIDE = 384


def portrait(side: int = SIDE) -> np.ndarray:
    """scikit-image's astronaut, whose picture has no large flat part; uint8 (side, side, 3)."""
    return np.asarray(Image.fromarray(astronaut()).resize((side, side), Image.Resampling.LANCZOS))


def saved(image, kind: str, **how) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    exif = how.get("exif")
    if kind == "HEIF" and exif is not None:  # pillow-heif turns this into the container's irot and imir
        image = image.copy()
        image.info["exif"] = exif.tobytes()
        how = {name: value for name, value in how.items() if name != "exif"}
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def dicom(pixels: np.ndarray, photometric="RGB", syntax=uid.ExplicitVRLittleEndian, frame=None, **elements) -> bytes:
    """A VL Photographic Image; ``frame`` is its coded picture, if ``syntax`` codes."""
    meta, dataset = FileMetaDataset(), Dataset()
    kind = elements.pop("SOPClassUID", uid.VLPhotographicImageStorage)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = kind, "1.2.3", syntax
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientName = kind, "1.2.3", "Quixote^Don"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    plain = pixels.tobytes()
    dataset.PixelData = encapsulate([frame]) if frame is not None else plain + bytes(len(plain) % 2)
    dataset["PixelData"].VR = "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    if syntax == uid.RLELossless:
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.compress(uid.RLELossless)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def jpeg_2000(pixels: np.ndarray, **how) -> bytes:
    return saved(pixels, "JPEG2000", no_jp2=True, mct=1, **how)


def every_format() -> dict[str, bytes]:
    """The portrait in each format that has a way of its own to be decoded."""
    photo = portrait()
    return {
        "JPEG": saved(photo, "JPEG", quality=92),
        "JPEG progressive": saved(photo, "JPEG", quality=92, progressive=True),
        "JPEG restarts": saved(photo, "JPEG", quality=92, restart_marker_rows=1),
        "JPEG CMYK": saved(Image.fromarray(photo).convert("CMYK"), "JPEG", quality=92),
        "JPEG grey": saved(Image.fromarray(photo).convert("L"), "JPEG", quality=92),
        "PNG": saved(photo, "PNG"),
        "TIFF": saved(photo, "TIFF"),
        "TIFF LZW": saved(photo, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": saved(photo, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF PackBits": saved(photo, "TIFF", compression="packbits"),
        "TIFF JPEG": saved(photo, "TIFF", compression="jpeg"),
        "WebP": saved(photo, "WEBP", quality=92),
        "WebP lossless": saved(photo, "WEBP", lossless=True),
        "HEIC": saved(photo, "HEIF", quality=92),
        "AVIF": saved(photo, "AVIF", quality=92),
        "DICOM": dicom(photo),
        "DICOM RLE": dicom(photo, syntax=uid.RLELossless),
        "DICOM JPEG": dicom(photo, "YBR_FULL_422", uid.JPEGBaseline8Bit, saved(photo, "JPEG", quality=92)),
        "DICOM JPEG 2000": dicom(photo, "YBR_RCT", uid.JPEG2000Lossless, jpeg_2000(photo)),
    }


def cut_and_ended(data: bytes, at: int) -> bytes:
    """A file that breaks off, with the end marker of its format, as repair tools write it."""
    if data.startswith(b"\xff\xd8"):
        return data[:at] + b"\xff\xd9"
    if data.startswith(b"\x89PNG"):
        return data[:at] + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return data[:at]


#: What happens to files: the name of the damage → what it makes of a file at a place.
DAMAGES = {
    "cut, end marker added": cut_and_ended,
    "rest zeroed": lambda data, at: data[:at] + bytes(len(data) - at),
    "4 kB zeroed": lambda data, at: data[:at] + bytes(min(4096, len(data) - at)) + data[at + 4096 :],
    "600 bytes taken out": lambda data, at: data[:at] + data[at + 600 :],
}
