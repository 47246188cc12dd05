"""Opens what the choice of donors needs: the generator, its bank, the bank's linear model, and the measurement."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from deidlib.contract.routes import GENERATE
from deidlib.errors import InputError
from deidlib.generators.opened import generator
from deidlib.models import bank_file
from deidlib.storage import tables
from deidlib.storage.images import decode_png
from deidlib.vision.networks import age_sex, sface, yunet


def donor_model(name: str) -> tuple:
    """Open a generator, the linear model of its donor bank, and the bank."""
    from deidlib.donors.bank import read_bank
    from deidlib.donors.edit import fit_editor
    from deidlib.generators import latent_prior

    network, bank = generator(name), read_bank(_built_bank(name))
    return network, fit_editor(bank, latent_prior(network)), bank


def _built_bank(name: str) -> Path:
    path = bank_file(name)
    if not path.is_file():
        raise InputError(f"generator {name} has no donor bank yet; run `deidlib donors build --generator {name}` once")
    return path


def observer(network, landmarker, workers: int = 1):
    """A function from codes w, (n, 512), to the looks of their faces in the generator's preview.

    It draws ``workers`` faces at a time; the result does not depend on their number.
    It always computes in float32. bfloat16 is a third faster, but processors without it would choose other donors.

    Returns
    -------
    callable
        ``see`` of :func:`deidlib.donors.choose.choose_donors`.
    """
    from deidlib.donors.bank import describe_faces, drawn

    detector, estimate = yunet(), age_sex()
    recogniser = sface(detector)

    def see(codes: np.ndarray) -> tuple:
        return describe_faces(drawn(codes, network, workers), landmarker, detector, recogniser, estimate)

    return see


def likenesses(photos: pa.Table, landmarks: pa.Table, handle: list[str], jaws: Collection[str] = ()) -> dict:
    """Measure features and embeddings of the patients whose photographs are handled.

    Parameters
    ----------
    photos, landmarks : Table
        Some patients' rows.
    handle : list of str
        ``release_photo_id`` of the photographs to handle.
    jaws : collection of str
        Those whose preserved area may reach the jaw.

    Returns
    -------
    dict
        ``release_photo_id`` → :class:`deidlib.donors.choose.Likeness`, for every photograph of these patients
        that gets a generated face (a donor must be unlike each of them).
    """
    from deidlib.donors.choose import Likeness
    from deidlib.donors.features import measure_photo
    from deidlib.vision.alignment import matrix_of, points_of
    from deidlib.vision.landmarks import Face

    detector, estimate = yunet(), age_sex()
    recogniser = sface(detector)
    patient_of = dict(
        zip(*(photos[name].to_pylist() for name in ("release_photo_id", "release_patient_id")), strict=True)
    )
    patients = {patient_of[photo_id] for photo_id in handle}
    faces = tables.of_routes(tables.handled(landmarks), GENERATE)
    found = {row["release_photo_id"]: row for row in faces.to_pylist()}
    known = {}
    for batch in tables.handled(photos).select(["release_photo_id", "image"]).to_batches(max_chunksize=1):
        (photo,) = batch.to_pylist()
        photo_id = photo["release_photo_id"]
        if photo_id not in found or patient_of[photo_id] not in patients:
            continue
        row, image = found[photo_id], decode_png(photo["image"])
        face = Face(points_of(row), np.array(row["blendshapes"], np.float32), row["yaw"], row["pitch"], row["roll"])
        features = measure_photo(image, matrix_of(row), face, estimate)
        known[photo_id] = Likeness(features, recogniser.embed(image), photo_id in jaws)
    return known
