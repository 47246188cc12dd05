"""Fit the model of :mod:`deidlib.donors.glasses` to the shipped bank.

The edge of a frame across the bridge of the nose labels most faces. Where this edge and a first fit disagreed, the
faces were inspected, and the labels are listed here. A face counts as wearing glasses if any part of a pair
shows. Refit it with ``python -m deidlib.training.glasses OUT.npz``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from deidlib.donors.bank import drawn
from deidlib.donors.glasses import GLASSES, gradients
from deidlib.training.worn import fit_and_write

_BRIDGE = slice(105, 128), slice(120, 136)  # rows and columns of the aligned frame at 256²
_EDGE = 18.0  # 8-bit levels
#: Entries of the shipped bank by ``bank_id``, where the edge misleads.
_WORN = (67, 96, 186, 332, 368, 439, 494, 862, 893, 976, 987, 992, 1089, 1092, 1130, 1245, 1350, 1543, 1553, 1677, 1699)
_WORN += (1729, 1741, 1761, 1791, 1838, 1929, 2030)
_BARE = (
    10,
    16,
    32,
    46,
    73,
    74,
    82,
    122,
    181,
    279,
    322,
    363,
    383,
    389,
    504,
    505,
    515,
    529,
    569,
    725,
    833,
    840,
    891,
    941,
)
_BARE += (1006, 1214, 1218, 1284, 1293, 1299, 1373, 1426, 1471, 1478, 1483, 1491, 1532, 1560, 1595, 1598, 1614, 1644)
_BARE += (1697, 1712, 1740, 1758, 1792, 1925, 1953, 1968, 1969)
_UNSURE = (137, 156, 185, 221, 330, 335, 474, 640, 788, 906, 1059, 1078, 1209, 1306, 1388, 1831, 1865, 1967)


def bridge_edge(aligned: np.ndarray) -> float:
    """Strongest horizontal edge across the bridge of the nose; it is usually high if a face wears glasses.

    Parameters
    ----------
    aligned : ndarray, (256, 256, 3), uint8
        The face in the aligned frame.

    Returns
    -------
    float
        Difference of CIE L across three rows, averaged over the bridge's width, in 8-bit levels.
    """
    lightness = cv2.cvtColor(aligned, cv2.COLOR_RGB2LAB)[:, :, 0].astype(np.float32)
    edge = np.abs(lightness[2:] - lightness[:-2])
    return float(edge[_BRIDGE].mean(axis=1).max())


def worn(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the bank's faces wear glasses, and which of them have a certain label, (N,) bool each."""
    wear, known = np.array([bridge_edge(face) >= _EDGE for face in faces]), np.ones(len(faces), bool)
    wear[list(_WORN)], wear[list(_BARE)], known[list(_UNSURE)] = True, False, False
    return wear, known


def main() -> None:
    """Fit the model, print its accuracy on held-out faces, and write it."""
    from deidlib.donors.model import donor_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    network, _, bank = donor_model("mobilestylegan")
    faces = drawn(bank.w, network)
    fit_and_write(gradients, faces, *worn(faces), GLASSES, given.out)


if __name__ == "__main__":
    main()
