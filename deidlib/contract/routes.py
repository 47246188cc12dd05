"""Routes: by which method a photograph is de-identified. Decided once, from the sheet, before a face is looked for.

``generate``
    The preserved area inside the face of a person who does not exist: donors, inversion, blending.
``region_only``
    The preserved area alone; every other pixel of the released square is :data:`NEUTRAL`.
``intraoral``
    The whole photograph, because it shows the inside of a mouth and no face; a face in it stops it.

Only ``generate`` photographs meet the generator; a photograph of another route is made once, at attempt 0.
"""

from __future__ import annotations

from collections.abc import Mapping

GENERATE, REGION_ONLY, INTRAORAL = "generate", "region_only", "intraoral"
REFUSE = "refuse"  # a choice of the configuration, never a photograph's route
ROUTES = (GENERATE, REGION_ONLY, INTRAORAL)

#: Key of the configuration's ``views`` for a photograph whose view the sheet does not state.
NOT_STATED = "not_stated"
#: What takes the place of every pixel outside the preserved area on ``region_only``: the same for everybody.
NEUTRAL = (128, 128, 128)


def choose_route(view: str | None, has_mask: bool, views: Mapping[str, str]) -> str | None:
    """Route of a photograph; None where the configuration refuses its view.

    Parameters
    ----------
    view : str or None
        As the sheet gives it.
    has_mask : bool
        The sheet names a mask. What a clinician drew is a bound on what may be seen, so an intraoral photograph
        with a mask goes by ``region_only``.
    views : mapping
        ``config["views"]``: view (or ``not_stated``) → route or ``refuse``. A view that it does not name is refused.
    """
    route = views.get(view or NOT_STATED, REFUSE)
    if route == INTRAORAL and has_mask:
        return REGION_ONLY
    return route if route in ROUTES else None


def most_faces(method: str | None) -> int:
    """How many faces a detector may report where there is no generated one, by the preserved area (``REGIONS.method``).

    None, but one in a lower face: nose base, lips and chin on grey are often taken for a face, and then the score of
    a recogniser that finds it decides. A mask that was drawn by hand may hold the eyes, so it has no such licence.
    """
    return 1 if method == "lower_face" else 0
