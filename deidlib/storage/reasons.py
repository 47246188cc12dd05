"""Why a photograph left the pipeline: every reason code, what it means, and how to mend it."""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """What a reason code means.

    Attributes
    ----------
    text : str
        What it means and how to mend it, for the institution (report, quarantine list, review).
    public : str
        What it means, for recipients of a release: no remedy, and nothing of the institution's own files.
    """

    text: str
    public: str


REASONS: dict[str, Reason] = {
    "consent_missing": Reason(
        text="Not every row of the patient says yes in the column consent. Record consent, then rerun.",
        public="no consent is recorded for the patient",
    ),
    "duplicate_photo_id": Reason(
        text="Two rows have this photo_id, so it is unclear which one is meant. Give each row its own.",
        public="two entries had one id, so that it was unclear which was meant",
    ),
    "path_outside": Reason(
        text="The path leaves the sheet's folder. Put the file below the sheet and use a relative path.",
        public="the file lay outside the cohort's folder",
    ),
    "file_missing": Reason(
        text="No file at the path the sheet names.",
        public="the file was missing",
    ),
    "format_unsupported": Reason(
        text=(
            "The file is no JPEG, PNG, TIFF, WebP, HEIC, AVIF or DICOM photograph of one page with 8 or 16 bits a "
            "channel. Convert it (docs/accepted-files.md)."
        ),
        public="the file's format is not accepted",
    ),
    "image_damaged": Reason(
        text=(
            "The image file is truncated, cannot be decoded whole, shows only a part of its picture, or its "
            "colour profile cannot be read. Copy it again from where it came."
        ),
        public="the file was damaged or incomplete",
    ),
    "colour_unsupported": Reason(
        text=(
            "The file's colours cannot be converted to sRGB with certainty: it is HDR, or its colours are not "
            "sRGB and their colour space is not stated. Save it in sRGB (docs/accepted-files.md)."
        ),
        public="the file's colours could not be converted to sRGB with certainty",
    ),
    "text_declared": Reason(
        text="The DICOM header says that text is burnt into the picture. Remove the text, then the statement.",
        public="the file says that text is burnt into the picture",
    ),
    "header_mismatch": Reason(
        text=(
            "The DICOM header and the sheet disagree about patient, age, sex or view (the log of intake names the "
            "line). Correct the sheet, or the path."
        ),
        public="the file's header and the institution's records disagree",
    ),
    "image_too_large": Reason(
        text="More pixels than intake.max_pixels allows (a decompression bomb, or a scan to be reduced).",
        public="it has more pixels than are accepted",
    ),
    "image_too_small": Reason(
        text="Fewer pixels on a side than intake.min_side asks for.",
        public="it has fewer pixels than are accepted",
    ),
    "mask_unusable": Reason(
        text="The mask image is missing, empty or not of the photograph's size.",
        public="the mask of its preserved area could not be used",
    ),
    "view_refused": Reason(
        text="The configuration refuses this view (views). Give the view a route, or leave the photograph out.",
        public="its view was left out on purpose",
    ),
    "no_face": Reason(
        text="No face was found. If it shows a profile or the inside of the mouth, say so in the sheet (view).",
        public="no face was found",
    ),
    "several_faces": Reason(
        text="A second face is at least half as large as the patient's; crop the photograph to the patient.",
        public="it shows a second person",
    ),
    "yaw_too_large": Reason(
        text=(
            "The head is turned further than landmarks.max_yaw of the preset. If it is a profile, set its view to "
            "profile."
        ),
        public="the head is turned too far",
    ),
    "face_too_small": Reason(
        text="The face is smaller than landmarks.min_inter_ocular of the preset.",
        public="the face is too small",
    ),
    "mask_needed": Reason(
        text=(
            "The landmarks do not locate the preserved area reliably: no face was found, or two detectors "
            "disagree about the mouth. Draw a mask, and name it in the sheet's column mask."
        ),
        public="the preserved area could not be located reliably",
    ),
    "face_in_intraoral": Reason(
        text=(
            "The route intraoral releases the whole photograph, and a face detector reports a face in it. Correct "
            "the view, crop the photograph to the mouth, or draw a mask."
        ),
        public="it should show the inside of a mouth alone, and a face was found in it",
    ),
    "area_blank": Reason(
        text=(
            "The preserved area shows one flat colour, so that this part of the photograph is missing or covered. "
            "Copy the file again from where it came."
        ),
        public="the preserved area shows one flat colour",
    ),
    "region_empty": Reason(
        text="The preserved area is empty or lies outside the photograph.",
        public="the preserved area is empty or lies outside the photograph",
    ),
    "text_in_picture": Reason(
        text=(
            "Text or a code was found in pixels that would be released unchanged; the reviewer's copy shows "
            "where. Crop the photograph, or draw a mask that leaves it out."
        ),
        public="text or a code was found in pixels that would be released unchanged",
    ),
    "text_unchecked": Reason(
        text="The search for text failed on this photograph, so it cannot be released.",
        public="it could not be searched for text",
    ),
    "gate_failed": Reason(
        text="No attempt passed the privacy and quality gate.",
        public="no attempt passed the checks of privacy and quality",
    ),
    "passed_with_another_face": Reason(
        text=(
            "It passed only with a different new face than the patient's other photographs show, and failed with "
            "theirs at every attempt. Leave those others out, or set identity to per_photo."
        ),
        public="it passed only with a different new face than the patient's other photographs show",
    ),
    "withheld_by_reviewer": Reason(
        text="A reviewer withheld it: the decision, with its reason, is in private/review.",
        public="a person withheld it",
    ),
    "another_face_asked": Reason(
        text=(
            "A reviewer asked for another face, and none has passed the checks yet. Run the workflow again, or "
            "ask for one more."
        ),
        public="a person asked for another new face, and none passed",
    ),
    "area_wrong": Reason(
        text="A reviewer found the preserved area wrong: draw a mask in `deidlib review`, or name one.",
        public="a person found the preserved area wrong",
    ),
    "reviewers_disagree": Reason(
        text="The two reviewers decided differently. It waits until they agree.",
        public="two people decided differently",
    ),
    "review_pending": Reason(
        text="It waits for a reviewer: run `deidlib review` on the results folder.",
        public="no person has looked at it yet",
    ),
    "release_gate_failed": Reason(
        text="It passed its own checks, but the release as a whole did not: see the report's criteria.",
        public="the release as a whole did not pass",
    ),
}


def text_of(code: str) -> str:
    """What a reason means and how to mend it; empty for a code that no stage of this version gives."""
    return REASONS[code].text if code in REASONS else ""


def public_text_of(code: str) -> str:
    """What a reason means, for recipients; empty for a code that no stage of this version gives."""
    return REASONS[code].public if code in REASONS else ""
