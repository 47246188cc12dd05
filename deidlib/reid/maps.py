"""Maps between embeddings that an attacker learns from (released, original) pairs: linear, or by a small network.

A learner gives several maps, from the identity to the one that was trained most; :func:`best_map` takes the one that
does best on patients outside its training data.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Candidate ridge penalties, in units of the embeddings' variance.
_PENALTIES = np.geomspace(1e3, 1e-2, 9)
#: Training steps at least, passes through the photographs at least, and the shares of them after which a map is tried.
_STEPS, _PASSES, _TRIED = 200, 20, (0, 0.125, 0.375, 1)
_INNER_FOLDS = 3
#: Most held-out photographs of a fold by which a map is chosen.
_SCORED = 200
_HIDDEN, _BATCH, _RATE, _DECAY, _SHARPNESS = 64, 256, 3e-3, 0.03, 10.0

#: (M, D) released embeddings → (M, D) centred guesses of the originals.
Map = Callable[[np.ndarray], np.ndarray]
#: (N, D) released and original embeddings, and their patients → maps, the identity first.
Learner = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], Iterator[Map]]


def linear_maps(
    released: np.ndarray, originals: np.ndarray, patients: np.ndarray, rng: np.random.Generator
) -> Iterator[Map]:
    """Ridge regression of originals on released ones, both centred, for every penalty.

    The map is shrunk towards a multiple of the identity, not towards 0. With few training data it leaves an embedding
    as it is, and the attack is the recogniser's own. Or it reverses the sign, since a method that leads away from the
    patient makes the least similar face the likeliest.
    """
    mean, offset = released.mean(axis=0), originals.mean(axis=0)
    x, y = released - mean, originals - offset
    size = max(abs(float(np.sum(x * y) / max(np.sum(x**2), 1e-12))), 1e-3)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    variance = max(float(np.mean(s**2)), 1e-12)
    for multiple in (size, -size):
        target = u.T @ (y - multiple * x)
        for penalty in _PENALTIES:
            weights = vt.T @ ((s / (s**2 + penalty * variance))[:, None] * target)
            yield lambda vectors, m=multiple, w=weights: (vectors - mean) @ w + m * (vectors - mean)


class _Network(nn.Module):
    """Input plus a linear and a non-linear path, both zero at first: (N, D) → (N, D)."""

    def __init__(self, size: int):
        super().__init__()
        self.straight = nn.Linear(size, size)
        self.bent = nn.Sequential(nn.Linear(size, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, size))
        for last in (self.straight, self.bent[2]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.straight(x) + self.bent(x)


def mlp_maps(
    released: np.ndarray, originals: np.ndarray, patients: np.ndarray, rng: np.random.Generator
) -> Iterator[Map]:
    """Small network after increasing numbers of training steps; it maps a photograph towards its patient's originals.

    It is trained once from the embedding as it is, and once from the embedding with the sign reversed.
    """
    mean, offset = released.mean(axis=0), originals.mean(axis=0)
    scale = max(float(np.std(released - mean)), 1e-12)
    x = torch.from_numpy(((released - mean) / scale).astype(np.float32))
    y = torch.from_numpy((originals - offset).astype(np.float32))
    _, person = np.unique(patients, return_inverse=True)
    person = torch.from_numpy(person)
    for sign in (1, -1):
        yield from _trained(sign * x, y, person, lambda vectors, sign=sign: sign * (vectors - mean) / scale, rng)


def _trained(
    x: Tensor, y: Tensor, person: Tensor, scaled: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> Iterator[Map]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        network = _Network(x.shape[1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY, foreach=True)
    last = max(_STEPS, _PASSES * len(x) // _BATCH)
    tried = {round(share * last) for share in _TRIED}
    for done in range(last + 1):
        if done in tried:
            yield lambda vectors: _applied(network, scaled(vectors))
        if done < last:
            rows = rng.permutation(len(x))[:_BATCH]
            noise = torch.from_numpy(0.1 * rng.standard_normal((len(rows), x.shape[1]), dtype=np.float32))
            loss = contrast(network(x[rows] + noise), y[rows], person[rows], person[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def _applied(network: nn.Module, vectors: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(vectors.astype(np.float32))).numpy()


def contrast(guesses: Tensor, originals: Tensor, whose_guess: Tensor, whose_original: Tensor) -> Tensor:
    """Contrastive loss of guesses against their patients' originals (InfoNCE, van den Oord et al. 2018)."""
    scores = _SHARPNESS * F.normalize(guesses, dim=1) @ F.normalize(originals, dim=1).T
    same = whose_guess[:, None] == whose_original[None, :]
    return (torch.logsumexp(scores, 1) - torch.logsumexp(scores.masked_fill(~same, -np.inf), 1)).mean()


def best_map(
    released: np.ndarray, originals: np.ndarray, patients: np.ndarray, learn: Learner, rng: np.random.Generator
) -> Map:
    """Choose the learner's map that does best on held-out patients, and train it again on all of them."""
    people, place = np.unique(patients, return_inverse=True)
    fold = rng.permutation(np.arange(len(people)) % _INNER_FOLDS)[place]
    errors: Counter[int] = Counter()
    for k in range(_INNER_FOLDS):
        inside, outside = fold != k, _some(np.flatnonzero(fold == k))
        gallery = torch.from_numpy(originals - originals[inside].mean(axis=0))
        for number, give in enumerate(learn(released[inside], originals[inside], patients[inside], rng)):
            guesses = torch.from_numpy(give(released[outside]).astype(np.float64))
            whose = torch.from_numpy(place[outside]), torch.from_numpy(place)
            errors[number] += float(contrast(guesses, gallery, *whose)) * len(outside)
    chosen = min(errors, key=lambda number: (errors[number], number))
    return next(itertools.islice(learn(released, originals, patients, rng), chosen, None))


def _some(rows: np.ndarray) -> np.ndarray:
    """Every row, or as many at equal steps as a choice needs: each is compared with all originals for every map."""
    return rows[:: max(1, -(-len(rows) // _SCORED))]


LEARNERS: dict[str, tuple[str, Learner]] = {
    "parrot_linear": ("linear map", linear_maps),
    "parrot_mlp": ("small neural network", mlp_maps),
}
