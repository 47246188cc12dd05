"""Landmarks: 478 points, 52 blendshapes and head pose by MediaPipe, and the route of each photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np
import pyarrow as pa

from deidlib.contract.routes import INTRAORAL, REGION_ONLY, choose_route
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.vision.alignment import (
    ALIGNED_SIDE,
    LIPS_OUTER,
    aligned_to_native,
    eye_centres,
    invert_similarity,
    points_of,
    transform_points,
)
from deidlib.vision.detectors import YuNet
from deidlib.vision.face_search import FaceSearch

_MOUTH_TOLERANCE = 0.1  # of the face's size, between two detectors' mouths
_BESIDE = 0.5  # of the width of the patient's face: least width of a second face
_CUT_OFF = 0.05  # of a face's size: a face nearer to the picture's border counts as cut off
_READINGS, _WIDER = 8, 0.12  # readings of a face; widest added border, as a share of the picture's side


@dataclass(frozen=True)
class Face:
    """One detected face.

    Attributes
    ----------
    points : ndarray, (478, 2), float32
        Landmarks in pixels of the image given.
    blendshapes : ndarray, (52,), float32
        Expression scores, 0 to 1, in the model's order.
    yaw, pitch, roll : float
        Head pose in degrees. Positive yaw: the face looks to the image's right; positive pitch: down;
        positive roll: clockwise in the image.
    """

    points: np.ndarray
    blendshapes: np.ndarray
    yaw: float
    pitch: float
    roll: float


class FaceLandmarker:
    """MediaPipe Face Landmarker (Tasks API) on single images.

    Parameters
    ----------
    model_file : Path
        ``face_landmarker.task`` from the model registry.
    max_faces : int
        Most faces to report; 2 is enough to distinguish one from several.
    """

    def __init__(self, model_file: Path, max_faces: int = 2):
        options = mp.tasks.vision.FaceLandmarkerOptions(
            base_options=mp.tasks.BaseOptions(model_asset_path=str(model_file)),
            num_faces=max_faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        self._task = mp.tasks.vision.FaceLandmarker.create_from_options(options)

    def close(self) -> None:
        """Free the native graph (MediaPipe complains if this is left to the interpreter's exit)."""
        self._task.close()

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def detect(self, image: np.ndarray) -> list[Face]:
        """Faces in an RGB uint8 image, (H, W, 3)."""
        height, width = image.shape[:2]
        found = self._task.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)))
        faces = []
        for marks, shapes, matrix in zip(
            found.face_landmarks, found.face_blendshapes, found.facial_transformation_matrixes, strict=True
        ):
            points = np.array([(p.x * width, p.y * height) for p in marks], np.float32)
            scores = np.array([s.score for s in shapes], np.float32)
            faces.append(Face(points, scores, *_pose(np.asarray(matrix))))
        return faces

    def detect_steadily(self, image: np.ndarray) -> list[Face]:
        """Faces in an RGB uint8 image, (H, W, 3); the points of a single face are the mean of eight readings.

        For each reading, the picture gets a slightly wider border that repeats its edge pixels. The landmarks depend on
        the square that a coarse detector chooses: two readings of a photograph lie 0.3 to 0.65 % of the inter-ocular
        distance apart at the mouth.
        """
        faces = self.detect(image)
        if len(faces) != 1:
            return faces
        rng, side = np.random.default_rng(0), max(image.shape[:2])
        readings = [faces[0].points]
        for wider in rng.uniform(0, _WIDER, (_READINGS - 1, 4)):
            top, bottom, left, right = np.rint(side * wider).astype(int).tolist()
            again = self.detect(cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE))
            readings += [face.points - np.array([left, top], np.float32) for face in again if len(again) == 1]
        return [replace(faces[0], points=np.mean(readings, axis=0))]


