"""Which recognisers can lead the inversion, and how each of them sees a face: the one table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deidlib.embedders.framing import Framing, zoomed

SEE_ALL = np.eye(2, 3)


class Trained(NamedTuple):
    """A recogniser that was trained here."""

    architecture: str  # of deidlib.embedders.trained.ARCHITECTURES
    framing: Framing


#: Name → architecture and framing of the recognisers that were trained on the generator's people.
TRAINED: dict[str, Trained] = {
    "residual": Trained("residual", Framing(112, SEE_ALL, mouth=True)),
    "mixer": Trained("mixer", Framing(96, zoomed(96, 132.0, (56.0, 60.0)), mouth=False)),
}
