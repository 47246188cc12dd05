"""The gate: all checks of one attempt on one shard, and the verdict on each photograph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.blending.masking import outside_is_neutral
from deidlib.checks import measures, smile
from deidlib.contract.checks import failed_checks, not_applicable
from deidlib.contract.routes import INTRAORAL, REGION_ONLY
from deidlib.logs import say
from deidlib.regions.area import cut_region, cut_square
from deidlib.regions.text import Search, text_in_area
from deidlib.storage import tables
from deidlib.storage.images import decode_png, pixels_sha256
from deidlib.storage.png import png_problems

#: Recogniser → the column of its score, and the function that picks the most similar of several photographs' scores.
SCORES: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "sface": ("sface_cosine", max),
    "dlib": ("dlib_distance", min),
}

#: Recogniser → the detector that it uses to find its face.
_DETECTOR_OF = {"sface": "yunet", "dlib": "dlib"}

#: Errors of OpenCV, dlib, MediaPipe and the decoders on an image that they cannot handle.
_UNABLE = (cv2.error, RuntimeError, ValueError)


def check_photos(
    photos: pa.Table,
    regions: pa.Table,
    blended: pa.Table,
    faces: pa.Table,
    judges: Mapping[str, Any],
    detectors: Mapping[str, Any],
    search: Any,
    realism: Any,
    options: Mapping[str, float],
    progress: Callable[[], None] | None = None,
) -> pa.Table:
    """Run every check on every photograph of one attempt.

    A result is compared with every photograph of the same patient. The photograph it was made of must be
    among those that a recogniser can compare; another photograph in which the recogniser finds no face is
    left out and counted in the log.

    Parameters
    ----------
    photos : Table
        ``tables.PHOTOS`` of the whole shard (a patient's photographs are all in one shard).
    regions, blended, faces : Table
        ``tables.REGIONS`` of the shard; ``tables.BLENDED`` of the attempt, and ``release_photo_id``, ``donor_id`` and
        ``latent_distance`` of its ``tables.FACES``.
    judges : mapping
        ``sface`` and ``dlib``: recognisers with ``embed(image)`` and ``compare(a, b)``, as in
        ``deidlib.reid``.
    detectors : mapping
        ``yunet`` and ``mediapipe``: face detectors with ``detect(image)``; the former also with ``second_face(image)``,
        the latter with ``detect_steadily(image)``, whose faces have ``points``; and ``text``, a function
        (:data:`deidlib.regions.text.Search`).
    search
        :class:`deidlib.vision.face_search.FaceSearch`: looks for faces in the results that must not show one.
    realism
        :class:`deidlib.checks.realism.Realism`: scores the generated face.
    options : mapping
        The bounds (:mod:`deidlib.contract.checks`): options of the stage ``checks``.
    progress : callable, optional
        Called once for each photograph.

    Returns
    -------
    Table
        ``tables.CHECKS``, one row for each row of ``blended``. A row that blending could not handle fails
        every check.
    """
    sources = _Sources(photos, judges)
    region_of = {row["release_photo_id"]: row for row in tables.handled(regions).to_pylist()}
    face_of = {row["release_photo_id"]: row for row in faces.to_pylist()}
    rows = []
    for index in range(blended.num_rows):
        (row,) = blended.slice(index, 1).to_pylist()
        photo_id = row["release_photo_id"]
        region = region_of.get(photo_id, {})
        route, faceless = region.get("route"), []
        face = face_of.get(photo_id, {})
        values = {"seam": row["seam"], "latent_distance": face.get("latent_distance")}
        if row["status"] == tables.OK and route in (REGION_ONLY, INTRAORAL):
            measured, faceless = _measured_without_face(row["image"], photo_id, region, sources, judges, search)
            values |= measured
        elif row["status"] == tables.OK and region:
            values |= _measured(row["image"], photo_id, region, sources, judges, detectors, realism)
        if row["status"] == tables.OK and region:
            values["text_free"] = _text_free(row["image"], region, detectors["text"])
        judged = {"route": route, **values, "not_applicable": not_applicable(route, faceless)}
        failed = failed_checks(judged, options, region.get("method"))
        rows.append(
            {
                "release_photo_id": photo_id,
                "release_patient_id": sources.patient_of[photo_id],
                "attempt": row["attempt"],
                "donor_id": face.get("donor_id"),
                **judged,
                "sha256": None if row["image"] is None else hashlib.sha256(row["image"]).hexdigest(),
                "passed": not failed,
                "failed": failed,
            }
        )
        if progress:
            progress()
    for name, (lost, compared) in sources.uncompared().items():
        if lost:
            say(f"checks: {name} finds no face in {lost} of the {compared} source photographs compared with")
    return tables.from_rows(rows, tables.CHECKS)


class _Sources:
    """The shard's source photographs: decoded on demand, embedded once."""

    def __init__(self, photos: pa.Table, judges: Mapping[str, Any]):
        self._photos = tables.handled(photos)
        ids, patients = (self._photos[name].to_pylist() for name in ("release_photo_id", "release_patient_id"))
        self.patient_of = dict(zip(ids, patients, strict=True))
        self._judges = judges
        self._embeddings: dict[str, dict[str, np.ndarray | None]] = {}

    def image(self, photo_id: str) -> np.ndarray | None:
        """Decode the photograph; None if its pixels are not those of intake (by their SHA-256)."""
        row = self._photos.filter(pc.equal(self._photos["release_photo_id"], photo_id)).to_pylist()[0]
        image = decode_png(row["image"])
        return image if pixels_sha256(image) == row["pixels_sha256"] else None

    def of_same_patient(self, photo_id: str) -> list[str]:
        return [other for other, patient in self.patient_of.items() if patient == self.patient_of[photo_id]]

    def embeddings(self, photo_id: str) -> dict[str, np.ndarray | None]:
        """Recogniser → embedding of the photograph, None where it finds no face."""
        if photo_id not in self._embeddings:
            image = self.image(photo_id)
            self._embeddings[photo_id] = {
                name: None if image is None else _attempted(judge.embed, image) for name, judge in self._judges.items()
            }
        return self._embeddings[photo_id]

    def uncompared(self) -> dict[str, tuple[int, int]]:
        """Recogniser → number of photographs that it could not embed, and number of all."""
        return {
            name: (sum(found[name] is None for found in self._embeddings.values()), len(self._embeddings))
            for name in self._judges
        }


def _attempted(function: Callable, *arguments: Any) -> Any:
    """Run a model; None if it cannot handle the image, and then the check has no value and fails."""
    try:
        return function(*arguments)
    except _UNABLE:
        return None


def _measured(
    data: bytes, photo_id: str, region: dict, sources: _Sources, judges: Mapping, detectors: Mapping, realism: Any
) -> dict[str, Any]:
    result = _attempted(decode_png, data)
    if result is None or result.dtype != np.uint8 or result.ndim != 3:
        return {"metadata_free": False}
    boxes = _attempted(detectors["yunet"].detect, result)
    result_faces = _attempted(detectors["mediapipe"].detect_steadily, result)
    return {
        **_likeness(result, photo_id, sources, judges),
        "faces_yunet": None if boxes is None else len(boxes),
        "faces_mediapipe": None if result_faces is None else len(result_faces),
        "second_face": _attempted(detectors["yunet"].second_face, result),
        **_fidelity(result, result_faces or [], sources.image(photo_id), region, detectors["mediapipe"], realism),
        "metadata_free": not png_problems(data),
    }


def _measured_without_face(
    data: bytes, photo_id: str, region: dict, sources: _Sources, judges: Mapping, search: Any
) -> tuple[dict[str, Any], list[str]]:
    """Measure a result that must show no face, and list the checks whose recogniser found no face in it."""
    result = _attempted(decode_png, data)
    if result is None or result.dtype != np.uint8 or result.ndim != 3:
        return {"metadata_free": False}, []
    found = _attempted(search.count, result)
    source, core = sources.image(photo_id), decode_png(region["core"])
    crop, inside = (None, None) if source is None else cut_region(source, region)
    values = {
        **({f"faces_{name}": number for name, number in found.items()} if found is not None else {}),
        "core_equal": crop is not None and measures.core_equals(crop, result, core, inside),
        "outside_neutral": outside_is_neutral(result, core) if region["route"] == REGION_ONLY else None,
        "metadata_free": not png_problems(data),
    }
    faceless = []
    for name, judge in judges.items():
        if found is not None and found[_DETECTOR_OF[name]] == 0 and _finds_no_face(judge, result):
            faceless.append(SCORES[name][0])
        else:
            values |= _likeness(result, photo_id, sources, {name: judge})
    return values, faceless


def _text_free(data: bytes, region: dict, find_text: Search) -> bool | None:
    """Whether neither the source (searched by the regions stage) nor the result has text in its released pixels."""
    result = _attempted(decode_png, data)
    if result is None or region["text_boxes"] is None:
        return None
    area = (decode_png(region["core"]) > 0) | (decode_png(region["band"]) > 0)
    if result.shape != (*area.shape, 3):
        return None
    try:
        return not (region["text_boxes"] or text_in_area(result, area, find_text))
    except Exception:  # any failure counts: a result that was not searched does not pass
        return None


def _finds_no_face(judge: Any, image: np.ndarray) -> bool:
    """Whether a recogniser can handle the image and finds no face in it; False if it fails."""
    try:
        return judge.embed(image) is None
    except _UNABLE:
        return False


def _likeness(result: np.ndarray, photo_id: str, sources: _Sources, judges: Mapping) -> dict[str, float | None]:
    """Score the result against the patient's photographs; the score of the most similar one counts."""
    others = sources.of_same_patient(photo_id)
    scores = {}
    for name, judge in judges.items():
        column, most_alike = SCORES[name]
        probe = _attempted(judge.embed, result)
        if probe is None or sources.embeddings(photo_id)[name] is None:
            scores[column] = None
            continue
        known = (sources.embeddings(other)[name] for other in others)
        found = [float(judge.compare(probe, one)) for one in known if one is not None]
        # max and min with NaN depend on the order, so a single NaN makes the score missing.
        scores[column] = most_alike(found) if np.isfinite(found).all() else None
    return scores


def _fidelity(
    result: np.ndarray, result_faces: list, source: np.ndarray | None, region: dict, landmarker: Any, realism: Any
) -> dict[str, Any]:
    """Compare the result with the same square of its source, by pixels and by landmarks."""
    side = region["crop_side"]
    if source is None or result.shape != (side, side, 3):
        return {"core_equal": False}
    crop, inside = cut_square(source, region["crop_left"], region["crop_top"], side)
    core, band = decode_png(region["core"]), decode_png(region["band"])
    outside = inside & (core == 0) & (band == 0)
    source_faces = _attempted(landmarker.detect_steadily, crop) or []
    single = len(source_faces) == len(result_faces) == 1
    points = (source_faces[0].points, result_faces[0].points) if single else None
    return {
        "core_equal": measures.core_equals(crop, result, core, inside),
        "survival": measures.block_survival(crop, result, outside),
        "mouth_shift": measures.mouth_shift(*points) if points else None,
        # Aligned by the source's landmarks, because a broken face would shift its own frame.
        "realism": _attempted(realism.score, result, points[0], core | band) if points else None,
        **(smile.before_and_after(crop, points[0], result, points[1]) if points else {}),
    }
