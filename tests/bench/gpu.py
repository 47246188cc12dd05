"""Photographs a second of the inversion on a GPU, for batches up to what fits, next to the floor of the device.

make bench-gpu ARGS="--batches 1,2,4,8,16,32 --json FILE"
make bench-gpu ARGS="--options '{\"compile\": true}'"

Measured: `deidlib.inversion.invert.invert` at 1024², from arrays to arrays; not the reading and writing around it.
The first batch of each size warms up and is not timed. It ends at the first size that runs out of memory. The
photographs are faces that the generator draws: neither time nor memory depends on what is seen in them.

The floor: no device computes a batch faster than max(FLOPs ÷ peak, bytes ÷ bandwidth), of which

- FLOPs are those of convolutions and matrix products, forward and backward, two for a multiply and add, as
  torch.utils.flop_counter counts them; the peak is that of dense bfloat16, also for what is in float32;
- bytes are the operands and results of these products, weights included, each once for every product; all other
  operators (activations, resampling, losses, the descent) are taken to be fused into them, for nothing. What eager
  execution moves, each operator by itself reading its operands and writing its results, is counted beside it.

Caches are not in the model: a result that stays in one until it is read costs no bandwidth. Both are counted by running
`invert` on one photograph and on two, on the device asked for, or on the CPU where there is none: what two need more
than one is a photograph's, the rest is the batch's (its weights).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from deidlib import compute
from deidlib.cli.common import stage_options
from deidlib.inversion.invert import invert
from deidlib.inversion.networks import inversion_networks
from deidlib.inversion.objective import WORK_SIDE, Networks, Targets

DISTINCT = 2  # photographs drawn; more are these again
#: Peaks of devices, by the name that CUDA gives them: dense bfloat16 TFLOP/s, TB/s (NVIDIA's data sheets).
PEAKS = {
    "NVIDIA H100 80GB HBM3": (989.0, 3.35),  # SXM
    "NVIDIA H200": (989.0, 4.8),  # SXM
    "NVIDIA A100-SXM4-80GB": (312.0, 2.039),
}


class Cost(NamedTuple):
    """What is computed and moved."""

    flops: float
    bytes: float  # by products alone
    eager_bytes: float  # by every operator

    def plus(self, other: Cost, factor: float = 1.0) -> Cost:
        """The sum with so many of another."""
        return Cost(*(a + factor * b for a, b in zip(self, other, strict=True)))


class Peak(NamedTuple):
    """What a device can do at most in a second."""

    flops: float
    bytes: float


class Traffic(TorchDispatchMode):
    """Counts the bytes of operators' operands and results: of products, and of all that are no views."""

    def __init__(self):
        super().__init__()
        self.products = self.all = 0
        self.dtypes: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not _gives_view(function):
            if function is torch.ops.aten.convolution_backward.default and not args[-1][1]:
                args = args[0], args[2]  # without a slope for the weights, the convolution's input is not read
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
            moved = sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
            self.all += moved
            if function._overloadpacket in flop_registry:
                self.products += moved
                self.dtypes.add(str(tensors[-1].dtype).removeprefix("torch."))
        return result


def _gives_view(function) -> bool:
    """Whether an operator's result is its operand's memory, not written to."""
    aliases = [argument.alias_info for argument in function._schema.arguments if argument.alias_info]
    return bool(aliases) and not any(alias.is_write for alias in aliases)


