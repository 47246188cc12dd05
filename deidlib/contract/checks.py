"""The table of checks. Each check on a result is described here once.

The gate, the outcomes, the audit's criteria and tally, the schema ``tables.CHECKS`` and the documentation read this
table. To add a check, add a :class:`Check` here, measure its value in :mod:`deidlib.checks`, and write a test.

A check that applies to a photograph's route fails if its value is missing or is not a finite number. There is one
exception, stated in the table (:attr:`Check.excused_by`): a recogniser may find no face in a result without a generated
face, and then it has nothing to compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deidlib.contract.routes import GENERATE, INTRAORAL, REGION_ONLY, ROUTES, most_faces

WITHOUT_FACE = (REGION_ONLY, INTRAORAL)

#: Margins: SFace's cosine and dlib's distance must lie this far inside their bounds. Attempts are repeated until these
#: scores pass, so a score at the bound proves nothing: the same picture, saved again or cropped by a pixel, may fail.
#: Measured (tests/bench/RESULTS.md) on 240 pairs of different people: saving one picture as JPEG of quality 90, or
#: cropping a row and a column, moved 95 in 100 scores by up to 0.033 (SFace) and 0.011 (dlib).
SFACE_MARGIN, DLIB_MARGIN = 0.035, 0.015

#: How a value is compared: with a bound from the config's block ``checks``, or with a fixed value.
Comparison = Literal["below", "at_most", "above", "at_least", "true", "one_face", "no_face"]
_WORDS = {"below": "below", "at_most": "at most", "above": "above", "at_least": "at least"}
UPPER = ("below", "at_most")  # comparisons with an upper bound


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    name : str
        Column of ``tables.CHECKS``. Two entries may share a name where the routes ask for different things.
    kind : str
        Type of the column: ``float32``, ``int32`` or ``bool``.
    column : str
        What the column holds.
    unit : str
        Its unit, for the schema.
    statement : str
        What holds when every photograph passes; a row of the audit.
    group : str
        Group of the audit's criteria: ``photographs`` or ``dental area``.
    comparison : str
        See :data:`Comparison`.
    option : str or None
        Key of the bound in the config's block ``checks``.
    routes : tuple of str
        Routes that it applies to.
    margin : float
        How far inside the bound a value must lie, because results are selected by this value.
    excused_by : str or None
        Check of a face detector. On a route without a generated face the value may be missing if that detector
        counts no face and the recogniser finds none either.
    """

    name: str
    kind: str
    column: str
    statement: str
    comparison: Comparison
    option: str | None = None
    group: str = "photographs"
    unit: str = ""
    routes: tuple[str, ...] = (GENERATE,)
    excused_by: str | None = None
    margin: float = 0.0

    @property
    def criterion(self) -> str:
        """Name of the audit's criterion."""
        return self.name if GENERATE in self.routes else f"{self.name}_without_face"

    @property
    def upper(self) -> bool:
        """Whether the bound is an upper one, so that high values fail."""
        return self.comparison in UPPER

    def bound_in_words(self, options: Mapping) -> str:
        """The bound in words, for example ``at most 2``, or ``above 0.6 by 0.03``."""
        words = f"{_WORDS[self.comparison]} {options[self.option]:g}"
        return f"{words} by {self.margin:g}" if self.margin else words


_ONE = "finds one face in each image with a generated one"
_NONE = "finds no face in images without a generated one, except lower faces"

