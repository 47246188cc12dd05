"""Opens the networks of the inversion."""

from __future__ import annotations

from collections.abc import Sequence

from deidlib.embedders.lead import LED_BY
from deidlib.embedders.opened import embedder
from deidlib.generators.opened import generator
from deidlib.vision.networks import landmarker_file, only


def inversion_networks(name: str, place, led_by: Sequence[str] = LED_BY):
    """Open the networks of the inversion on a device.

    Parameters
    ----------
    name : str
        The generator.
    place : torch.device or str
        The device.
    led_by : sequence of str
        The recognisers of the identity loss, from :data:`deidlib.embedders.lead.LEADS`.
    """
    from deidlib.embedders.perceptual import STLPIPS
    from deidlib.generators import latent_prior
    from deidlib.inversion.identity import Ensemble
    from deidlib.inversion.mesh import Mesh
    from deidlib.inversion.objective import Networks
    from deidlib.vision.alignment import LIPS_INNER, LIPS_OUTER

    network = generator(name)
    prior = latent_prior(network)  # on the CPU, so that every device gets the same samples
    perceptual = STLPIPS(only("stlpips"))
    ensemble = Ensemble({lead: embedder(lead, perceptual) for lead in led_by})
    mesh = Mesh(landmarker_file(), [*LIPS_OUTER, *LIPS_INNER])
    return Networks(*(part.to(place) for part in (network, perceptual, ensemble, mesh)), prior)
