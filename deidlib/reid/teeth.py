"""Attack by the teeth themselves: a released preserved area against another photograph of the patient.

The teeth are the patient's own, whatever the new face. Three features are compared, as in the comparison of
smile photographs in forensic dentistry: the contour of the visible teeth (incisal edges and the lips' border), the
lips' landmarks after registration, and local features (SIFT: Lowe 2004, Int. J. Comput. Vis. 60:91) that agree with one
similarity. Pure functions on pictures and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deidlib.checks.smile import teeth_pixels
from deidlib.reid.attack import Attack, attack_from_trials
from deidlib.vision.alignment import LIPS_INNER, eye_centres

#: Most photographs that are compared with each other.
MOST_PHOTOS = 160
_WIDTH = 320  # px of the area's bounding box, in which local features are looked for
_FEATURES = 60
_RATIO, _RANSAC_PIXELS = 0.8, 6.0
_COLUMNS, _SHIFTS = 32, 3  # of the contour, and how many it is moved at most
_FEWEST_COLUMNS, _FEWEST_PIXELS = 10, 3
_CORNERS = (78, 308)  # inner corners of the mouth
FEATURES = ("local", "contour", "landmarks")
_TITLES = {
    "local": "local features",
    "contour": "contour of the visible teeth",
    "landmarks": "landmarks of the lips",
    "all": "all features together",
}


@dataclass(frozen=True)
class Mouth:
    """Features of one picture of a mouth.

    Attributes
    ----------
    places : ndarray, (n, 2), float32
        Local features, in pixels of the area's box at 320 px width.
    descriptors : ndarray, (n, 128), float32
        Descriptors of the local features.
    contour : ndarray, (2, 32), float32
        Upper and lower edge of the visible teeth along the mouth, in its widths; nan where none is seen.
    landmarks : ndarray, (20, 2), float32
        The lips' inner outline, brought to one place, size and direction; nan where there is no face.
    """

    places: np.ndarray
    descriptors: np.ndarray
    contour: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Seen:
    """One photograph: what was released of it, if it was, and the original."""

    photo: str
    patient: str
    route: str
    timepoint: str | None
    original: Mouth
    released: Mouth | None


def mouth_of(picture: np.ndarray, area: np.ndarray, points: np.ndarray | None) -> Mouth:
    """Measure the preserved area of a picture.

    Parameters
    ----------
    picture : ndarray, (H, W, 3), uint8
        Original or released.
    area : ndarray, (H, W), bool
        The preserved area; nothing else is measured.
    points : ndarray, (478, 2), or None
        Landmarks in pixels of the picture; None where there is no face (intraoral).
    """
    nothing = np.full((2, _COLUMNS), np.nan, np.float32), np.full((len(LIPS_INNER), 2), np.nan, np.float32)
    contour, landmarks = nothing if points is None else (_contour(picture, area, points), _registered(points))
    return Mouth(*_local_features(picture, area), contour, landmarks)


def _local_features(picture: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, top, width, height = cv2.boundingRect(area.astype(np.uint8))
    none = np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    if not width or not height:
        return none
    scale = _WIDTH / width
    size = _WIDTH, max(8, round(height * scale))
    box = np.ascontiguousarray(picture[top : top + height, left : left + width])
    mask = area[top : top + height, left : left + width].astype(np.uint8) * 255
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grey = cv2.cvtColor(cv2.resize(box, size, interpolation=how), cv2.COLOR_RGB2GRAY)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    sift = cv2.SIFT_create(nfeatures=_FEATURES, contrastThreshold=0.02)
    found, descriptors = sift.detectAndCompute(cv2.createCLAHE(2.0, (4, 4)).apply(grey), mask)
    if descriptors is None:
        return none
    return np.array([one.pt for one in found], np.float32), np.sqrt(descriptors / descriptors.sum(axis=1)[:, None])


def _contour(picture: np.ndarray, area: np.ndarray, points: np.ndarray) -> np.ndarray:
    edges = np.full((2, _COLUMNS), np.nan, np.float32)
    left_eye, right_eye = eye_centres(points)
    teeth = teeth_pixels(picture, points, float(np.linalg.norm(right_eye - left_eye)))
    if teeth is None:
        return edges
    inside = (teeth >= 0).all(axis=1) & (teeth < np.array(area.shape[::-1])).all(axis=1)
    teeth = teeth[inside]
    teeth = teeth[area[teeth[:, 1], teeth[:, 0]]]
    left, right = points[list(_CORNERS)].astype(np.float64)
    width = max(float(np.linalg.norm(right - left)), 1.0)
    along = (right - left) / width
    across = np.array([-along[1], along[0]])
    x, y = (teeth - left) @ along / width, (teeth - left) @ across / width
    column = np.floor(x * _COLUMNS).astype(int)
    for k in range(_COLUMNS):
        here = y[column == k]
        if len(here) >= _FEWEST_PIXELS:
            edges[:, k] = np.percentile(here, [2, 98])
    return edges


def _registered(points: np.ndarray) -> np.ndarray:
    lips = points[LIPS_INNER].astype(np.float64)
    lips = lips - lips.mean(axis=0)
    left, right = points[list(_CORNERS)].astype(np.float64)
    along = (right - left) / max(float(np.linalg.norm(right - left)), 1e-9)
    lips = np.column_stack([lips @ along, lips @ np.array([-along[1], along[0]])])
    return (lips / max(float(np.sqrt(np.mean(lips**2))), 1e-9)).astype(np.float32)


def likenesses(probe: Mouth, entry: Mouth) -> np.ndarray:
    """How alike two mouths are by each of :data:`FEATURES`, (3,): more is more alike; nan: not comparable."""
    lips = np.sqrt(np.mean((probe.landmarks - entry.landmarks) ** 2))
    return np.array([_agreeing(probe, entry), -_contour_distance(probe.contour, entry.contour), -float(lips)])


def _agreeing(probe: Mouth, entry: Mouth) -> float:
    """Local features that match and agree with one similarity."""
    if len(probe.places) < 3 or len(entry.places) < 3:
        return float("nan")
    alike = probe.descriptors @ entry.descriptors.T
    best = np.argsort(-alike, axis=1)[:, :2]
    rows = np.arange(len(alike))
    # of unit vectors the distance is √(2 − 2 × inner product)
    first, second = (np.sqrt(np.maximum(2 - 2 * alike[rows, best[:, k]], 0)) for k in (0, 1))
    kept = first < _RATIO * second
    if kept.sum() < 3:
        return float(kept.sum()) / 10
    cv2.setRNGSeed(1)
    _, inliers = cv2.estimateAffinePartial2D(
        probe.places[kept], entry.places[best[kept, 0]], ransacReprojThreshold=_RANSAC_PIXELS, maxIters=200
    )
    return 0.3 if inliers is None else float(inliers.sum())


def _contour_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean squared difference of two contours, moved along and across to where they agree best."""
    least = float("nan")
    for shift in range(-_SHIFTS, _SHIFTS + 1):
        one = a[:, max(0, shift) : _COLUMNS + min(0, shift)]
        other = b[:, max(0, -shift) : _COLUMNS + min(0, -shift)]
        common = ~np.isnan(one[0] + other[0])
        if common.sum() >= _FEWEST_COLUMNS:
            apart = (one - other)[:, common]
            least = np.fmin(least, float(np.sqrt(np.mean((apart - apart.mean()) ** 2))))
    return least


