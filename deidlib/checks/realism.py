"""Realism: whether the pixels of a result's face look like a face that the generator draws.

A small convolutional network scores the face. It was trained only to distinguish the generator's own faces from those
driven out of its domain (:mod:`deidlib.training.realism`). It shares no layer with the recognisers that lead and judge.
The preserved area is blanked first, since it shows the patient and not the generated face.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.models import DATA_FOLDER
from deidlib.vision.alignment import ALIGNED_SIDE, aligned_to_native, resample

NETWORK_FILE = DATA_FOLDER / "realism.npz"
SIDE = 128  # px of the view
CENTRE, EXTENT = (0.5, 0.488), 0.806  # of the view, in parts of the aligned frame: from hairline to chin


def view_matrix(side: int) -> np.ndarray:
    """Pixels of the view to pixels of the aligned frame at ``side``, (2, 3)."""
    scale, middle = EXTENT * side / SIDE, SIDE / 2 - 0.5
    return np.array(
        [[scale, 0, CENTRE[0] * side - 0.5 - scale * middle], [0, scale, CENTRE[1] * side - 0.5 - scale * middle]]
    )


def seen(image: np.ndarray, preserved: np.ndarray, to_image: np.ndarray) -> np.ndarray:
    """The view, (128, 128, 3) float32 in [−1, 1], 0 in the preserved area.

    Parameters
    ----------
    image : ndarray, (H, W, 3), uint8
        Image of the face.
    preserved : ndarray, (H, W)
        Above 0 in the preserved area and its band.
    to_image : ndarray, (2, 3)
        Pixels of the view to pixels of the image.
    """
    blank = resample((preserved > 0).astype(np.float32), to_image, SIDE, cv2.BORDER_CONSTANT)
    view = resample(image, to_image, SIDE).astype(np.float32) / 127.5 - 1
    return view * (1 - np.clip(blank, 0, 1)[:, :, None])


class _Layer(nn.Module):
    """Convolution, normalisation, leaky ReLU; added to its input where both have one shape."""

    def __init__(self, before: int, after: int, stride: int, kernel: int = 3):
        super().__init__()
        self.convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm(self.convolution(x)), 0.1)
        return x + y if self.adds else y


class RealismNetwork(nn.Module):
    """Views, (N, 3, 128, 128), to their scores, (N,): the log-odds that the face is sound."""

    def __init__(self) -> None:
        super().__init__()
        plan = ((3, 32, 2, 5), (32, 64, 2), (64, 64, 1), (64, 96, 2), (96, 96, 1), (96, 128, 2), (128, 128, 1))
        self.layers = nn.Sequential(*(_Layer(*layer) for layer in plan))
        self.place = nn.Conv2d(128, 16, 1)
        self.score = nn.Linear(2 * 128 + 16 * 8 * 8, 1)

    def forward(self, views: Tensor) -> Tensor:
        """Score, (N,)."""
        x = self.layers(views)
        found = [x.mean(dim=(2, 3)), x.amax(dim=(2, 3)), F.leaky_relu(self.place(x), 0.1).flatten(1)]
        return self.score(F.dropout(torch.cat(found, dim=1), 0.2, self.training))[:, 0]


class Realism:
    """The check's model.

    Parameters
    ----------
    weights : mapping
        Of :class:`RealismNetwork`, by name, as :func:`read_network` gives them.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self._network = RealismNetwork()
        self._network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self._network.eval().requires_grad_(False)

    def score_views(self, views: np.ndarray) -> np.ndarray:
        """Scores, (N,), of views, (N, 128, 128, 3), as :func:`seen` gives them."""
        with torch.no_grad():
            return self._network(torch.from_numpy(views).permute(0, 3, 1, 2).contiguous()).numpy()

    def score(self, image: np.ndarray, points: np.ndarray, preserved: np.ndarray) -> float:
        """Score of the face in an image; higher is better.

        Parameters
        ----------
        image : ndarray, (S, S, 3), uint8
            The released square.
        points : ndarray, (478, 2)
            Landmarks of the face in its pixels.
        preserved : ndarray, (S, S)
            Above 0 in the preserved area and its band.
        """
        to_image = aligned_to_native(points) @ np.vstack([view_matrix(ALIGNED_SIDE), [0, 0, 1]])
        return float(self.score_views(seen(image, preserved, to_image)[None])[0])


def read_network(path: Path = NETWORK_FILE) -> dict[str, np.ndarray]:
    """Weights of the shipped network (stored as float16)."""
    with np.load(path) as stored:
        return {name: v.astype(np.float32) if v.dtype == np.float16 else v for name, v in stored.items()}
