"""Findings of the checks, in words for a person who looks at the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Failed check → what to look at.
FAILED: dict[str, str] = {
    "sface_cosine": "A face recogniser takes the new face for the patient.",
    "dlib_distance": "A face recogniser takes the new face for the patient.",
    "faces_yunet": "A detector does not find what it should: one face, or none where no face was made.",
    "faces_mediapipe": "A detector does not find what it should: one face, or none where no face was made.",
    "faces_dlib": "A detector finds a face where none should be.",
    "second_face": "Somebody else may stand beside the new face, or be cut by the edge of the picture.",
    "core_equal": "The preserved area is not the patient's own, pixel for pixel.",
    "survival": "Something of the original shows outside the preserved area.",
    "seam": "The edge of the preserved area shows.",
    "mouth_shift": "The mouth is not where it is in the original.",
    "latent_distance": "The new face may look unnatural.",
    "realism": "The new face may look unnatural.",
    "outside_neutral": "Something outside the preserved area is not plain grey.",
    "metadata_free": "The file holds more than pixels.",
}

#: Check → (the bound's option, whether the bound is an upper one, share of it from which on a remark is made, words).
_NEAR = {
    "sface_cosine": ("sface_max", True, 0.8, "Would you know the patient? One face recogniser was not far from it."),
    "dlib_distance": ("dlib_min", False, 1.1, "Would you know the patient? One face recogniser was not far from it."),
    "seam": ("seam_max", True, 0.75, "Look at the edge of the preserved area: a slight seam was measured."),
    "mouth_shift": ("mouth_shift_max", True, 0.75, "Look at the mouth: its outline moved a little."),
    "second_face": ("second_face_max", True, 0.5, "Look at the sides: a detector suspects a part of a second face."),
    "latent_distance": ("latent_distance_max", True, 0.9, "Look at eyes, ears and hair: this face is an unusual one."),
}


def failures(names: Iterable[str]) -> list[str]:
    """Say what the failed checks mean; each sentence once."""
    return list(dict.fromkeys(FAILED.get(name, f"The check {name.replace('_', ' ')} failed.") for name in names))


def near_misses(check: Mapping, bounds: Mapping) -> list[str]:
    """Say where a result that passed came near a bound.

    Parameters
    ----------
    check : mapping
        A row of tables.CHECKS.
    bounds : mapping
        The gate's bounds: options of the stage ``checks``.
    """
    words = []
    for name, (key, upper, share, text) in _NEAR.items():
        value, bound = check.get(name), bounds.get(key)
        if value is None or bound is None:
            continue
        if value >= share * bound if upper else value <= share * bound:
            words.append(text)
    return list(dict.fromkeys(words))
