"""Views: the sheet's words, and the codes that mean the same. Only this module turns a code into a view.

ANSI/ADA Standard 1100 and its successor 1107 number orthodontic views: EV01 to EV43 outside the mouth, IV01 to IV30
inside; digits may lose their zeros (EV1). DICOM codes the part of the body (Anatomic Region Sequence), the projection
(View Code Sequence, CID 4062 and 4063) and the state of the lips (Acquisition Context, CID 4066) in SNOMED CT.
"""

from __future__ import annotations

import re
from collections.abc import Collection

FRONTAL_REST, FRONTAL_SMILE, THREE_QUARTER, PROFILE, INTRAORAL = VIEWS = (
    "frontal_rest",
    "frontal_smile",
    "three_quarter",
    "profile",
    "intraoral",
)

#: Numbers of the ADA's views outside the mouth (EV); every IV is intraoral. EV36 and EV37 (from below and above), EV40
#: and EV41 (scars, ears) match none of the words and are left out.
_ADA_OUTSIDE = {
    FRONTAL_REST: {15, 16, 17, 18, 21, 39, 42, 43},  # lips relaxed or closed, mandible forward, cant, open, palsy
    FRONTAL_SMILE: {19, 20, 38},  # full face, close-up
    THREE_QUARTER: {*range(8, 15), *range(29, 36)},  # 45 degrees to the right, to the left
    PROFILE: {*range(1, 8), *range(22, 29)},  # right, left
}
_ADA_INSIDE = range(1, 31)
_ADA_CODE = re.compile(r"(EV|IV)0*([0-9]{1,2})", re.IGNORECASE | re.ASCII)

#: Views that DICOM's code values allow. SNOMED CT; T-51000 is the mouth in older files.
_DICOM = {
    "123851003": {INTRAORAL},  # mouth, whatever the projection
    "T-51000": {INTRAORAL},
    "260499007": {INTRAORAL},  # occlusal
    "399033003": {FRONTAL_REST, FRONTAL_SMILE, INTRAORAL},  # frontal
    "399173006": {PROFILE, INTRAORAL},  # left lateral; also of a row of teeth
    "399198007": {PROFILE, INTRAORAL},  # right lateral
    "260454004": {THREE_QUARTER},  # 45 degrees
    "260421001": {THREE_QUARTER},  # left lateral oblique
    "260424009": {THREE_QUARTER},  # right lateral oblique
    "774007": {FRONTAL_REST, FRONTAL_SMILE, THREE_QUARTER, PROFILE},  # head and neck
    "89545001": {FRONTAL_REST, FRONTAL_SMILE, THREE_QUARTER, PROFILE},  # face
    "225583004": {FRONTAL_SMILE, THREE_QUARTER, PROFILE},  # smiles
    "1336028006": {FRONTAL_REST, THREE_QUARTER, PROFILE},  # lips relaxed
    "1336029003": {FRONTAL_REST, THREE_QUARTER, PROFILE},  # lips closed
}
_DICOM_CODE = re.compile(r"(?:SCT:)?([0-9]{6,18})", re.ASCII)


def view_of(text: str | None) -> str | None:
    """The view that a cell of the sheet means.

    Parameters
    ----------
    text : str or None
        One of :data:`VIEWS`; a code of the ADA (``EV15``); or DICOM codes joined by ``+``, with or without their scheme
        (``SCT:774007+SCT:399033003+SCT:225583004``). Other text is returned unchanged, and the sheet is then refused.
    """
    if text is None:
        return None
    ada = _ADA_CODE.fullmatch(text)
    if ada is not None:
        number = int(ada[2])
        if ada[1].upper() == "IV":
            return INTRAORAL if number in _ADA_INSIDE else text
        return next((view for view, numbers in _ADA_OUTSIDE.items() if number in numbers), text)
    codes = [_DICOM_CODE.fullmatch(part.strip()) for part in text.split("+")]
    if all(codes):
        allowed = views_by_codes([code[1] for code in codes])
        return allowed.pop() if len(allowed) == 1 else text
    return text


def views_by_codes(codes: Collection[str]) -> set[str]:
    """Views that all of these DICOM code values allow; an unknown code allows all views."""
    return set(VIEWS).intersection(*(_DICOM[code] for code in codes if code in _DICOM))
