"""The donor bank: at least 2 000 synthetic identities with what is needed to match them to a patient."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch

from deidlib.donors.background import clutter
from deidlib.donors.features import EXPRESSION, FEATURE_SIDE, GEOMETRY_POINTS, SKIN_PATCHES, measure
from deidlib.donors.glasses import glasses_score
from deidlib.donors.headwear import headwear_score
from deidlib.errors import InputError
from deidlib.models import DATA_FOLDER
from deidlib.storage import tables
from deidlib.vision.alignment import ALIGNED_SIDE, aligned_to_native, transform_points
from deidlib.vision.detectors import AgeSex, YuNet
from deidlib.vision.landmarks import FaceLandmarker

BANK_FILE = DATA_FOLDER / "donors-mobilestylegan.parquet"
_TRUNCATION = (0.55, 0.9)  # ψ: below, faces are alike; above, artefacts begin
_MAX_YAW = 45.0
_MISPLACED = 0.06  # of the frame; the default generator's faces: median 0.011, largest of 30 0.031
SCALARS = ("yaw", "pitch", *EXPRESSION, "age", "female", "glasses", "headwear", "clutter", "second_face")


@dataclass(frozen=True)
class Looks:
    """What several faces look like, as arrays, one row a face: see ``tables.BANK`` for the meaning of each."""

    scalars: dict[str, np.ndarray]  # by the names in SCALARS: each (N,)
    geometry: np.ndarray  # (N, 58, 2)
    skin: np.ndarray  # (N, 9, 3)
    sface: np.ndarray  # (N, 128)


@dataclass(frozen=True)
class Bank(Looks):
    """The bank: latent codes, dlib's embeddings, and the looks of the faces."""

    w: np.ndarray  # (N, 512) float64
    dlib: np.ndarray  # (N, 128)

    def __len__(self) -> int:
        return len(self.w)


def read_bank(path: Path = BANK_FILE) -> Bank:
    """Read a bank that :func:`build_bank` made."""
    table = tables.read(path, tables.BANK)

    def stacked(name: str, *shape: int) -> np.ndarray:
        return np.asarray(table[name].combine_chunks().flatten(), np.float64).reshape(len(table), *shape)

    return Bank(
        w=stacked("w", 512),
        scalars={n: table[n].to_numpy() for n in SCALARS},
        geometry=stacked("geometry", -1, 2),
        skin=stacked("skin", -1, 3),
        sface=stacked("sface", 128),
        dlib=stacked("dlib", 128),
    )


