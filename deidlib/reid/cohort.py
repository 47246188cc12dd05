"""The target of the attacks: the photographs of a cohort and their embeddings, before or after release."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deidlib.columns.table_risk import outcomes_risk, table_risk
from deidlib.contract.routes import GENERATE
from deidlib.errors import InputError
from deidlib.logs import progress
from deidlib.outcomes.outcomes import Outcome, all_outcomes, chosen_among, chosen_digest, of_check, read_outcomes
from deidlib.reid.embeddings import Released, embed_shard
from deidlib.reid.looks import LookMeter
from deidlib.reid.side_channels import Photo
from deidlib.storage import sealed, tables
from deidlib.storage.images import decode_png
from deidlib.storage.parts import in_parts
from deidlib.storage.png import png_problems
from deidlib.storage.results import Results, stage_table
from deidlib.storage.stage import open_private, read
from deidlib.vision.landmarks import FaceLandmarker
from deidlib.vision.networks import age_sex, landmarker_file, open_recognisers

#: Form of the cached embeddings of a finished release; a cache of another form is not used.
_FORM = b"embeddings 2: with looks"
#: What checks found that an index states.
_INDEXED = [name for name in tables.CHECKS.names if name in tables.INDEX.names]


class Cohort(NamedTuple):
    """The target of the attacks."""

    photos: list[Photo]
    attempts: dict[str, int]  # of the photographs that would be released, or were
    embeddings: Callable[[str, str], Iterator[pa.Table]]  # of a recogniser and what is shown, a shard's at a time
    risk: dict
    inputs: dict[str, str]  # what was read → its digest


def would_be_released(private: Path, shards: list[str], cfg: Mapping) -> Cohort:
    """Read from the shards' tables what would be released.

    Parameters
    ----------
    private : Path
        The results' private folder.
    shards : list of str
        Names of the shards.
    cfg : mapping
        The whole configuration.
    """
    photos, attempts, inputs = [], {}, digests_of_embeddings(private, shards)
    for shard in shards:
        folder = Results(private).shard(shard)
        outcomes = read_outcomes(private, shard, of_check("metadata_free", *_INDEXED))
        chosen = chosen_among(outcomes)
        clean = {o.photo_id: o.check["metadata_free"] for o in outcomes if o.check}
        photos += _photos(folder, outcomes, chosen, clean, {}, _published)
        attempts |= chosen
    inputs["chosen"] = chosen_digest(attempts)
    risk = outcomes_risk(all_outcomes(private, shards, checks=()), cfg)
    return Cohort(photos, attempts, partial(embeddings_of, private, shards), risk, inputs)


def embeddings_of(private: Path, shards: list[str], recogniser: str, shown: str) -> Iterator[pa.Table]:
    """The shards' ``tables.EMBEDDINGS``, one after the other: of a recogniser and what is shown, and perhaps others."""
    return _tables([stage_table(Results(private).shard(shard), "embeddings") for shard in shards], recogniser, shown)


def write_embeddings(table: pa.Table, out: Path) -> None:
    """Write a shard's ``tables.EMBEDDINGS``, in a part for each recogniser and what is shown, to be read alone."""
    with tables.writing(out, tables.EMBEDDINGS) as append:
        for recogniser in pc.unique(table["recogniser"]).sort().to_pylist():
            mine = table.filter(pc.equal(table["recogniser"], recogniser))
            for shown in pc.unique(mine["shown"]).sort().to_pylist():
                append(mine.filter(pc.equal(mine["shown"], shown)))


def digests_of_embeddings(private: Path, shards: list[str]) -> dict[str, str]:
    """What the attacks read of each shard → its SHA-256, as its seal states it."""
    found = {}
    for shard in shards:
        with sealed.opened(stage_table(Results(private).shard(shard), "embeddings")) as file:
            found[f"embeddings {shard}"] = file.digest
    return found


