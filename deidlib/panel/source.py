"""Where the judged pictures come from: a finished release, or a pending one, on which reviewers are still to decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from deidlib.contract.routes import GENERATE
from deidlib.errors import InputError
from deidlib.outcomes.outcomes import chosen_among, chosen_digest, read_outcomes
from deidlib.panel.errors import PanelError
from deidlib.release.decision import GATE, NOTHING, read_decision
from deidlib.release.layout import content_digest
from deidlib.release.reading import listed_sums, read_bytes, read_index
from deidlib.review.pictures import Gone, Pictures
from deidlib.run_lock import last_run
from deidlib.storage.results import Results


@dataclass(frozen=True)
class Released:
    """A photograph with a new face, of a release or of what would be released.

    ``place`` is its path in the release, or shard and attempt of a pending one.
    """

    photo: str
    patient: str
    view: str | None
    place: str | tuple[str, int]
    sha256: str


@dataclass(frozen=True)
class Source:
    """The photographs that can be judged.

    Attributes
    ----------
    version : str
        Version of the release.
    content_sha256 : str or None
        Its content digest; None of a pending release.
    photos : list of Released
        In the order of their ids.
    read : callable
        Gives the PNG of a photograph.
    """

    version: str
    content_sha256: str | None
    photos: list[Released]
    read: Callable[[Released], bytes]


def finished_release(folder: Path, views: Iterable[str] = ()) -> Source:
    """Photographs of a finished release that show a generated face.

    Parameters
    ----------
    folder : Path
        The release.
    views : iterable of str
        Only these; empty for all.

    Raises
    ------
    PanelError
        The folder holds no release, or none with a generated face.
    """
    columns = ["release_photo_id", "release_patient_id", "view", "path", "sha256", "route"]
    try:
        rows = read_index(folder).select(columns).to_pylist()
        digest = content_digest(listed_sums(folder))
    except (ValueError, KeyError):
        raise PanelError(
            "this folder holds no release; name one, for example results/release/1.0.0, or the results folder of a run "
            "whose release is pending"
        ) from None
    found = [
        Released(row["release_photo_id"], row["release_patient_id"], row["view"], row["path"], row["sha256"])
        for row in rows
        if row["route"] == GENERATE
    ]

    def read(one: Released) -> bytes:
        try:
            return _intact(read_bytes(folder, str(one.place)), one)
        except InputError:
            raise _missing("run `deidlib verify` on the release") from None

    return Source(Path(folder).resolve().name, digest, _of_views(found, views), read)


def pending_release(private: Path, views: Iterable[str] = ()) -> Source:
    """Photographs with a generated face that would be released, while reviewers are still to decide.

    Parameters
    ----------
    private : Path
        Private folder of a run that went as far as the decision.
    views : iterable of str
        Only these; empty for all.

    Raises
    ------
    PanelError
        The run has not come so far, its decision is against a release, or the release exists.
    """
    results = Results(Path(private))
    try:
        shards = json.loads(results.plan.read_text(encoding="utf-8"))["shards"]
        version = pending_version(results)
        decision = read_decision(results.private)
        outcomes = [(shard, one) for shard in shards for one in read_outcomes(results.private, shard)]
    except (OSError, ValueError, KeyError, TypeError):
        raise PanelError(
            "no release is pending here: run the workflow, with `review: required`, until it says that photographs "
            "wait for a reviewer; or name a finished release, for example results/release/1.0.0"
        ) from None
    if (results.releases / version / "SHA256SUMS").is_file():
        raise PanelError(f"version {version} is released already: name its folder, results/release/{version}")
    if decision.why in (GATE, NOTHING):
        raise PanelError("no release is pending: the run decided against one, and the audit says why")
    if decision.chosen != chosen_digest(chosen_among(one for _, one in outcomes)):
        raise PanelError("what would be released has changed since the decision: run the workflow again, then design")
    found = [
        Released(
            one.photo_id,
            one.photo["release_patient_id"],
            one.photo["view"],
            (shard, one.attempt),
            one.check["sha256"],
        )
        for shard, one in outcomes
        if one.attempt is not None and one.region["route"] == GENERATE
    ]
    pictures = Pictures(results.private)

    def read(one: Released) -> bytes:
        try:
            return _intact(pictures.result(*one.place, one.photo), one)
        except Gone:
            raise _missing("run the workflow again") from None

    return Source(version, None, _of_views(found, views), read)


def pending_version(results: Results) -> str:
    """Version that the run which last worked in a results folder makes.

    Raises
    ------
    PanelError
        No run worked there.
    """
    try:
        return last_run(results)["version"]
    except (InputError, KeyError):
        raise PanelError("no run worked in this folder; name the results folder of a run, or a release") from None


def _of_views(found: Iterable[Released], views: Iterable[str]) -> list[Released]:
    views = set(views)
    kept = sorted((one for one in found if not views or one.view in views), key=lambda one: one.photo)
    if not kept:
        raise PanelError("the release holds no photograph with a generated face (in these views)")
    return kept


def _intact(data: bytes, one: Released) -> bytes:
    if hashlib.sha256(data).hexdigest() != one.sha256:
        raise InputError("another image")
    return data


def _missing(mend: str) -> PanelError:
    return PanelError(f"an image of the release is missing or damaged; {mend}")
