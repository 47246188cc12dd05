"""The table of recognisers for the identity loss: the view of each, and its cosines between impostors.

A recogniser of the identity loss leads the inversion; the others judge. dlib's judges in a run. It is listed for the
bench alone, where each recogniser judges in turn while the others lead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deidlib.embedders.framing import Framing, zoomed

SEE_ALL = np.eye(2, 3)
_DLIB_CHIP = np.array([[1.45, 0.0, -6.7], [0.0, 1.45, -30.5]])  # of 150²: medians over 159 generated faces


class Lead(NamedTuple):
    """A recogniser that can be part of the identity loss.

    The last three values describe cosines between different people: 117 pairs of 16 portraits (dlib: its distances).
    """

    model: str  # model of the registry that holds its weights
    framing: Framing
    trained: bool  # fitted by deidlib, to the generator's people
    impostor: float  # their mean
    alike: float  # their 95 % quantile: the highest likeness that is aimed at
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
#: The default recognisers of the identity loss; without dlib's, which judges, and FaceX-Zoo's, which attacks.
LED_BY = ("sface", "arcface", "discriminant", "outline")
