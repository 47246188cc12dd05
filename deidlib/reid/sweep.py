"""The sweep: a sample of the photographs with other preserved areas and other weights of the identity loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from deidlib.config import stage_options
from deidlib.contract.routes import GENERATE
from deidlib.inversion.going_on import same_donors
from deidlib.inversion.objective import Networks
from deidlib.logs import progress
from deidlib.outcomes.outcomes import read_outcomes
from deidlib.reid.embeddings import faces_of
from deidlib.reid.price import price_rows
from deidlib.reid.tradeoff import draw_sample, preserved_share, released_rows, settings_to_sweep, sweep_shard
from deidlib.storage.results import Results, stage_table
from deidlib.storage.stage import read, read_photos


def sampled(private: Path, shards: list[str], preserve: str, n: int) -> dict[str, dict[str, int]]:
    """Shard → sampled photograph → its attempt; those with a new face and no mask of their own are candidates."""
    place, candidates = {}, []
    for shard in shards:
        for outcome in read_outcomes(private, shard, checks=()):
            photo = outcome.photo["release_photo_id"]
            region = outcome.region or {}
            if outcome.attempt is not None and (region["route"], region["method"]) == (GENERATE, preserve):
                place[photo] = shard, outcome.attempt
                candidates.append((photo, outcome.photo["release_patient_id"]))
    sample: dict[str, dict[str, int]] = {}
    for photo in draw_sample(candidates, n):
        shard, attempt = place[photo]
        sample.setdefault(shard, {})[photo] = attempt
    return sample


def sweep_rows(
    private: Path, sample: dict[str, dict[str, int]], networks: Networks, recognisers: list, cfg: Mapping, threads: int
) -> tuple[list[dict], list[dict]]:
    """Score the sample with every setting (:mod:`deidlib.reid.tradeoff`); price areas (:mod:`deidlib.reid.price`)."""
    points = len(settings_to_sweep(cfg["preserve"], stage_options(cfg, "inversion")["identity_weight"]))
    rows, seen = [], []
    with progress("sweep", points * sum(map(len, sample.values()))) as step:
        for shard, chosen in sorted(sample.items()):
            folder = Results(private).shard(shard)
            photos, landmarks, regions, donors = _tables(folder, chosen)
            embeddings = read(stage_table(folder, "embeddings"), "EMBEDDINGS")
            originals = {r.name: faces_of(embeddings, r.name, "original") for r in recognisers}
            found = sweep_shard(photos, landmarks, donors, networks, recognisers, originals, cfg, threads, step)
            rows, seen = rows + found[0], seen + found[1]
            shares = {row["release_photo_id"]: preserved_share(row) for row in regions.to_pylist()}
            for recogniser in recognisers:
                released = faces_of(embeddings, recogniser.name, "released")
                rows += released_rows(released, originals, recogniser, shares, cfg)
    return rows, price_rows(seen, {recogniser.name: recogniser.same_above for recogniser in recognisers})


def _tables(folder: Path, chosen: dict[str, int]) -> tuple[pa.Table, ...]:
    """Rows of the sampled photographs: photos, landmarks, regions, and donors with the codes of what is released."""
    photos, landmarks, regions = (
        read_photos(stage_table(folder, name), name.upper(), chosen) for name in ("photos", "landmarks", "regions")
    )
    donors = [_donors(folder, attempt, chosen) for attempt in sorted(set(chosen.values()))]
    return photos, landmarks, regions, pa.concat_tables(donors)


def _donors(folder: Path, attempt: int, chosen: dict[str, int]) -> pa.Table:
    here = [photo for photo, number in chosen.items() if number == attempt]
    donors = read_photos(stage_table(folder, "donors", attempt), "DONORS", here)
    faces = read_photos(stage_table(folder, "faces", attempt), "FACES", here, ["release_photo_id", "latent"])
    return same_donors(donors, faces, dict.fromkeys(here, ()), attempt)