TABLE: tuple[Check, ...] = (
    Check(
        "sface_cosine",
        "float32",
        "highest SFace cosine similarity to any photograph of the patient",
        "No released face is the patient's for recogniser SFace",
        "below",
        "sface_max",
        routes=ROUTES,
        excused_by="faces_yunet",
        margin=SFACE_MARGIN,
    ),
    Check(
        "dlib_distance",
        "float32",
        "lowest dlib distance to any photograph of the patient",
        "No released face is the patient's for recogniser dlib",
        "above",
        "dlib_min",
        routes=ROUTES,
        excused_by="faces_dlib",
        margin=DLIB_MARGIN,
    ),
    Check(
        "survival",
        "float32",
        "highest block correlation with the source outside core and band",
        "No block of the original survives outside the preserved area",
        "at_most",
        "survival_max",
        unit="-1..1",
    ),
    Check(
        "metadata_free",
        "bool",
        "the encoded file holds pixels and nothing else",
        "The image files hold pixels and nothing else",
        "true",
        routes=ROUTES,
    ),
    Check(
        "text_free",
        "bool",
        "neither the source nor the result shows text or a code in the pixels that are released unchanged",
        "No text and no code (QR, bar code) is found in the pixels that are released unchanged",
        "true",
        routes=ROUTES,
    ),
    Check("faces_yunet", "int32", "faces that YuNet finds in the result", f"Detector YuNet {_ONE}", "one_face"),
    Check(
        "faces_mediapipe",
        "int32",
        "faces that MediaPipe finds in the result",
        f"Detector MediaPipe {_ONE}",
        "one_face",
    ),
    Check(
        "second_face",
        "float32",
        "highest score of a second face, whole or cut by the edge",
        "No second person stands beside a generated face, not even one cut off by the edge",
        "at_most",
        "second_face_max",
        unit="0..1",
    ),
    Check(
        "latent_distance",
        "float32",
        "RMS Mahalanobis distance of the face's code to the donor's w",
        "The faces' codes stay close to those that the generator draws",
        "at_most",
        "latent_distance_max",
    ),
    Check(
        "realism",
        "float32",
        "score of the generated face's pixels; higher is more like the generator's own",
        "The upper faces look like those that the generator makes",
        "at_least",
        "realism_min",
    ),
    Check(
        "core_equal",
        "bool",
        "the core's pixels equal the decoded source exactly",
        "The preserved area is the patient's own, bit for bit",
        "true",
        group="dental area",
        routes=ROUTES,
    ),
    Check(
        "mouth_shift",
        "float32",
        "largest mouth landmark displacement",
        "The mouth's landmarks stayed where they were",
        "at_most",
        "mouth_shift_max",
        group="dental area",
        unit="% of inter-ocular distance",
    ),
    Check(
        "seam",
        "float32",
        "seam score (see seam)",
        "No seam is measured at the border of the preserved area",
        "at_most",
        "seam_max",
        group="dental area",
    ),
    Check(
        "faces_yunet",
        "int32",
        "faces that YuNet finds in the result",
        f"Detector YuNet {_NONE}",
        "no_face",
        routes=WITHOUT_FACE,
    ),
    Check(
        "faces_mediapipe",
        "int32",
        "faces that MediaPipe finds in the result",
        f"Detector MediaPipe {_NONE}",
        "no_face",
        routes=WITHOUT_FACE,
    ),
    Check(
        "faces_dlib",
        "int32",
        "faces that dlib's HOG detector finds in the result",
        f"Detector dlib {_NONE}",
        "no_face",
        routes=WITHOUT_FACE,
    ),
    Check(
        "outside_neutral",
        "bool",
        "every pixel outside the core is the neutral fill",
        "Images of the route region_only hold only neutral fill outside the preserved area",
        "true",
        routes=(REGION_ONLY,),
    ),
)

_ANOTHER_FACE = "another donor (raise attempts), or another preserved area"
#: Advice for a photograph that fails a check at every attempt.
HELP: dict[str, str] = {
    "sface_cosine": f"{_ANOTHER_FACE}: the face is too like the patient",
    "dlib_distance": f"{_ANOTHER_FACE}: the face is too like the patient",
    "survival": "a smaller mask, or preserve: mouth; something of the original shows outside the preserved area",
    "metadata_free": "nothing on your side: this is a fault of deidlib, please report it",
    "text_free": "crop the photograph, or draw a mask that leaves the text out",
    "faces_yunet": "a frontal photograph with more of the face; on a route without a new face, crop to the mouth",
    "faces_mediapipe": "a frontal photograph with more of the face; on a route without a new face, crop to the mouth",
    "faces_dlib": "crop the photograph to the mouth, or draw a smaller mask",
    "second_face": f"{_ANOTHER_FACE}: a second face was drawn at the edge",
    "latent_distance": f"{_ANOTHER_FACE}: a hand, braces or light in the area make the face hard to draw",
    "realism": f"{_ANOTHER_FACE}: the drawn face looks broken",
    "core_equal": "nothing on your side: this is a fault of deidlib, please report it",
    "mouth_shift": "a sharper photograph of the mouth, or a mask",
    "seam": f"{_ANOTHER_FACE}; an even light, or a mask that ends on plain skin",
    "outside_neutral": "nothing on your side: this is a fault of deidlib, please report it",
}