def teeth_attacks(photos: Sequence[Seen], rng: np.random.Generator) -> list[Attack]:
    """Search each released mouth among the other photographs' originals, by each feature and by all.

    Parameters
    ----------
    photos : sequence of Seen
        A sample of the cohort.
    rng : Generator
        For bootstraps, and for draws among entries that tie.

    Returns
    -------
    list of Attack
        ``teeth_local``, ``teeth_contour``, ``teeth_landmarks``, ``teeth_all`` and ``teeth_all_timepoints``: the last
        with the originals of other time points alone.
    """
    probes = [i for i, one in enumerate(photos) if one.released is not None]
    scores = np.full((len(FEATURES), len(probes), len(photos)), np.nan)
    for row, i in enumerate(probes):
        for j, entry in enumerate(photos):
            if i != j:
                scores[:, row, j] = likenesses(photos[i].released, entry.original)
    patients = np.array([one.patient for one in photos], str)
    elsewhere = np.array([[photos[i].timepoint != one.timepoint for one in photos] for i in probes], bool)
    others = np.array(probes, int)[:, None] != np.arange(len(photos))[None, :]
    normal = np.stack([_normal(part) for part in scores]) if len(probes) else scores
    every = {name: normal[k] for k, name in enumerate(FEATURES)} | {"all": normal.sum(axis=0)}
    attacks = [
        _attack(f"teeth_{name}", _TITLES[name], values, photos, probes, others, patients, rng)
        for name, values in every.items()
    ]
    if len({one.timepoint for one in photos} - {None}) > 1:
        later = others & (elsewhere | (patients[None, :] != patients[probes][:, None]))
        title = f"{_TITLES['all']}, another time point"
        attacks.append(_attack("teeth_all_timepoints", title, every["all"], photos, probes, later, patients, rng))
    return attacks


def _normal(scores: np.ndarray) -> np.ndarray:
    """Scores of each probe in units of their spread over the gallery; what was not comparable is the mean."""
    there = ~np.isnan(scores)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    apart = np.where(there, scores - np.where(there, scores, 0).sum(axis=1, keepdims=True) / count, 0)
    return apart / np.maximum(np.sqrt((apart**2).sum(axis=1, keepdims=True) / count), 1e-9)


def _attack(
    name: str,
    title: str,
    scores: np.ndarray,
    photos: Sequence[Seen],
    probes: Sequence[int],
    searched: np.ndarray,
    patients: np.ndarray,
    rng: np.random.Generator,
) -> Attack:
    hits, whose, chances, routes = [], [], [], []
    for row, i in enumerate(probes):
        mine = searched[row] & (patients == patients[i])
        if not mine.any():
            continue
        values = np.where(searched[row], scores[row], -np.inf)
        first = int(rng.choice(np.flatnonzero(values >= values.max() - 1e-9)))
        hits.append(bool(mine[first]))
        whose.append(patients[i])
        chances.append(mine.sum() / searched[row].sum())
        routes.append(photos[i].route)
    return attack_from_trials(
        hits,
        whose,
        rng,
        name=name,
        title=f"The teeth, {title}: rank 1 by another photograph",
        recogniser=None,
        region="region_only",
        chance=float(np.mean(chances)) if chances else None,
        explanation=(
            f"The preserved area alone is searched among {len(photos):,} originals, without the same photograph, by "
            f"the teeth that it shows. A hit is the patient in first place. {_by_route(routes, hits)}People who "
            "are trained for it may find more than this program."
        ),
    )


def _by_route(routes: Sequence[str], hits: Sequence[bool]) -> str:
    counted: Mapping[str, list[bool]] = {route: [] for route in dict.fromkeys(routes)}
    for route, hit in zip(routes, hits, strict=True):
        counted[route].append(hit)
    words = "; ".join(f"{route}: {sum(found)} of {len(found)}" for route, found in counted.items())
    return f"By route: {words}. " if words else "Too few patients have another photograph. "
