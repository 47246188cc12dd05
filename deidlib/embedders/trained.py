"""Recognisers that were fitted to the generator's own people.

Features of another network, and what of them tells people apart: linear discriminant analysis, by
:mod:`deidlib.training.discriminant`.
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
    """Features, projected to what tells people apart: faces, (N, 3, side, side) RGB in [−1, 1], to (N, 128).

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


class PerceptualFeatures(nn.Module):
    """Third and fifth layer of the perceptual distance's network (AlexNet, photographs of everything), in few places.

    Parameters
    ----------
    perceptual : STLPIPS
        The perceptual distance; it is shared, not copied.
    """

    def __init__(self, perceptual: nn.Module):
        super().__init__()
        self.perceptual = perceptual

    def forward(self, faces: Tensor) -> Tensor:
        """Features, (N, 25216)."""
        return _in_places(self.perceptual.features(faces), ((2, 7), (4, 5)))


class SexFeatures(nn.Module):
    """Second and third layer of the network that estimates a face's sex (Levi and Hassner 2015), in few places.

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
        self.register_buffer("shift", torch.tensor(self._MEAN).reshape(1, 3, 1, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Features, (N, 16000)."""
        x, layers = (faces.flip(1) + 1) * 127.5 - self.shift, []
        for k, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            stride, padding = ((4, 0), (1, 2), (1, 1))[k]
            x = F.relu(F.conv2d(x, kernel, bias, stride=stride, padding=padding))
            layers.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-6))
            if k < 2:
                x = F.local_response_norm(F.max_pool2d(x, 3, 2), 5, 1e-4, 0.75)
        return _in_places(layers, ((1, 5), (2, 5)))


def _in_places(layers: Sequence[Tensor], which: Sequence[tuple[int, int]]) -> Tensor:
    """Means of some layers over so many by so many places, as one vector a face."""
    return torch.cat([F.adaptive_avg_pool2d(layers[k].float(), n).flatten(1) for k, n in which], dim=1)
