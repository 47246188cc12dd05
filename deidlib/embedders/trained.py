"""Recognisers that were fitted to the generator's own people.

Each is a projection of another network's features to the directions that distinguish people, found by linear
discriminant analysis (:mod:`deidlib.training.discriminant`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIMENSIONS = 128  # of an embedding


class Discriminant(nn.Module):
    """Features, projected to directions that distinguish people: faces, (N, 3, side, side) in [−1, 1], to (N, 128).

    Parameters
    ----------
    features : Module
        Faces to features, (N, F).
    path : Path
        ``mean``, (F,), and ``projection``, (F, 128), as float16.
    """

    def __init__(self, features: nn.Module, path: Path):
        super().__init__()
        self.features = features
        with np.load(path) as stored:
            mean, projection = (torch.from_numpy(stored[n].astype(np.float32)) for n in ("mean", "projection"))
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces as unit vectors."""
        return F.normalize((self.features(faces) - self.mean) @ self.projection, dim=1)


class _Places(nn.Module):
    """Means of feature maps, (N, C, side, side), over an n × n grid, as one vector for each face.

    This is adaptive mean pooling as products with constant matrices, because torch's own has no fixed order on a GPU.
    """

    def __init__(self, side: int, n: int):
        super().__init__()
        shares = torch.zeros(n, side)
        for k in range(n):
            window = slice(k * side // n, -(-(k + 1) * side // n))
            shares[k, window] = 1 / (window.stop - window.start)
        self.register_buffer("shares", shares)

    def forward(self, x: Tensor) -> Tensor:
        return (self.shares @ x.float() @ self.shares.T).flatten(1)


class PerceptualFeatures(nn.Module):
    """Third and fifth layer of the perceptual distance's network (AlexNet, trained on general photographs), pooled.

    Parameters
    ----------
    perceptual : STLPIPS
        The perceptual distance; it is shared, not copied.
    """

    def __init__(self, perceptual: nn.Module):
        super().__init__()
        self.perceptual, self.places = perceptual, nn.ModuleList([_Places(14, 7), _Places(14, 5)])

    def forward(self, faces: Tensor) -> Tensor:
        """Features, (N, 25216), of faces of 112²."""
        layers = self.perceptual.features(faces)
        return torch.cat([places(layers[k]) for k, places in zip((2, 4), self.places, strict=True)], dim=1)


class SexFeatures(nn.Module):
    """Second and third layer of the network that estimates a face's sex (Levi and Hassner 2015), pooled.

    Parameters
    ----------
    kernels, biases : sequence of ndarray
        Of its three convolutions, which take BGR less the mean, in grey levels.
    """

    _MEAN = 78.43, 87.77, 114.90  # of its training photographs, BGR

    def __init__(self, kernels: Sequence[np.ndarray], biases: Sequence[np.ndarray]):
        super().__init__()
        self.kernels, self.biases = (
            nn.ParameterList(nn.Parameter(torch.tensor(a), requires_grad=False) for a in arrays)
            for arrays in (kernels, biases)
        )
        self.places = nn.ModuleList([_Places(13, 5), _Places(6, 5)])
        self.register_buffer("shift", torch.tensor(self._MEAN).reshape(1, 3, 1, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Features, (N, 16000), of faces of 112²."""
        x, layers = (faces.flip(1) + 1) * 127.5 - self.shift, []
        for k, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            stride, padding = ((4, 0), (1, 2), (1, 1))[k]
            x = F.relu(F.conv2d(x, kernel, bias, stride=stride, padding=padding))
            layers.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-6))
            if k < 2:
                x = _normalised(F.max_pool2d(x, 3, 2))
        return torch.cat([places(layer) for layer, places in zip(layers[1:], self.places, strict=True)], dim=1)


def _normalised(x: Tensor) -> Tensor:
    """Local response normalisation over five channels (Krizhevsky et al. 2012)."""
    around = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
    total = sum(around[:, k : k + x.shape[1]] for k in range(5))
    return x / (1 + 1e-4 / 5 * total) ** 0.75
