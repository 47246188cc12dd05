"""The command sweep: a sample of the photographs with other preserved areas and other strengths of the guide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deidlib.cli.common import (
    Device,
    Threads,
    choice,
    open_private,
    read,
    read_json,
    settings,
    write_json,
)
from deidlib.cli.distractors import open_recognisers
from deidlib.cli.publish import Plan, Settings
from deidlib.logs import progress, say

if TYPE_CHECKING:
    import pyarrow as pa


def sweep(
    plan: Plan,
    out: Annotated[Path, typer.Option(help="JSON file to write.", show_default=False)],
    device: Device = "auto",
    threads: Threads = 1,
    given: Settings = "{}",
) -> None:
    """Make a sample of the photographs with other preserved areas and guide strengths, and score the results.

    Example:
      deidlib sweep --plan results/private/plan.json --out results/private/reid/sweep.json
    """
    from deidlib.cli.attempts import DEVICES

    cfg = settings(given)
    choice(device, DEVICES, "--device")
    open_private(out)
    n = cfg["reid"]["sweep_photos"]
    found = _sampled(plan.parent, read_json(plan)["shards"], cfg, n) if n else {}
    rows = _rows(plan.parent, found, cfg, device, threads) if found else []
    write_json({"rows": rows}, out)
    say(f"sweep: {sum(map(len, found.values()))} photographs, {len(rows)} scores")


def _sampled(private: Path, shards: list[str], cfg: Mapping, n: int) -> dict[str, dict[str, int]]:
    """Shard → sampled photograph → its attempt; those with a new face and no mask of their own are candidates."""
    from deidlib.intake.routes import GENERATE
    from deidlib.outcomes.outcomes import read_outcomes
    from deidlib.reid.tradeoff import draw_sample

    place, candidates = {}, []
    for shard in shards:
        for outcome in read_outcomes(private, shard, cfg["attempts"], cfg["checks"], cfg["identity"]):
            photo = outcome.photo["release_photo_id"]
            region = outcome.region or {}
            if outcome.attempt is not None and (region["route"], region["method"]) == (GENERATE, cfg["preserve"]):
                place[photo] = shard, outcome.attempt
                candidates.append((photo, outcome.photo["release_patient_id"]))
    sample: dict[str, dict[str, int]] = {}
    for photo in draw_sample(candidates, n):
        shard, attempt = place[photo]
        sample.setdefault(shard, {})[photo] = attempt
    return sample


def _rows(private: Path, sample: dict[str, dict[str, int]], cfg: Mapping, device: str, threads: int) -> list[dict]:
    from deidlib.cli import weights
    from deidlib.reid.embeddings import faces_of
    from deidlib.reid.tradeoff import preserved_share, released_rows, settings_to_sweep, sweep_shard

    weights.pin_order()
    recognisers = open_recognisers(cfg["reid"]["recognisers"])
    networks = weights.inversion_networks(cfg["generator"], weights.device(device))
    points = len(settings_to_sweep(cfg["preserve"], cfg["inversion"]["guide"]))
    rows = []
    with progress("sweep", points * sum(map(len, sample.values()))) as step:
        for shard, chosen in sorted(sample.items()):
            folder = private / "shards" / shard
            photos, landmarks, regions, donors = _tables(folder, chosen)
            embeddings = read(folder / "embeddings.parquet", "EMBEDDINGS")
            originals = {r.name: faces_of(embeddings, r.name, "original") for r in recognisers}
            rows += sweep_shard(photos, landmarks, donors, networks, recognisers, originals, cfg, threads, step)
            shares = {row["release_photo_id"]: preserved_share(row) for row in regions.to_pylist()}
            for recogniser in recognisers:
                released = faces_of(embeddings, recogniser.name, "released")
                rows += released_rows(released, originals, recogniser, shares, cfg)
    return rows


def _tables(folder: Path, chosen: dict[str, int]) -> tuple[pa.Table, ...]:
    """Rows of the sampled photographs: photos, landmarks, regions, and the donors of their attempts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def rows(path: Path, schema: str, wanted: list[str]) -> pa.Table:
        table = read(path, schema)
        return table.filter(pc.is_in(table["release_photo_id"], pa.array(wanted, pa.string())))

    photos, landmarks, regions = (
        rows(folder / f"{name}.parquet", name.upper(), list(chosen)) for name in ("photos", "landmarks", "regions")
    )
    donors = [
        rows(folder / f"attempt-{attempt}" / "donors.parquet", "DONORS", [p for p, a in chosen.items() if a == attempt])
        for attempt in sorted(set(chosen.values()))
    ]
    return photos, landmarks, regions, pa.concat_tables(donors)
