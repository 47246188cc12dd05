"""Generators: networks that turn a latent code into a face. They import torch and numpy only.

A generator has ``n_styles``, ``w_dim``, ``resolution``, ``map(z) -> w``, ``synthesise(w_plus) -> images``,
``preview(w_plus) -> images at a quarter of the size`` and ``close_up``, the preview and a part at twice its size; see
:class:`deidlib.generators.mobilestylegan.MobileStyleGAN` and :class:`deidlib.generators.stylegan2.StyleGAN2`. Each
draws in the aligned frame of 1024², whatever its own size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from deidlib.errors import InputError


class Generator(Protocol):
    """The interface that inversion needs of a generator (a torch module)."""

    n_styles: int
    w_dim: int
    resolution: int

    def map(self, z: Tensor) -> Tensor:
        """(N, 512) standard normal to (N, w_dim)."""

    def synthesise(self, w: Tensor) -> Tensor:
        """(N, n_styles, w_dim) to (N, 3, resolution, resolution) RGB in about [−1, 1]."""

    def preview(self, w: Tensor) -> Tensor:
        """The same image at a quarter of the size: several times faster, with a small error."""

    def close_up(self, w: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """The preview, and a square of the image at half its size, (N, 3, side, side), without that error.

        ``corners``, (N, 2), are column and row, at half the size, of each square's first pixel.
        """


@dataclass(frozen=True)
class LatentPrior:
    """Mean and principal axes of w: the domain that inversion must not leave.

    Attributes
    ----------
    mean : ndarray, (512,)
        Mean of w.
    axes : ndarray, (512, 512)
        Column k is the k-th principal axis times its standard deviation (floored), so w = mean + axes @ u with
        u of unit variance.
    whiten : ndarray, (512, 512)
        Inverse of ``axes``.
    """

    mean: np.ndarray
    axes: np.ndarray
    whiten: np.ndarray

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """RMS Mahalanobis distance over the last axis; two independent draws of w lie √2 apart."""
        return np.sqrt(np.mean(((np.asarray(a, np.float64) - b) @ self.whiten.T) ** 2, axis=-1))


def latent_prior(generator: Generator, n: int = 20000, seed: int = 0, floor: float = 0.02) -> LatentPrior:
    """Statistics of w from n draws; standard deviations below ``floor`` × the largest are raised to it."""
    z = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 512)).astype(np.float32))
    device = next(generator.parameters()).device
    with torch.no_grad():
        w = torch.cat([generator.map(part.to(device)).cpu() for part in z.split(2000)]).double().numpy()
    mean = w.mean(axis=0)
    variance, vectors = np.linalg.eigh(np.cov(w, rowvar=False))
    # Largest first. The sign of an eigenvector is arbitrary, so it is fixed.
    deviation, vectors = np.sqrt(np.maximum(variance[::-1], 0)), vectors[:, ::-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))])
    deviation = np.maximum(deviation, floor * deviation[0])
    return LatentPrior(mean, vectors * deviation, (vectors / deviation).T)


def build_mobilestylegan(files: dict[str, Path], preview_file: Path) -> Generator:
    """Build the default generator from its weight files.

    Parameters
    ----------
    files : dict
        File name to path, as ``deidlib.models.files("mobilestylegan")`` gives them.
    preview_file : Path
        Weights of the preview head that belongs to it.
    """
    from deidlib.generators.mobilestylegan import MobileStyleGAN

    generator = MobileStyleGAN(files["MappingNetwork.xml"], files["SynthesisNetwork.xml"], preview_file)
    return generator.to(memory_format=torch.channels_last)


def build_stylegan2(tensors: Mapping[str, Tensor], about: Mapping, preview_file: Path) -> Generator:
    """Build a StyleGAN2 generator from its weights.

    Parameters
    ----------
    tensors, about
        As :func:`deidlib.generators.weights.to_tensors` gives them.
    preview_file : Path
        Weights of the preview head that belongs to it. Without this file previews are whole images, which is slower.

    Raises
    ------
    InputError
        The weights belong to another network, or to a generator that the pipeline cannot use.
    """
    from deidlib.generators.running_rgb import use_running_rgb
    from deidlib.generators.stylegan2 import StyleGAN2
    from deidlib.generators.weights import from_tensors

    generator = StyleGAN2(from_tensors(tensors, about))
    if generator.own_resolution not in (256, 512, 1024):
        raise InputError(
            f"generator: the checkpoint draws {generator.own_resolution}² pixels; bring one of 256², 512² or 1024²"
        )
    if (generator.z_dim, generator.w_dim) != (512, 512):
        raise InputError(
            f"generator: z and w of the checkpoint have {generator.z_dim} and {generator.w_dim} values, where 512 are "
            "expected (as in every published network of faces)"
        )
    if generator.own_resolution > 256 and preview_file.is_file():
        use_running_rgb(generator, preview_file)
    return generator.to(memory_format=torch.channels_last)