def truncated_codes(generator: torch.nn.Module, n: int, seed: int) -> np.ndarray:
    """N codes w, (n, 512) float16, drawn with a truncation ψ that varies over the bank's range."""
    rng = np.random.default_rng(seed)
    place = next(generator.parameters()).device

    def mapped(k: int) -> torch.Tensor:
        with torch.no_grad():
            return generator.map(torch.from_numpy(rng.standard_normal((k, 512)).astype(np.float32)).to(place)).cpu()

    mean, w = mapped(20000).mean(0), mapped(n)
    psi = torch.from_numpy(rng.uniform(*_TRUNCATION, (n, 1)).astype(np.float32))
    return (mean + psi * (w - mean)).numpy().astype(np.float16)


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """(N, 3, H, W) in [−1, 1] to (N, H, W, 3) uint8."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def drawn(codes: np.ndarray, network: torch.nn.Module, workers: int = 1) -> np.ndarray:
    """Previews, (n, 256, 256, 3) uint8, of codes w, (n, 512).

    They are drawn one by one, which is faster than all at once; ``workers`` at a time, which changes no pixel.
    """
    w = torch.from_numpy(codes.astype(np.float32))[:, None].expand(-1, network.n_styles, -1)

    def draw(one: torch.Tensor) -> np.ndarray:
        with torch.no_grad():  # of this thread
            return to_uint8(network.preview(one))

    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(draw, w.split(1))))


def build_bank(
    generator: torch.nn.Module,
    landmarker: FaceLandmarker,
    detector: YuNet,
    sface,
    dlib,
    facexzoo,
    age_sex: AgeSex,
    size: int = 2048,
    seed: int = 2307,
    progress: Callable[[], None] | None = None,
) -> pa.Table:
    """Draw and describe donors until ``size`` of them qualify.

    An entry qualifies if MediaPipe and YuNet agree that it shows one face, the three recognisers embed it
    (``facexzoo`` its preview), and its |yaw| is at most 45°. A generator whose faces do not lie where FFHQ's alignment
    puts them is an error.

    Returns
    -------
    Table
        ``tables.BANK``.
    """
    rows: list[dict] = []
    places: list[float] = []
    place = next(generator.parameters()).device
    for codes in np.array_split(truncated_codes(generator, size + size // 8, seed), (size + size // 8) // 4):
        w = torch.from_numpy(codes.astype(np.float32)).to(place)[:, None].expand(-1, generator.n_styles, -1)
        with torch.no_grad():
            images = torch.nn.functional.avg_pool2d(generator.synthesise(w).float(), ALIGNED_SIDE // FEATURE_SIDE)
            small = to_uint8(generator.preview(w))
        for code, image, preview in zip(codes, to_uint8(images), small, strict=True):
            row = _describe(image, landmarker, detector, sface, dlib, age_sex)
            witness = None if row is None else facexzoo.embed(_enlarged(preview))
            if witness is not None and len(rows) < size:
                places.append(row.pop("misplaced"))
                if len(places) == min(16, size) and np.median(places) > _MISPLACED:
                    raise InputError(
                        "the generator's faces do not lie where FFHQ's alignment puts them: use weights trained on "
                        "aligned FFHQ images (not on FFHQ-U)"
                    )
                row |= {"facexzoo": witness.astype(np.float16), **preview_scalars(preview, detector)}
                rows.append({"bank_id": len(rows), "w": code, **row})
                if progress:
                    progress()
        if len(rows) == size:
            return tables.from_rows(rows, tables.BANK)
    raise InputError(f"only {len(rows)} of {size} donors qualify: is this a face generator?")


def preview_scalars(preview: np.ndarray, detector: YuNet) -> dict[str, float]:
    """Scores of a preview, (256, 256, 3) uint8: glasses, headwear, background clutter, a second face."""
    return {
        "glasses": glasses_score(preview),
        "headwear": headwear_score(preview),
        "clutter": clutter(preview),
        "second_face": detector.second_face(preview),
    }


def misplacement(points: np.ndarray) -> float:
    """How far a generated face lies from where FFHQ's alignment would put it: RMS shift of the frame's corners.

    Parameters
    ----------
    points : ndarray, (478, 2)
        Landmarks in pixels of the 1024² aligned frame.

    Returns
    -------
    float
        As a fraction of the frame's side.
    """
    last = ALIGNED_SIDE - 1
    corners = np.array([[0, 0], [last, 0], [0, last], [last, last]], np.float64)
    shifts = transform_points(aligned_to_native(points), corners) - corners
    return float(np.sqrt(np.mean(np.sum(shifts**2, axis=1))) / ALIGNED_SIDE)


def describe_faces(
    faces: np.ndarray, landmarker: FaceLandmarker, detector: YuNet, sface, age_sex: AgeSex
) -> tuple[Looks, np.ndarray]:
    """What the generator's previews, (n, 256, 256, 3) uint8, look like.

    Returns
    -------
    looks : Looks
        The row of a preview without a face holds zeros.
    found : ndarray, (n,), bool
        Whether each shows exactly one face that SFace can embed.
    """
    rows: list[dict | None] = []
    for small in faces:
        image = _enlarged(small)
        found, embedding = landmarker.detect(image), sface.embed(image)
        if len(found) != 1 or embedding is None:
            rows.append(None)
            continue
        points = (found[0].points + 0.5) * (ALIGNED_SIDE / FEATURE_SIDE) - 0.5
        row = measure(image, points, found[0], age_sex)
        rows.append(row | {"sface": embedding} | preview_scalars(small, detector))

    def stacked(name: str, *shape: int) -> np.ndarray:
        return np.array([np.zeros(shape) if row is None else row[name] for row in rows], np.float64)

    looks = Looks(
        scalars={name: stacked(name) for name in SCALARS},
        geometry=stacked("geometry", len(GEOMETRY_POINTS), 2),
        skin=stacked("skin", len(SKIN_PATCHES), 3),
        sface=stacked("sface", 128),
    )
    return looks, np.array([row is not None for row in rows])


def _enlarged(preview: np.ndarray) -> np.ndarray:
    """A preview at the side at which faces are measured."""
    return cv2.resize(preview, (FEATURE_SIDE, FEATURE_SIDE), interpolation=cv2.INTER_CUBIC)


def _describe(image: np.ndarray, landmarker, detector, sface, dlib, age_sex) -> dict | None:
    faces = landmarker.detect(image)
    if len(faces) != 1 or len(detector.detect(image)) != 1 or abs(faces[0].yaw) > _MAX_YAW:
        return None
    embeddings = {"sface": sface.embed(image), "dlib": dlib.embed(image)}
    if any(e is None for e in embeddings.values()):
        return None
    points = (faces[0].points + 0.5) * (ALIGNED_SIDE / FEATURE_SIDE) - 0.5
    row = measure(image, points, faces[0], age_sex) | {"misplaced": misplacement(points)}
    halves = {name: np.asarray(row.pop(name), np.float16).reshape(-1) for name in ("geometry", "skin")}
    return {**row, **halves, **{name: e.astype(np.float16) for name, e in embeddings.items()}}
