"""The networks that inversion works with, opened."""

from __future__ import annotations

from deidlib.generators.opened import generator
from deidlib.vision.networks import landmarker_file, only


def inversion_networks(name: str, place):
    """Open what inversion works with, on a device."""
    from deidlib.generators import latent_prior
    from deidlib.inversion.identity import Guide, read_weights
    from deidlib.inversion.mesh import Mesh
    from deidlib.inversion.objective import Networks
    from deidlib.inversion.perceptual import STLPIPS
    from deidlib.vision.landmarks import LIPS_INNER, LIPS_OUTER

    network = generator(name)
    prior = latent_prior(network)  # before it is moved: the same samples on every device
    perceptual, guide = STLPIPS(only("stlpips")), Guide(read_weights(only("sface")))
    mesh = Mesh(landmarker_file(), [*LIPS_OUTER, *LIPS_INNER])
    return Networks(*(part.to(place) for part in (network, perceptual, guide, mesh)), prior)