def finished_release(
    private: Path,
    shards: list[str],
    index: pa.Table,
    release: Path,
    sums: bytes,
    cfg: Mapping,
    known: Mapping,
    encoded: Callable[[str], bytes],
) -> Cohort:
    """Embed the images of a finished release; a shard that was embedded before is not embedded again.

    Parameters
    ----------
    private, shards, cfg
        As for :func:`would_be_released`.
    index : Table
        The release's index.
    release : Path
        The release's folder.
    sums : bytes
        Its ``SHA256SUMS``: says which release the embeddings that are kept belong to.
    known : mapping
        Recogniser → its entry of the registry.
    encoded : callable
        ``release_photo_id`` → the image's file.
    """
    names = cfg["reid"]["recognisers"]
    rows = {row["release_photo_id"]: row for row in index.to_pylist()}
    key = sums + "".join(known[name]["sha256"] for name in names).encode() + _FORM
    cache = Results(private).reid / hashlib.sha256(key).hexdigest()[:16]
    opened, photos, attempts, kept_in = [], [], {}, []
    for shard in shards:
        folder = Results(private).shard(shard)
        outcomes = read_outcomes(private, shard, checks=())
        chosen = {o.photo_id: rows[o.photo_id]["attempt"] for o in outcomes if o.photo_id in rows}
        attempts |= chosen
        files = {i: release / rows[i]["path"] for i in chosen}
        clean = {i: not png_problems(encoded(i)) for i in files}
        times = {i: file.stat().st_mtime for i, file in files.items()}
        photos += _photos(folder, outcomes, chosen, clean, times, lambda outcome: _numeric(rows[outcome.photo_id]))
        kept = cache / f"{shard}.parquet"
        kept_in.append(kept)
        open_private(kept)
        if not kept.is_file():
            opened = opened or open_recognisers(names)
            table = embed_photos(folder, chosen, opened, cfg, encoded)
            write_embeddings(table, kept)
    if len(attempts) != len(rows):
        raise InputError(
            f"{len(rows) - len(attempts)} of the release's {len(rows)} photographs are not in this plan's tables; name "
            "the plan that the release was made from"
        )
    risk, inputs = table_risk(index, cfg), {"release": hashlib.sha256(sums).hexdigest()}
    return Cohort(photos, attempts, partial(_tables, kept_in), risk, inputs)


def embed_photos(
    folder: Path,
    chosen: Mapping[str, int],
    opened: list,
    cfg: Mapping,
    encoded: Callable[[str], bytes] | None = None,
) -> pa.Table:
    """Embed a shard part by part; ``encoded`` gives the images of a finished release instead of the shard's own."""
    attempts = [] if encoded else sorted(set(chosen.values()))
    blended = [(stage_table(folder, "blended", attempt), "BLENDED") for attempt in attempts]
    photos = stage_table(folder, "photos")
    donor, parts = _donor_faces(folder, chosen, cfg["generator"]), []
    with (
        FaceLandmarker(landmarker_file(), max_faces=1) as landmarker,
        progress("embeddings", read(photos, "PHOTOS", ["release_photo_id"]).num_rows) as step,
    ):
        meter = LookMeter(landmarker, age_sex())
        others = (stage_table(folder, "regions"), "REGIONS"), *blended
        for rows, regions, *made in in_parts(photos, *others, columns=["image", "status"]):
            own = {
                row["release_photo_id"]: row["image"]
                for attempt, table in zip(attempts, made, strict=True)
                for batch in table.select(["release_photo_id", "image"]).to_batches(max_chunksize=16)
                for row in batch.to_pylist()
                if chosen.get(row["release_photo_id"]) == attempt
            }

            def released(photo_id: str, own: Mapping = own) -> Released | None:
                if photo_id not in chosen:
                    return None
                png = encoded(photo_id) if encoded else own[photo_id]
                return Released(chosen[photo_id], decode_png(png))

            parts.append(embed_shard(rows, regions, released, opened, donor, step, meter))
    order = [(name, "ascending") for name in ("release_photo_id", "shown", "recogniser")]
    return pa.concat_tables([tables.EMBEDDINGS.empty_table(), *parts]).sort_by(order)


