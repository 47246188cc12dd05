"""Small recognisers that were trained on the generator's own people (:mod:`deidlib.training.recognisers`).

They differ in architecture, in what they see and in size, so that a face which one of them does not know for the
patient's is not so for one network's reasons alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIMENSIONS = 128  # of an embedding


class _Convolution(nn.Sequential):
    """Convolution, normalisation, PReLU."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1):
        super().__init__(
            nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(after),
            nn.PReLU(after),
        )


class _Residual(nn.Module):
    """Two convolutions added to their input."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = _Convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class _Mixing(nn.Module):
    """Dense layers over places, then over channels, added to their input (Tolstikhin et al. 2021, arXiv 2105.01601)."""

    def __init__(self, channels: int, places: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.over_places = _dense_pair(places, places)
        self.over_channels = _dense_pair(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_places(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.norms[1](x))


def _dense_pair(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class _Mixed(nn.Module):
    """Two convolutions from 96² to 12² places, and mixing there: (N, channels, 12, 12)."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.stem = nn.Sequential(_Convolution(3, 32, 7, 4), _Convolution(32, channels, 3, 2))
        self.mixing = nn.Sequential(*(_Mixing(channels, 12 * 12) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.mixing(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


class _Embedder(nn.Module):
    """Layers, then a dense one over places and channels."""

    def __init__(self, layers: nn.Module, channels: int, places: int):
        super().__init__()
        self.layers = layers
        self.norm = nn.BatchNorm2d(channels)
        self.dense = nn.Linear(channels * places, DIMENSIONS, bias=False)
        self.last = nn.BatchNorm1d(DIMENSIONS)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces, (N, 3, side, side) RGB in [−1, 1], as unit vectors, (N, 128)."""
        x = self.norm(self.layers(faces)).flatten(1)
        return F.normalize(self.last(self.dense(x)).float(), dim=1)


def residual() -> _Embedder:
    """Residual network for faces of 112²."""
    layers = [_Convolution(3, 32, 7, 4), _Residual(32), _Convolution(32, 80, 3, 2), _Residual(80)]
    layers += [_Convolution(80, 160, 3, 2), _Residual(160)]
    return _Embedder(nn.Sequential(*layers), 160, 7 * 7)


def mixer() -> _Embedder:
    """Network that mixes 12² places of faces of 96²."""
    return _Embedder(nn.Sequential(_Mixed(112, 4), _Convolution(112, 64, 1)), 64, 12 * 12)


class Discriminant(nn.Module):
    """The perceptual distance's features, projected to what tells people apart (linear discriminant analysis).

    The features come from photographs of everything (AlexNet of ST-LPIPS), the projection from the generator's people
    (:mod:`deidlib.training.discriminant`).

    Parameters
    ----------
    perceptual : STLPIPS
        Whose features are taken; it is not copied.
    path : Path
        ``mean``, (F,), and ``projection``, (F, 128), as float16.
    """

    def __init__(self, perceptual: nn.Module, path: Path):
        super().__init__()
        self.perceptual = perceptual
        with np.load(path) as stored:
            mean, projection = (torch.from_numpy(stored[n].astype(np.float32)) for n in ("mean", "projection"))
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces, (N, 3, 112, 112) RGB in [−1, 1], as unit vectors, (N, 128)."""
        x = pooled_features(self.perceptual, faces)
        return F.normalize((x - self.mean) @ self.projection, dim=1)


def pooled_features(perceptual: nn.Module, faces: Tensor) -> Tensor:
    """Third and fifth layer of the perceptual distance's network, in 7² and 5² places, (N, F)."""
    layers = perceptual.features(faces)
    return torch.cat([F.adaptive_avg_pool2d(layers[k].float(), n).flatten(1) for k, n in ((2, 7), (4, 5))], dim=1)


ARCHITECTURES = {"residual": residual, "mixer": mixer}


def save(network: nn.Module, path: Path) -> None:
    """Write a network's weights as float16."""
    state = network.state_dict().items()
    np.savez(path, **{name: (v.half() if v.is_floating_point() else v).numpy() for name, v in state})


def load(architecture: str, path: Path) -> nn.Module:
    """Network with the weights of a file that :func:`save` wrote, ready to use."""
    with np.load(path) as stored:
        halves = {name: stored[name] for name in stored.files}
    weights = {name: v.astype(np.float32) if v.dtype == np.float16 else v for name, v in halves.items()}
    network = ARCHITECTURES[architecture]()
    network.load_state_dict({name: torch.from_numpy(np.asarray(v)) for name, v in weights.items()})
    return network.eval().requires_grad_(False)