def _pose(matrix: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of a 4×4 face-to-camera transform (x right, y up, z to the camera)."""
    rotation = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
    forward = rotation[:, 2]
    yaw = np.degrees(np.arctan2(forward[0], forward[2]))
    pitch = np.degrees(np.arctan2(-forward[1], np.hypot(forward[0], forward[2])))
    roll = -np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return float(yaw), float(pitch), float(roll)


def _box_around(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Left, top, width and height of the visible part of a face, from its landmarks."""
    low, high = (np.clip(corner, 0, shape[1::-1]) for corner in (points.min(axis=0), points.max(axis=0)))
    return np.concatenate([low, high - low])


def _beside(boxes: np.ndarray, patient: np.ndarray, to_aligned: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether another of the boxes, (N, ≥ 4), may be the patient's face as well.

    A face at least half as wide may be; a smaller one belongs to a person in the background. A face that the picture's
    border cuts off, and whose middle lies outside the generated square, belongs to a second person and does not count.
    """
    for box in boxes[:, :4]:
        corner, size = box[:2], box[2:]
        middle = corner + size / 2
        same = np.all(np.abs(middle - patient[:2] - patient[2:] / 2) < patient[2:] / 2)
        if same or size[0] < _BESIDE * patient[2]:
            continue
        room = _CUT_OFF * size
        cut_off = np.any(corner < room) or np.any(corner + size > np.array(shape[1::-1]) - room)
        x, y = transform_points(to_aligned, middle[None])[0]
        if not cut_off or (0 <= x < ALIGNED_SIDE and 0 <= y < ALIGNED_SIDE):
            return True
    return False


def _mouths_agree(points: np.ndarray, box: np.ndarray) -> bool:
    """Whether MediaPipe's lips agree with the mouth corners of YuNet, which was also trained on profiles."""
    apart = np.hypot(*(points[LIPS_OUTER].mean(axis=0) - box[10:14].reshape(2, 2).mean(axis=0)))
    return apart <= _MOUTH_TOLERANCE * np.sqrt(box[2] * box[3])


def _held(reason: str) -> dict:
    return {"status": tables.QUARANTINED, "reason": reason}


def _face_row(image: np.ndarray, landmarker: FaceLandmarker, boxes: np.ndarray) -> dict:
    faces = landmarker.detect(image)
    if not faces:
        return _held("several_faces" if len(boxes) > 1 else "no_face")
    seen = [_box_around(face.points, image.shape) for face in faces]
    largest = int(np.argmax([box[2] for box in seen]))
    face, patient = faces[largest], seen[largest]
    matrix = aligned_to_native(face.points)
    # each detector overlooks faces that the other one finds
    if any(
        _beside(np.reshape(found, (len(found), -1)), patient, invert_similarity(matrix), image.shape)
        for found in (boxes, seen)
        if len(found)
    ):
        return _held("several_faces")
    left, right = eye_centres(face.points)
    return {
        "points": face.points.reshape(-1),
        "blendshapes": face.blendshapes,
        "yaw": face.yaw,
        "pitch": face.pitch,
        "roll": face.roll,
        "inter_ocular": float(np.hypot(*(right - left))),
        "aligned_to_native": matrix.reshape(-1),
        "status": tables.OK,
    }


def _generate_row(image: np.ndarray, landmarker: FaceLandmarker, detector: YuNet, options: dict) -> dict:
    row = _face_row(image, landmarker, detector.detect(image))
    if row["status"] == tables.OK and abs(row["yaw"]) > options["max_yaw"]:
        row |= _held("yaw_too_large")
    elif row["status"] == tables.OK and row["inter_ocular"] < options["min_inter_ocular"]:
        row |= _held("face_too_small")
    return row


def _region_only_row(image: np.ndarray, landmarker: FaceLandmarker, detector: YuNet) -> dict:
    """Landmarks of a head in any pose. If two detectors disagree about the mouth, a clinician has to draw a mask."""
    boxes = detector.detect(image)
    row = _face_row(image, landmarker, boxes)
    if row["status"] == tables.OK and len(boxes) and _mouths_agree(points_of(row), boxes[0]):
        return row
    return _held("several_faces" if row.get("reason") == "several_faces" else "mask_needed")


def _landmark_row(
    photo: dict,
    landmarker: FaceLandmarker,
    detector: YuNet,
    search: FaceSearch,
    options: dict,
    views: Mapping[str, str],
) -> dict:
    route = choose_route(photo["view"], photo["mask"] is not None, views)
    if route is None:
        return _held("view_refused")
    if route == REGION_ONLY and photo["mask"] is not None:
        row = {"status": tables.OK}  # the mask gives the area
    elif route == REGION_ONLY:
        row = _region_only_row(decode_png(photo["image"]), landmarker, detector)
    elif route == INTRAORAL:
        seen = search.finds(decode_png(photo["image"]))
        row = _held("face_in_intraoral") if seen else {"status": tables.OK}
    else:
        row = _generate_row(decode_png(photo["image"]), landmarker, detector, options)
    return {"route": route, **row}


def find_landmarks(
    photos: pa.Table,
    model_file: Path,
    detector: YuNet,
    options: dict,
    views: Mapping[str, str],
    progress: Callable[[], None] | None = None,
) -> pa.Table:
    """Route of every photograph that intake passed, and the landmarks that its route needs.

    Parameters
    ----------
    photos : Table
        ``tables.PHOTOS``.
    model_file : Path
        MediaPipe's ``face_landmarker.task``.
    detector : YuNet
        Counts the people in the photograph.
    options : dict
        ``max_yaw`` (degrees) and ``min_inter_ocular`` (pixels, native frame) of a face to be generated.
    views : mapping
        View → route, see :func:`deidlib.contract.routes.choose_route`.
    progress : callable, optional
        Called once for each photograph.

    Returns
    -------
    Table
        ``tables.LANDMARKS``, one row for each photograph that intake passed.
    """
    rows = []
    columns = ["release_photo_id", "view", "image", "mask"]
    with FaceLandmarker(model_file) as landmarker:
        search = FaceSearch(detector, landmarker)
        for photo in tables.handled(photos).select(columns).to_pylist():
            row = _landmark_row(photo, landmarker, detector, search, options, views)
            rows.append({"release_photo_id": photo["release_photo_id"], **row})
            if progress:
                progress()
    return tables.from_rows(rows, tables.LANDMARKS)
