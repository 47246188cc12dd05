"""Soft biometrics: numbers that a picture shows of a person without a face recogniser; and people who look alike.

The new face shares some of them with the patient on purpose (apparent sex, age class, skin tone, pose), so that the
mouth fits. The attacks use all of them, and chance is also computed among people of the same look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.spatial import cKDTree

from deidlib.donors.features import FEATURE_SIDE, SKIN_PATCHES, measure
from deidlib.donors.fit import tone
from deidlib.reid.embeddings import Faces, show_only
from deidlib.reid.search import nearest
from deidlib.vision.alignment import (
    ALIGNED_SIDE,
    FACE_OVAL,
    LEFT_EYE,
    LIPS_OUTER,
    RIGHT_EYE,
    align_photo,
    aligned_to_native,
    invert_similarity,
    transform_points,
)

if TYPE_CHECKING:  # MediaPipe is slow to load
    from deidlib.vision.detectors import AgeSex
    from deidlib.vision.landmarks import Face, FaceLandmarker

_BROWS = [70, 63, 105, 66, 107, 336, 296, 334, 293, 300]
_NOSE = [168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 48, 278]
_SHAPE = [*FACE_OVAL, *LEFT_EYE, *RIGHT_EYE, *_BROWS, *_NOSE, *LIPS_OUTER]
_GAZE = slice(11, 19)  # eyeLook… of MediaPipe's blendshapes
_SIZES = {"skin": 27, "tone": 3, "age": 1, "sex": 1, "pose": 3, "gaze": 8, "geometry": 2 * len(_SHAPE)}
_ENDS = np.cumsum(list(_SIZES.values()))
#: Kind of soft biometric → its values in a look.
KINDS = {name: slice(int(end) - size, int(end)) for (name, size), end in zip(_SIZES.items(), _ENDS, strict=True)}
LOOK_VALUES = int(_ENDS[-1])
TITLES = {
    "skin": "colour of nine patches of skin",
    "tone": "skin tone",
    "age": "apparent age",
    "sex": "apparent sex",
    "pose": "pose of the head",
    "gaze": "gaze",
    "geometry": "shape of the face from landmarks",
}
#: Others among whom a patient is searched: those of the cohort who look most alike.
LOOK_ALIKES = 4
#: From so many people on, they are found by a k-d tree: comparing each with each grows with the square.
TREE_FROM = 20_000
_YEARS, _LAB, _SEX = 10.0, 5.0, 0.25  # one unit of difference in look
#: Individual typology angle in degrees (Chardon et al. 1991, Int. J. Cosmet. Sci. 13:191) below which a tone is darker.
_TONE_CLASSES = (-30.0, 10.0, 28.0, 41.0, 55.0)


class LookMeter:
    """Measures looks.

    Parameters
    ----------
    landmarker : FaceLandmarker
        Finds the face.
    age_sex : AgeSex
        Apparent age and sex.
    """

    def __init__(self, landmarker: FaceLandmarker, age_sex: AgeSex):
        self._landmarker, self._age_sex = landmarker, age_sex

    def find(self, picture: np.ndarray) -> Face | None:
        """The face of a picture, (H, W, 3), with points in its pixels; None where none is found."""
        try:
            found = self._landmarker.detect(picture)
        except (RuntimeError, ValueError):
            return None
        return max(found, key=lambda face: float(np.ptp(face.points[:, 0]))) if found else None

    def look(self, picture: np.ndarray, face: Face | None, visible: np.ndarray | None = None) -> np.ndarray | None:
        """Measure a picture.

        Parameters
        ----------
        picture : ndarray, (H, W, 3), uint8
            Any square of a photograph.
        face : Face or None
            Its face.
        visible : ndarray, (H, W), bool, optional
            The part of the picture that the attacker sees. Pose and gaze, and patches and landmarks outside this part,
            are then not measured.

        Returns
        -------
        ndarray, (LOOK_VALUES,), float32, or None
            The values of :data:`KINDS`, nan where one is not measured: CIE Lab, years, probability of female, degrees,
            blendshape scores, and sides of the aligned frame. None without a face.
        """
        if face is None:
            return None
        matrix = aligned_to_native(face.points)
        points = transform_points(invert_similarity(matrix), face.points.astype(np.float64))
        shown = picture if visible is None else show_only(picture, visible)
        try:
            found = measure(align_photo(shown, matrix, FEATURE_SIDE), points, face, self._age_sex)
        except (cv2.error, RuntimeError, ValueError):
            return None
        skin, shape = found["skin"], points[_SHAPE] / ALIGNED_SIDE
        pose = np.array([face.yaw, face.pitch, face.roll])
        gaze, colour = face.blendshapes[_GAZE], tone(skin.astype(np.float64))[:3]
        if visible is not None:
            places = np.round(face.points).astype(int)
            seen = visible[tuple(np.clip(places, 0, np.array(visible.shape[::-1]) - 1).T[::-1])]
            skin = np.where(seen[list(SKIN_PATCHES.values()), None], skin, np.nan)
            shape = np.where(seen[_SHAPE, None], shape, np.nan)
            pose, gaze, colour = np.full(3, np.nan), np.full(_SIZES["gaze"], np.nan), _mean_lab(picture, visible)
        parts = (skin.ravel(), colour, [found["age"]], [found["female"]], pose, gaze, shape.ravel())
        return np.concatenate([np.asarray(part, np.float32) for part in parts])


def _mean_lab(picture: np.ndarray, visible: np.ndarray) -> np.ndarray:
    if not visible.any():
        return np.full(3, np.nan)
    lab = cv2.cvtColor(picture[visible][None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab[0].mean(axis=0)


def tone_class(lab: np.ndarray) -> np.ndarray:
    """Class of skin tone, from 0 (dark) to 5 (very light), of colours (..., 3) in CIE Lab, by the typology angle."""
    lab = np.asarray(lab, np.float64)
    return np.digitize(np.degrees(np.arctan2(lab[..., 0] - 50, lab[..., 2])), _TONE_CLASSES)


@dataclass(frozen=True)
class PeopleLooks:
    """Looks of the patients of a cohort: means over their originals.

    Attributes
    ----------
    people : ndarray, (P,), str
        Patients, sorted.
    place : ndarray, (P, 5)
        Apparent sex, age and tone, in units of difference in look; nan for people who were not measured.
    classes : ndarray, (P,), int
        People with the same number have the same apparent sex, decade of age and class of tone; −1: not measured.
    groups : ndarray, (P, 3), int
        Apparent sex (1: female), decade of age and class of tone (:func:`tone_class`); −1: not measured.
    """

    people: np.ndarray
    place: np.ndarray
    classes: np.ndarray
    groups: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))
    _found: dict[tuple, dict[str, list[str]]] = field(default_factory=dict, repr=False, compare=False)

    def alike(self, patients: np.ndarray, rng: np.random.Generator) -> dict[str, list[str]]:
        """The most alike others of each of these patients: :data:`LOOK_ALIKES` of them, or all there are.

        People who were not measured are placed at random, so that the others of their search are random, too. Several
        attacks ask for the same patients with the same random state: these are compared once.
        """
        wanted = np.unique(np.asarray(patients, str))
        key = hashlib.sha256(wanted.tobytes()).digest(), wanted.dtype.str, repr(rng.bit_generator.state)
        if key not in self._found:
            self._found[key] = self._alike(wanted, rng)
        return self._found[key]

    def _alike(self, wanted: np.ndarray, rng: np.random.Generator) -> dict[str, list[str]]:
        place = rng.normal(size=(len(wanted), self.place.shape[1]))
        _, known, at = np.intersect1d(wanted, self.people, assume_unique=True, return_indices=True)
        place[known] = np.where(np.isnan(self.place[at]), place[known], self.place[at])
        place += 1e-4 * rng.normal(size=place.shape)  # equal people come in random order
        place = place.astype(np.float32)
        if len(wanted) < 2:
            return {name: [] for name in wanted.tolist()}
        names = wanted.tolist()  # one text a patient, however often it is named
        found = _nearest_places(place, LOOK_ALIKES + 1).tolist()
        return {
            name: [names[other] for other in row if other != k][:LOOK_ALIKES]
            for k, (name, row) in enumerate(zip(names, found, strict=True))
        }

    def class_of(self, patients: np.ndarray) -> np.ndarray:
        """Class of each of these patients, −1 where not measured."""
        table = dict(zip(self.people.tolist(), self.classes.tolist(), strict=True))
        return np.array([table.get(patient, -1) for patient in np.asarray(patients, str).tolist()], int)


def _nearest_places(place: np.ndarray, k: int) -> np.ndarray:
    """Rows, (P, k), of the nearest places of each, (P, 5), itself included; at most P."""
    if len(place) < TREE_FROM:
        return nearest(place, place, k, same_above=False)[1]
    return cKDTree(place).query(place, k)[1]


#: Looks of a cohort that was not measured.
NOBODY = PeopleLooks(np.zeros(0, str), np.zeros((0, 5)), np.zeros(0, int))


def people_looks(originals: Faces) -> PeopleLooks:
    """Looks of the patients, from the looks of their originals (``vectors`` are looks)."""
    if not len(originals):
        return NOBODY
    people, place = np.unique(originals.patients, return_inverse=True)
    chosen = np.concatenate(
        [originals.vectors[:, KINDS[name]].astype(np.float64) for name in ("sex", "age", "tone")], axis=1
    )
    there = ~np.isnan(chosen)
    total, count = (np.zeros((len(people), chosen.shape[1])) for _ in range(2))
    np.add.at(total, place, np.where(there, chosen, 0))
    np.add.at(count, place, there)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    found = np.column_stack([mean[:, 0] >= 0.5, np.floor(mean[:, 1] / _YEARS), tone_class(mean[:, 2:])])
    measured = ~np.isnan(mean).any(axis=1)
    groups = np.where(measured[:, None], found, -1).astype(int)
    _, classes = np.unique(groups, axis=0, return_inverse=True)
    units = np.array([_SEX, _YEARS, _LAB, _LAB, _LAB])
    return PeopleLooks(people, mean / units, np.where(measured, classes.reshape(-1), -1), groups)


def standardised(probes: Faces, gallery: Faces, kinds: Mapping[str, slice] = KINDS) -> tuple[Faces, Faces]:
    """Standardise looks so that their Euclidean distance measures similarity.

    Every value is taken as a deviation from the mean of its own set (the method may shift a value of all its faces), in
    units of the gallery's standard deviation. Each kind has the same weight, however many values it has. Missing values
    are replaced by the mean.

    Parameters
    ----------
    probes, gallery : Faces
        Looks of the probes and of the gallery.
    kinds : mapping
        Kinds to use: name → values.
    """
    if not len(gallery):
        return probes, gallery
    shifted = probes if len(probes) >= _SHIFT_OF else gallery
    return (
        replace(probes, vectors=_Standardised(probes, shifted, gallery, kinds)),
        replace(gallery, vectors=_Standardised(gallery, gallery, gallery, kinds)),
    )


@dataclass(frozen=True)
class _Standardised:
    """Standardised looks, (N, D), in float32: computed when the first rows are asked for, since many never are.

    Attributes
    ----------
    faces : Faces
        The looks.
    own, gallery : Faces
        Looks whose mean is subtracted, and by whose standard deviation is divided.
    kinds : mapping
        As for :func:`standardised`.
    """

    faces: Faces
    own: Faces
    gallery: Faces
    kinds: Mapping[str, slice]

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self._values[rows]

    @cached_property
    def _values(self) -> np.ndarray:
        places = np.concatenate([np.arange(where.start, where.stop) for where in self.kinds.values()])
        weight = np.concatenate(
            [np.full(where.stop - where.start, np.sqrt(where.stop - where.start)) for where in self.kinds.values()]
        )
        mean, spread = self.own.mean[places], self.gallery.deviation[places]
        spread = np.where(np.nan_to_num(spread) > 1e-6, spread, np.inf)
        found = np.empty((len(self.faces), len(places)), np.float32)
        for start in range(0, len(found), _ROWS):  # some rows at a time: between, they take twice the room
            rows = slice(start, start + _ROWS)
            found[rows] = np.nan_to_num((self.faces.vectors[rows][:, places] - mean) / spread, nan=0.0) / weight
        return found


_ROWS = 65_536  # of looks that are computed at a time
_SHIFT_OF = 8  # fewest photographs from which a method's mean shift can be estimated
