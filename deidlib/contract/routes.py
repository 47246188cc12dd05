"""Routes: the methods by which a photograph is de-identified. The sheet decides the route, before any face is searched.

``generate``
    The preserved area inside the face of a person who does not exist: donors, inversion, blending.
``region_only``
    The preserved area alone; every other pixel of the released square is :data:`NEUTRAL`.
``intraoral``
    The whole photograph, which shows the inside of a mouth. If a face is found in it, it is quarantined.

Only photographs of the route ``generate`` need the generator. A photograph of another route is made once, at attempt 0.
"""

from __future__ import annotations

from collections.abc import Mapping

GENERATE, REGION_ONLY, INTRAORAL = "generate", "region_only", "intraoral"
REFUSE = "refuse"  # a choice in the config; no photograph has it as its route
ROUTES = (GENERATE, REGION_ONLY, INTRAORAL)

#: Key of the config's ``views`` for a photograph whose view the sheet does not state.
NOT_STATED = "not_stated"
#: Colour of every pixel outside the preserved area on ``region_only``; the same for everybody.
NEUTRAL = (128, 128, 128)


def choose_route(view: str | None, has_mask: bool, views: Mapping[str, str]) -> str | None:
    """Route of a photograph; None where the config refuses its view.

    Parameters
    ----------
    view : str or None
        As the sheet gives it.
    has_mask : bool
        Whether the sheet names a mask. A drawn mask limits what may be shown, so an intraoral photograph with a mask
        takes the route ``region_only``.
    views : mapping
        ``config["views"]``: view (or ``not_stated``) → route or ``refuse``. A view that it does not name is refused.
    """
    route = views.get(view or NOT_STATED, REFUSE)
    if route == INTRAORAL and has_mask:
        return REGION_ONLY
    return route if route in ROUTES else None


def most_faces(method: str | None) -> int:
    """Most faces that a detector may report in a result without a generated one, by its preserved area.

    The number is 0, except 1 for a lower face: detectors often take nose base, lips and chin on grey for a face, and
    the recognisers' scores then decide. A mask drawn by hand may include the eyes, so no face is allowed in it.

    Parameters
    ----------
    method : str or None
        Preserved area (``REGIONS.method``).
    """
    return 1 if method == "lower_face" else 0
