"""Fit a recogniser: find the directions in a network's features that distinguish the virtual people.

Linear discriminant analysis (Fisher 1936; Belhumeur et al. 1997) on the leading principal components: the differences
between views of one person are whitened, and the directions in which people then differ most are kept. Rebuild with
``python -m deidlib.training.discriminant NAME PEOPLE.npy OUT.npz``. The shipped ones were fitted to 2122 people (the
discriminant) and 1000 of them (the outline), four views each, of ``python -m deidlib.training.identities``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from deidlib.embedders.framing import Framing
from deidlib.embedders.lead import LEADS, TRAINED
from deidlib.embedders.opened import features
from deidlib.embedders.trained import DIMENSIONS, Discriminant
from deidlib.training.views import HELD_OUT, embed, verification, views, wording

_COMPONENTS, _SHRINKAGE = 500, 0.1  # kept of the features; share of the mean variance that every direction is given

_STRENGTH = 0.6  # of the changes of place and light


def features_of(network: torch.nn.Module, framing: Framing, people: np.ndarray, seed: int) -> np.ndarray:
    """Features, (P · V, F) float16, of one view of each picture, (P, V, 160, 160, 3)."""
    rng, found = np.random.default_rng(seed), []
    for part in np.array_split(people.reshape(-1, *people.shape[2:]), people.shape[0] * people.shape[1] // 32):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found.append(network(views(part, framing, rng, _STRENGTH)).half().numpy())
    return np.concatenate(found)


def fit(x: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean, (F,), and projection, (F, 128), of features, (n, F), of people, (n,)."""
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = x.astype(np.float32) - mean
    start = np.random.default_rng(seed).standard_normal((centred.shape[1], _COMPONENTS + 20)).astype(np.float32)
    for _ in range(3):  # subspace iteration for the leading principal axes
        start, _ = np.linalg.qr(centred.T @ (centred @ start))
    _, _, rotation = np.linalg.svd(centred @ start, full_matrices=False)
    axes = start @ rotation[:_COMPONENTS].T
    y = centred @ axes
    _, at = np.unique(labels, return_inverse=True)
    counts = np.bincount(at)
    means = np.stack([np.bincount(at, column) / counts for column in y.T], axis=1)
    within = np.cov((y - means[at]).T)
    within += _SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(values)
    _, _, apart = np.linalg.svd((means - means.mean(axis=0)) @ whiten, full_matrices=False)
    return mean, axes @ (whiten @ apart[:DIMENSIONS].T).astype(np.float32)


def main() -> None:
    """Fit a recogniser, write it, and print what it does on the people held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=TRAINED)
    parser.add_argument("people", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fewer", type=int, help="fit to so many people only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    people, framing = np.load(arguments.people, mmap_mode="r"), LEADS[arguments.name].framing
    network = features(arguments.name)
    trained, held = people[:-HELD_OUT][: arguments.fewer], people[-HELD_OUT:]
    x = features_of(network, framing, trained, seed=0)
    mean, projection = fit(x, np.repeat(np.arange(len(trained)), trained.shape[1]))
    scale = np.abs(projection).max()
    np.savez(arguments.out, mean=mean.astype(np.float16), projection=(projection / scale).astype(np.float16))
    found = embed(Discriminant(network, arguments.out), held.reshape(-1, *held.shape[2:]), framing)
    print(wording(verification(found, np.repeat(np.arange(len(held)), held.shape[1])), len(held)))


if __name__ == "__main__":
    main()
