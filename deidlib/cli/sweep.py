"""The command sweep: a sample of the photographs with other preserved areas and weights of the identity loss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.common import DEVICES, Device, Plan, Settings, Threads, choice, settings
from deidlib.logs import say
from deidlib.storage.atomic import write_json
from deidlib.storage.results import Results
from deidlib.storage.stage import open_private, read_json


def sweep(
    plan: Plan,
    out: Annotated[Path, typer.Option(help="JSON file to write.", show_default=False)],
    device: Device = "auto",
    threads: Threads = 1,
    given: Settings = "{}",
) -> None:
    """Make a sample of the photographs with other preserved areas and weights of the identity loss, and score it.

    Example:
      deidlib sweep --plan results/private/plan.json --out results/private/reid/sweep.json
    """
    cfg = settings(given)
    choice(device, DEVICES, "--device")
    open_private(out)
    n = cfg["reid"]["sweep_photos"]
    found, rows, price = {}, [], []
    if n:
        from deidlib.reid.sweep import sampled, sweep_rows

        private = Results.of_plan(plan).private
        found = sampled(private, read_json(plan)["shards"], cfg["preserve"], n)
    if found:
        from deidlib import compute
        from deidlib.config import stage_options
        from deidlib.models import compiled_folder

        inversion = stage_options(cfg, "inversion")
        if inversion["compile"]:
            compute.keep_compiled(compiled_folder())
        from deidlib.inversion.networks import inversion_networks
        from deidlib.vision.networks import open_recognisers

        compute.pin_order()
        recognisers = open_recognisers(cfg["reid"]["recognisers"])
        networks = inversion_networks(cfg["generator"], compute.device(device), inversion["identity_led_by"])
        rows, price = sweep_rows(private, found, networks, recognisers, cfg, threads)
    write_json({"rows": rows, "price": price}, out)
    say(f"sweep: {sum(map(len, found.values()))} photographs, {len(rows)} scores")
