"""How long a 1:N search takes, and how much memory: exact FAISS search in blocks on synthetic embeddings.

Measures growing galleries, fits processor seconds = a · probes · gallery, and extrapolates to a million × a million.
On a shared machine the wall clock says more of the others than of the search, so both are printed:

    OMP_NUM_THREADS=1 .venv/bin/python tests/bench/search.py
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from deidlib.reid.search import GALLERY_BLOCK, PROBE_BLOCK, nearest

DIMENSION, CANDIDATES = 128, 100


def unit(n: int, seed: int) -> np.ndarray:
    """``n`` random unit vectors, (n, 128) float32."""
    x = np.random.default_rng(seed).standard_normal((n, DIMENSION), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def measured(probes: int, gallery: int) -> tuple[float, float]:
    """Processor and wall-clock seconds of one search."""
    a, b = unit(probes, 1), unit(gallery, 2)
    start, clock = time.process_time(), time.perf_counter()
    nearest(a, b, CANDIDATES, same_above=True)
    return time.process_time() - start, time.perf_counter() - clock


def main() -> None:
    """Print the cost curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1_048_576, help="largest gallery")
    parser.add_argument("--probes", type=int, default=4096, help="probes, but of the squares")
    given = parser.parse_args()
    sizes = [(n, n) for n in (4096, 8192, 16_384, 32_768) if n <= given.largest]
    sizes += [(given.probes, n) for n in (65_536, 262_144, 1_048_576) if n <= given.largest]
    print(f"{DIMENSION} values, {CANDIDATES} candidates, blocks of {PROBE_BLOCK:,} × {GALLERY_BLOCK:,}")
    pairs, seconds = [], []
    for probes, gallery in sizes:
        took, clock = measured(probes, gallery)
        pairs.append(probes * gallery)
        seconds.append(took)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rate = probes * gallery / took / 1e6
        print(
            f"{probes:>9,} × {gallery:>9,}: {took:7.2f} s of processor, {clock:7.2f} s; {rate:5.0f} million "
            f"comparisons a processor second; peak {memory:.2f} GB"
        )
    compared = np.array(pairs, float)
    cost = compared @ np.array(seconds) / (compared @ compared)
    print(f"fit: {cost:.3g} s a comparison; 10^6 × 10^6 extrapolated: {cost * 1e12 / 3600:.2f} h of processor")


if __name__ == "__main__":
    main()
