"""Going on: a face that failed the gate is improved from its own code, with the same donor, led by what it failed.

A step of the optimiser costs the same wherever it starts, so a face that failed by little needs half the steps of a
new one. The terms of the objective that oppose the failed checks weigh more, and a face that a recogniser took for the
patient aims at the likeness of a mean impostor. The checks and their bounds stay as they are. A check that no term
opposes, such as that of a second face in the donor's own picture, cannot be mended in this way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.contract.checks import LIKENESS
from deidlib.storage import tables

#: Check (:mod:`deidlib.contract.checks`) → factors on the weights of the objective's terms that oppose its failure.
LED_BY: dict[str, dict[str, float]] = {
    "sface_cosine": {"identity_weight": 6.0},
    "dlib_distance": {"identity_weight": 6.0},
    "latent_distance": {"latent_weight": 20.0, "layer_variance_weight": 2.0},
    "realism": {"latent_weight": 10.0, "layer_variance_weight": 5.0},
    "mouth_shift": {"mouth_landmark_weight": 3.0},
    "seam": {"pixel_weight": 3.0, "perceptual_weight": 2.0},
}
#: The weights that are raised, in the order of :func:`factors`.
WEIGHTS: tuple[str, ...] = tuple(sorted({name for raised in LED_BY.values() for name in raised}))
_STEPS = 0.5  # share of the steps of a face that starts at its donor


def can_go_on(failed: Collection[str] | None) -> bool:
    """Whether further steps may mend these failed checks: a term of the objective opposes each of them."""
    return bool(failed) and set(failed) <= LED_BY.keys()


def factors(failed: Collection[str]) -> np.ndarray:
    """Factors on :data:`WEIGHTS` that oppose some failed checks, (K,); the largest counts where several ask for one."""
    return np.array([max([1.0, *(LED_BY[check].get(name, 1.0) for check in failed)]) for name in WEIGHTS], np.float32)


def taken_for_the_patient(failed: Collection[str]) -> bool:
    """Whether a recogniser's check is among the failed ones: such a face aims at the likeness of a mean impostor."""
    return not LIKENESS.keys().isdisjoint(failed)


def settings_going_on(settings: Mapping[str, Any], raised) -> dict[str, Any]:
    """Options of the stage ``inversion`` for faces that go on.

    Parameters
    ----------
    settings : mapping
        The options for faces that start at their donors.
    raised : Tensor, (N, K)
        :func:`factors` of each photograph. The weights become tensors, (N,).
    """
    weights = {name: settings[name] * raised[:, k] for k, name in enumerate(WEIGHTS)}
    return {**settings, **weights, "steps": max(1, round(_STEPS * settings["steps"]))}


def same_donors(donors: pa.Table, faces: pa.Table, failed: Mapping[str, Collection[str]], attempt: int) -> pa.Table:
    """Donors of photographs that go on: those of the attempt before, with the codes that were found there.

    Parameters
    ----------
    donors, faces : Table
        ``tables.DONORS``, and ``release_photo_id`` and ``latent`` of ``tables.FACES``, of the attempt before.
    failed : mapping
        The photographs, by ``release_photo_id``, with the checks that each failed.
    attempt : int
        Number of this attempt.

    Returns
    -------
    Table
        ``tables.DONORS``, in the order of ``donors``.
    """
    mine = pa.array(list(failed), pa.string())
    donors, faces = (table.filter(pc.is_in(table["release_photo_id"], mine)) for table in (donors, faces))
    code_of = dict(zip(*(faces[name].to_pylist() for name in ("release_photo_id", "latent")), strict=True))
    rows = [
        {
            **row,
            "attempt": attempt,
            "start": code_of[row["release_photo_id"]],
            "led_by": sorted(failed[row["release_photo_id"]]),
        }
        for row in donors.to_pylist()
    ]
    return tables.from_rows(rows, tables.DONORS)


def from_their_donors(donors: pa.Table) -> pa.Table:
    """The same donors for photographs that do not go on: each starts at its donor's w."""
    for name in ("start", "led_by"):
        field = tables.DONORS.field(name)
        donors = donors.set_column(donors.schema.get_field_index(name), field, pa.nulls(len(donors), field.type))
    return donors
