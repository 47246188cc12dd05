"""Consent as the sheet states it at the moment of the release, whatever earlier stages read."""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa

from deidlib.errors import ReleaseError


def demand_consent(crosswalk: pa.Table, consented: Set[tuple[str, str]]) -> None:
    """Refuse the release if a photograph in it is no longer consented to, or no longer on the sheet.

    Parameters
    ----------
    crosswalk : pa.Table
        tables.CROSSWALK, which lists the photographs to release.
    consented : set of (patient_id, photo_id)
        What :func:`deidlib.intake.consent.consented` reads now.

    Raises
    ------
    ReleaseError
        Says how many photographs these are, without naming one.
    """
    rows = crosswalk.select(["patient_id", "photo_id", "status"]).to_pylist()
    gone = sum(row["status"] == "released" and (row["patient_id"], row["photo_id"]) not in consented for row in rows)
    if gone:
        raise ReleaseError(
            f"{gone} of the photographs that would be released: the sheet no longer states consent for them, or has no "
            "row for them. Nothing is released. Start the workflow again, which leaves them out"
        )