def _photos(
    folder: Path,
    outcomes: list[Outcome],
    chosen: Mapping[str, int],
    clean: Mapping,
    times: Mapping,
    published: Callable[[Outcome], dict[str, float]],
) -> list[Photo]:
    donors = {row["release_photo_id"]: row["donor_id"] for row in _donor_rows(folder, chosen, ["donor_id"])}
    photos = []
    for outcome in outcomes:
        photo_id = outcome.photo_id
        if outcome.region is None and photo_id not in chosen:
            continue
        photos.append(
            Photo(
                photo=photo_id,
                patient=outcome.photo["release_patient_id"],
                row=outcome.photo["row"],
                released=photo_id in chosen,
                side=outcome.region["crop_side"] if outcome.region else None,
                donor=donors.get(photo_id),
                generated=outcome.region is None or outcome.region["route"] == GENERATE,
                clean=clean.get(photo_id),
                time=times.get(photo_id),
                timepoint=outcome.photo["timepoint"],
                numbers=_numbers(outcome),
                published=published(outcome) if photo_id in chosen else {},
            )
        )
    return photos


def _numbers(outcome: Outcome) -> dict[str, float]:
    """Numbers of an index that follow from the original alone: column → value."""
    region = outcome.region
    if region is None:
        return {}
    whole = region["crop_side"] is None
    size = ("width", "height") if whole else ("crop_side", "crop_side")
    rows = {**outcome.photo, **region}
    found = {"width": rows[size[0]], "height": rows[size[1]], "core_pixels": region["core_pixels"]}
    return {name: float(value) for name, value in found.items() if value is not None}


def _published(outcome: Outcome) -> dict[str, float]:
    """Numeric columns that the index of a release would hold for a photograph."""
    row = {**(outcome.check or {}), **_numbers(outcome)}
    return _numeric({name: row.get(name) for name in tables.INDEX.names})


def _numeric(row: Mapping) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if type(value) in (int, float)}


def _donor_rows(folder: Path, chosen: Mapping[str, int], columns: list[str]) -> Iterator[dict]:
    """Yield the donors of the released photographs, in the order of the tables."""
    for attempt in sorted(set(chosen.values())):
        table = read(stage_table(folder, "donors", attempt), "DONORS", ["release_photo_id", *columns])
        yield from (row for row in table.to_pylist() if chosen.get(row["release_photo_id"]) == attempt)


def _donor_faces(folder: Path, chosen: Mapping[str, int], generator: str) -> Callable[[str], np.ndarray | None]:
    """Draw every donor once, small, in the pose of the first photograph that it was used for."""
    firsts = {row["donor_id"]: row for row in reversed(list(_donor_rows(folder, chosen, ["donor_id", "w"])))}
    codes = {row["release_photo_id"]: row["w"] for row in firsts.values()}
    if not codes:
        return codes.get
    import torch

    from deidlib.donors.bank import to_uint8
    from deidlib.generators.opened import generator as opened

    network = opened(generator)

    def face(photo_id: str) -> np.ndarray | None:
        if photo_id not in codes:
            return None
        w = torch.tensor(codes[photo_id], dtype=torch.float32)[None, None].expand(-1, network.n_styles, -1)
        with torch.no_grad():
            (image,) = to_uint8(network.preview(w))
        return image

    return face


def _tables(files: list[Path], recogniser: str, shown: str) -> Iterator[pa.Table]:
    wanted, columns = {"recogniser": recogniser, "shown": shown}, [n for n in tables.EMBEDDINGS.names if n != "attempt"]
    return (tables.read_where(file, tables.EMBEDDINGS, wanted, columns) for file in files)
