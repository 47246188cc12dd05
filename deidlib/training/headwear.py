"""Fit the model of :mod:`deidlib.donors.headwear` to the shipped bank.

All faces were looked at, and those that wear something on the head are listed here: cap, hat, helmet, scarf, hood,
headband, crown. Refit it with ``python -m deidlib.training.headwear OUT.npz``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deidlib.donors.bank import drawn
from deidlib.donors.headwear import HEADWEAR, upper_picture
from deidlib.training.worn import fit_and_write

#: Entries of the shipped bank by ``bank_id``.
_WORN = (19, 23, 30, 54, 61, 77, 84, 85, 104, 106, 109, 129, 132, 133, 158, 164, 210, 215, 238, 247, 255, 273, 290)
_WORN += (291, 294, 299, 300, 319, 346, 380, 417, 418, 427, 428, 448, 459, 464, 504, 512, 515, 563, 564, 575, 577)
_WORN += (584, 639, 669, 670, 683, 685, 688, 692, 699, 709, 713, 759, 768, 777, 788, 793, 794, 800, 801, 805, 836)
_WORN += (839, 870, 891, 894, 909, 915, 927, 944, 946, 956, 969, 971, 986, 1008, 1045, 1053, 1068, 1091, 1112, 1118)
_WORN += (1120, 1149, 1154, 1162, 1164, 1187, 1206, 1212, 1213, 1234, 1250, 1259, 1265, 1286, 1303, 1317, 1351, 1398)
_WORN += (1401, 1408, 1412, 1420, 1437, 1461, 1472, 1479, 1500, 1510, 1525, 1564, 1568, 1579, 1605, 1614, 1615, 1618)
_WORN += (1631, 1633, 1645, 1658, 1685, 1711, 1726, 1744, 1786, 1806, 1832, 1845, 1849, 1856, 1876, 1883, 1889, 1914)
_WORN += (1930, 1941, 1949, 1961, 1966, 1970, 1981, 2006, 2008, 2010, 2024, 2042)
_UNSURE = (292, 360, 597, 687, 758, 990, 1007, 1256, 1443, 1492, 1655, 1731, 1965, 1999, 2027)


def main() -> None:
    """Fit the model, print its accuracy on held-out faces, and write it."""
    from deidlib.donors.model import donor_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    network, _, bank = donor_model("mobilestylegan")
    wear, known = np.zeros(len(bank), bool), np.ones(len(bank), bool)
    wear[list(_WORN)], known[list(_UNSURE)] = True, False
    fit_and_write(upper_picture, drawn(bank.w, network), wear, known, HEADWEAR, given.out)


if __name__ == "__main__":
    main()
