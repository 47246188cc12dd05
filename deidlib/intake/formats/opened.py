"""What the modules of the formats return and raise."""

from __future__ import annotations

import functools
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageCms

from deidlib.errors import InputError

#: Errors that decoders raise on damaged bytes. The file is in memory, so an OSError (Pillow's commonest) is a fault of
#: the bytes and not of a disk. A TIFF with absurd strips gets "decoder error -9", although that code means memory.
#: MemoryError is not included; nor are ImportError and NameError, which are faults of the installation.
OF_DAMAGE = (
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
    """The file cannot be decoded with certainty.

    Attributes
    ----------
    reason : str
        Reason code of reasons.REASONS.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass
class Opened:
    """A picture as its file stores it, decoded.

    Attributes
    ----------
    image : PIL.Image.Image
        Pixels as stored, not yet upright and not yet in sRGB.
    bits : int
        Bits a channel in the file. Above 8, ``wide`` or the mode ``I;16`` holds them.
    inverted : bool
        16-bit grey whose 0 is white.
    profile : bytes or None
        ICC profile of the colours; None: sRGB.
    orientation : int
        Exif's orientation that is still to be applied, 1 to 8.
    plain : bool
        Whether the file holds uncompressed pixels, in which a lost block is zeros.
    """

    image: Image.Image
    bits: int = 8
    inverted: bool = False
    profile: bytes | None = None
    orientation: int = 1
    plain: bool = False


@dataclass
class Limits:
    """Largest width × height and smallest side in pixels. A file's header is checked before it is decoded."""

    max_pixels: int
    min_side: int

    def check(self, width: int, height: int) -> None:
        """Raise Undecodable where a picture of this size is refused."""
        if width * height > self.max_pixels:
            raise Undecodable("image_too_large")
        if min(width, height) < self.min_side:
            raise Undecodable("image_too_small")


#: Length of a run of zero bytes that no entropy coder writes for a photograph: a disk or a copy lost a block.
LOST_BLOCK = 256


def zero_run(data: bytes, length: int) -> bool:
    """Whether data hold a run of at least this many zero bytes."""
    return bytes(length) in data


@functools.cache
def rounding(white: int) -> np.ndarray:
    """Table from values 0 … white to 0 … 255, rounded; higher values become white."""
    values = np.minimum(np.arange(65536, dtype=np.int64), white)
    return ((values * 255 + white // 2) // white).astype(np.uint8)