def count(function, *args) -> tuple[Cost, set[str]]:
    """FLOPs and bytes of a call, its backward pass included where it has one; the products' types of number."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        function(*args)
    return Cost(flops.get_total_flops(), traffic.products, traffic.all), traffic.dtypes


def floor_seconds(cost: Cost, peak: Peak) -> float:
    """Least time that a device needs."""
    return max(cost.flops / peak.flops, cost.bytes / peak.bytes)


def peak_of(name: str | None, tflops: float | None, bandwidth: float | None) -> Peak | None:
    """Peaks as given in TFLOP/s and TB/s, or those of a device known by name; None where neither is there.

    Raises
    ------
    ValueError
        If one is given without the other.
    """
    if (tflops is None) != (bandwidth is None):
        raise ValueError("--peak-tflops and --bandwidth go together; give both")
    known = (tflops, bandwidth) if tflops is not None else PEAKS.get(name)
    return Peak(known[0] * 1e12, known[1] * 1e12) if known else None


@torch.no_grad()
def virtual_patients(networks: Networks) -> Targets:
    """A few photographs that the generator draws, and as many donors."""
    device = next(networks.generator.parameters()).device
    rng, n_styles = torch.Generator().manual_seed(1024), networks.generator.n_styles
    z = torch.randn(2, DISTINCT, 512, generator=rng).to(device)
    patients, donors = (networks.generator.map(part) for part in z)
    faces = [networks.generator.synthesise(w[None, None].expand(-1, n_styles, -1)).float() for w in patients]
    faces = torch.cat([F.adaptive_avg_pool2d(face, WORK_SIDE) for face in faces]).clamp(-1, 1)
    y, x = np.mgrid[:WORK_SIDE, :WORK_SIDE]
    fade = np.clip(2 - np.hypot((x - 256) / 64, (y - 380) / 40), 0, 1).astype(np.float32)  # a mouth's ellipse
    fixed = {
        "weights": fade,
        "centres": np.array([256.0, 380.0]),
        "grey": np.array(False),
        "fades": fade,
        # Where faces lie in the aligned frame: eyes 128 px apart at y = 242.
        "frames": np.array([[0.275, 0, -14.4], [0, 0.275, -15.0]]),
        "squares": np.array([[0.5, 0, -0.5], [0, 0.5, -17.5]]),
        "inter_ocular": np.array(128.0),
        "likenesses": np.float32(0.1),
    }
    return Targets(
        images=((faces + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy(),
        donors=donors.cpu().numpy(),
        **{name: np.stack([value] * DISTINCT) for name, value in fixed.items()},
    )


def repeated(targets: Targets, n: int) -> Targets:
    """So many photographs: these again and again."""
    return targets.take(np.arange(n) % len(targets))


def count_inversion(networks: Networks, targets: Targets, settings: dict) -> tuple[dict[str, Cost], set[str]]:
    """Costs of a step and of a whole photograph, and what a batch costs whatever its size."""

    dtypes: set[str] = set()

    def cost(n: int, **changes: int) -> Cost:
        # Compiled code hides its operators; what it computes is the same.
        changed = settings | {"batch": n, "compile": False} | changes
        found, its_dtypes = count(invert, networks, repeated(targets, n), changed)
        dtypes.update(its_dtypes)
        return found

    # A photograph alone takes other operators than several do: batches of two and three are compared.
    two = cost(2)
    photo = cost(3).plus(two, -1)
    steps = cost(2, steps=2).plus(cost(2, steps=1), -1)
    return {
        "step": steps.plus(steps, -0.5),
        "photograph": photo,
        "batch": two.plus(photo, -2),
    }, dtypes


def measure(networks: Networks, targets: Targets, settings: dict, batch: int, rounds: int) -> dict | None:
    """Photographs a second and memory of one batch size; None where memory runs out."""
    device, settings = next(networks.generator.parameters()).device, settings | {"batch": batch}
    warm, timed = repeated(targets, batch), repeated(targets, batch * rounds)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            invert(networks, warm, settings)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            start = time.perf_counter()
            invert(networks, timed, settings)
            seconds = time.perf_counter() - start
        except torch.OutOfMemoryError:
            return None
    if any("out of memory" in str(warning.message) for warning in said):
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {"batch": batch, "photos_per_second": len(timed) / seconds, "peak_mib": peak}


def main() -> None:
    """Count, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: tries the bench itself out")
    parser.add_argument("--batches", default="1,2,4,8,16,32,64,128", help="photographs at once, rising")
    parser.add_argument("--rounds", type=int, default=3, help="batches timed of each size (default: 3)")
    parser.add_argument("--options", default="{}", help="settings of the inversion, JSON (default: the workflow's)")
    parser.add_argument("--peak-tflops", type=float, help="of the device, for the floor; else known by its name")
    parser.add_argument("--bandwidth", type=float, help="of the device's memory in TB/s, likewise")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    settings = stage_options("inversion", asked.options)
    there = asked.device == "cpu" or torch.cuda.is_available()
    device = torch.device(asked.device if there else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    try:
        peak = peak_of(name, asked.peak_tflops, asked.bandwidth)
    except ValueError as error:
        parser.error(str(error))
    compute.pin_order()
    networks = inversion_networks("mobilestylegan", device)
    targets = virtual_patients(networks)
    costs, dtypes = count_inversion(networks, targets, settings)
    print(_cost_table(costs, settings, f"counted on {name}, products in {' and '.join(sorted(dtypes))}"))
    if peak is None:
        print(f"\nNo floor: the peaks of {name} are not known here; give --peak-tflops and --bandwidth.")
    measured: list[dict] = []
    for batch in [int(number) for number in asked.batches.split(",")]:
        row = measure(networks, targets, settings, batch, asked.rounds) if there else {"batch": batch}
        if row is None:
            print(f"\nOut of memory with {batch} photographs at once.")
            break
        if peak:
            row["floor_photos_per_second"] = batch / floor_seconds(
                costs["batch"].plus(costs["photograph"], batch), peak
            )
        measured.append(row)
    print(_table(measured, name if there else "a device of these peaks") if there or peak else "")
    if not there:
        print("not measured: no GPU here")
    if asked.json:
        figures = {
            "device": name if there else None,
            "settings": settings,
            "costs": {kind: cost._asdict() for kind, cost in costs.items()},
            "measured": measured if there else [],
        }
        asked.json.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _cost_table(costs: dict[str, Cost], settings: dict, how: str) -> str:
    titles = {
        "step": "a step, a photograph",
        "photograph": f"all of a photograph ({settings['steps']} steps)",
        "batch": "a batch besides, whatever its size",
    }
    lines = [f"| {how} | TFLOP | GB, products alone | GB, every operator |", "|---|---|---|---|"]
    for kind, title in titles.items():
        cost = costs[kind]
        lines.append(f"| {title} | {cost.flops / 1e12:.3f} | {cost.bytes / 1e9:.2f} | {cost.eager_bytes / 1e9:.2f} |")
    return "\n".join(lines)


def _table(rows: list[dict], name: str) -> str:
    def text(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"

    head = "photographs a second", "floor, photographs a second", "share of the floor", "peak memory, MiB"
    lines = [f"\n| photographs at once, {name} | {' | '.join(head)} |", "|---|---|---|---|---|"]
    for row in rows:
        rate, floor = row.get("photos_per_second"), row.get("floor_photos_per_second")
        share = rate / floor if rate and floor else None
        lines.append(f"| {row['batch']} | {' | '.join(map(text, (rate, floor, share, row.get('peak_mib'))))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