#: Names of all checks, each once, in the order of the table.
NAMES: tuple[str, ...] = tuple(dict.fromkeys(check.name for check in TABLE))
#: The recognisers' checks. Their scores say whether a result is taken for the patient.
LIKENESS: dict[str, Check] = {check.name: check for check in TABLE if check.margin}


def columns() -> list[tuple[str, str, str, str]]:
    """Name, type, meaning and unit of each check's column in ``tables.CHECKS``."""
    first = {check.name: check for check in reversed(TABLE)}
    return [(name, first[name].kind, first[name].column, first[name].unit) for name in NAMES]


def applicable(route: str | None) -> list[Check]:
    """Checks that apply to a route; an unknown route gets the checks of a generated face."""
    route = route if route in ROUTES else GENERATE
    return [check for check in TABLE if route in check.routes]


def holds(check: Check, value: Any, options: Mapping, method: str | None = None) -> bool:
    """Whether a check's value passes, margin included. A value or bound that is missing or not finite fails.

    Parameters
    ----------
    check : Check
        An entry of :data:`TABLE`.
    value
        Its measured value.
    options : mapping
        The bounds: options of the stage ``checks``.
    method : str, optional
        Preserved area (``REGIONS.method``). It decides how many faces a detector may count in a result without a
        generated one.
    """
    if _missing(value):
        return False
    if check.comparison == "true":
        return value is True
    if check.comparison == "one_face":
        return value == 1
    if check.comparison == "no_face":
        return 0 <= value <= most_faces(method)
    return _keeps(check, value, options, check.margin)


def keeps_bound(check: Check, value: Any, options: Mapping) -> bool:
    """Whether a value lies on the right side of its bound, without the margin; otherwise as :func:`holds`.

    For a recogniser's score this is the verdict "another person" at its threshold.
    """
    return not _missing(value) and _keeps(check, value, options, 0.0)


def _keeps(check: Check, value: Any, options: Mapping, margin: float) -> bool:
    bound = options.get(check.option)
    if _missing(bound):
        return False
    return {
        "below": value < bound - margin,
        "at_most": value <= bound - margin,
        "above": value > bound + margin,
        "at_least": value >= bound + margin,
    }[check.comparison]


def failed_checks(row: Mapping, options: Mapping, method: str | None = None) -> list[str]:
    """Names of the checks that a row of ``tables.CHECKS`` fails, judged by its numbers; an empty list means passed.

    Parameters
    ----------
    row : mapping
        ``route``, the checks' values, and ``not_applicable``: checks whose recogniser found no face to compare.
    options, method
        As for :func:`holds`.
    """
    excused = _excused(row)
    return [
        check.name
        for check in applicable(row.get("route"))
        if check.name not in excused and not holds(check, row.get(check.name), options, method)
    ]


def not_applicable(route: str | None, faceless: Iterable[str] = ()) -> list[str]:
    """Names of the checks that do not apply to a photograph.

    Parameters
    ----------
    route : str or None
        Its route.
    faceless : iterable of str
        Checks whose recogniser looked at the result and found no face.
    """
    applies = {check.name for check in applicable(route) if not (check.name in faceless and _may_lack(check, route))}
    return [name for name in NAMES if name not in applies]


def _excused(row: Mapping) -> set[str]:
    """Checks of recognisers that found no face, where the detector named in the table counts none either."""
    claimed = set(row.get("not_applicable") or ())
    return {
        check.name
        for check in applicable(row.get("route"))
        if check.name in claimed
        and _may_lack(check, row.get("route"))
        and row.get(check.name) is None
        and row.get(check.excused_by) == 0
    }


def _may_lack(check: Check, route: str | None) -> bool:
    return check.excused_by is not None and route in WITHOUT_FACE


def _missing(value: Any) -> bool:
    """Whether a value is missing, NaN or infinite."""
    return value is None or not math.isfinite(value)
