"""Which recognisers can lead the inversion, how each sees a face, and what it makes of impostors: the one table.

The recogniser that judges in the product (dlib's) stands here for the bench alone, where each judges while others lead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deidlib.embedders.framing import Framing, zoomed

SEE_ALL = np.eye(2, 3)
_DLIB_CHIP = np.array([[1.45, 0.0, -6.7], [0.0, 1.45, -30.5]])  # of 150²: medians over 159 generated faces


class Lead(NamedTuple):
    """A recogniser that can lead.

    The last three are of cosines between different people: 117 pairs of 16 portraits (dlib's: by its distances there).
    """

    model: str  # of the registry, whose weights it takes
    framing: Framing
    trained: bool  # here, on the generator's people
    impostor: float  # their mean
    alike: float  # their 95 % quantile: the highest likeness aimed at
    deviation: float  # their standard deviation


LEADS: dict[str, Lead] = {
    "sface": Lead("sface", Framing(112, SEE_ALL, mouth=True), False, 0.12, 0.27, 0.084),
    "dlib": Lead("dlib_resnet", Framing(150, _DLIB_CHIP, mouth=True), False, 0.8, 0.88, 0.05),
    "arcface": Lead("arcface", Framing(112, SEE_ALL, mouth=True), False, 0.005, 0.118, 0.071),
    "facexzoo": Lead("facexzoo", Framing(112, SEE_ALL, mouth=True), False, 0.010, 0.124, 0.068),
    "discriminant": Lead("stlpips", Framing(112, SEE_ALL, mouth=True), True, 0.036, 0.215, 0.096),
    "outline": Lead(
        "gender_net", Framing(112, zoomed(112, 132.0, (56.0, 60.0)), mouth=False), True, 0.038, 0.228, 0.125
    ),
}
TRAINED = tuple(name for name, lead in LEADS.items() if lead.trained)
#: Who leads by default. dlib's, which judges, does not, nor does FaceX-Zoo's, which only attacks.
LED_BY = ("sface", "arcface", "discriminant", "outline")
