"""A small network that learns to turn released faces into the original ones (the reversal attack)."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BATCH, _RATE = 8, 2e-3
_WIDTHS = (48, 64, 96)
_FILTER_PHOTOS = 64  # to fit the filter on
_RANDOM = Lock()  # torch has one random state for all threads


class _UNet(nn.Module):
    """(N, 3, S, S) in [−1, 1] to the same: a given linear filter plus a learned correction, which is zero at first.

    Parameters
    ----------
    kernel : Tensor, (3, 4, 5, 5)
        The filter, over the three colours and a constant.
    """

    def __init__(self, kernel: Tensor):
        super().__init__()
        self.register_buffer("kernel", kernel)
        fine, half, quarter = _WIDTHS
        self.at_fine = nn.Sequential(_layer(48, fine), _layer(fine, fine))  # at S / 4
        self.at_half = nn.Sequential(_layer(fine, half, 2), _layer(half, half))
        self.at_quarter = nn.Sequential(_layer(half, quarter, 2), _layer(quarter, quarter))
        self.to_half = _layer(quarter + half, half)
        self.to_fine = _layer(half + fine, fine)
        self.last = nn.Conv2d(fine, 48, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.at_fine(F.pixel_unshuffle(x, 4))
        half = self.at_half(fine)
        y = self.to_half(torch.cat([_doubled(self.at_quarter(half)), half], dim=1))
        y = self.to_fine(torch.cat([_doubled(y), fine], dim=1))
        return F.conv2d(_with_constant(x), self.kernel) + F.pixel_shuffle(self.last(y), 4)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)
    )


def _with_constant(x: Tensor) -> Tensor:
    """Pad by two pixels and add a channel of ones: (N, 4, S + 4, S + 4)."""
    x = F.pad(x, (2, 2, 2, 2), mode="replicate")
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def best_filter(x: Tensor, y: Tensor) -> Tensor:
    """Linear filter, (3, 4, 5, 5), that takes images (N, 3, S, S) nearest to others in the least-squares sense."""
    normal, right = torch.zeros(100, 100, dtype=torch.float64), torch.zeros(100, 3, dtype=torch.float64)
    for one, other in zip(x.split(1), y.split(1), strict=True):
        patches = F.unfold(_with_constant(one), 5)[0].double()
        normal += patches @ patches.T
        right += patches @ other.reshape(3, -1).T.double()
    ridge = 1e-4 * normal.diagonal().mean() * torch.eye(100, dtype=torch.float64)
    return torch.linalg.solve(normal + ridge, right).T.reshape(3, 4, 5, 5).float()


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _to_tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(
    released: np.ndarray, originals: np.ndarray, steps: int, seed: int, progress: Callable[[], None] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Train a network to turn released faces into the original ones, on top of the best linear filter.

    Parameters
    ----------
    released, originals : ndarray, (N, S, S, 3), uint8
        Pairs; S is a multiple of 16.
    steps : int
        Batches of 8, each pair mirrored or not by chance.
    seed : int
        Of the network's first weights and of the batches; the global random state is left alone.
    progress : callable, optional
        Called once a step.

    Returns
    -------
    callable
        (M, S, S, 3) uint8 → the same, restored.
    """
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(released))[:_FILTER_PHOTOS]
    kernel = best_filter(_to_tensor(released[some]), _to_tensor(originals[some]))
    with _RANDOM, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _UNet(kernel).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=max(steps, 2))
    for _ in range(steps):
        rows = rng.choice(len(released), min(_BATCH, len(released)), replace=False)
        x, y = _to_tensor(released[rows]), _to_tensor(originals[rows])
        mirror = torch.from_numpy(rng.random(len(rows)) < 0.5)[:, None, None, None]
        x, y = torch.where(mirror, x.flip(3), x), torch.where(mirror, y.flip(3), y)
        loss = (network(x) - y).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if progress:
            progress()
    network.eval()

    def restore(images: np.ndarray) -> np.ndarray:
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), 16):
                y = network(_to_tensor(images[start : start + 16])).clamp(-1, 1)
                parts.append(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        return np.concatenate(parts) if parts else images

    return restore
