"""A StyleGAN2 generator's weights as tensors by name: what ``deidlib weights convert`` writes and the stages read.

    mapping.K.weight, mapping.K.bias        layers of the mapping network
    w_mean                                  where the checkpoint has it
    constant
    layers.K.NAME, to_rgb.K.NAME            weight, style_weight, style_bias, bias and, where there is noise, noise

All gains are applied; see :class:`deidlib.generators.stylegan2.Checkpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor

from deidlib.errors import InputError
from deidlib.generators.stylegan2 import Checkpoint, Modulated

#: Name of the layout, in the files' metadata.
LAYOUT = "stylegan2-1"


class CheckpointError(InputError):
    """A checkpoint is damaged, of another kind, or not supported; the message says what to do."""


class NamedTensors:
    """The tensors of a network by name, taken one by one with their shape checked.

    Attributes
    ----------
    left : dict
        The tensors that were not taken yet.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self.left

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor in float32; −1 in ``shape`` stands for any length."""
        if name not in self.left:
            raise CheckpointError(f"holds no tensor {name}: not a StyleGAN2 generator with skip connections")
        value = self.left.pop(name)
        fits = value.dim() == len(shape) and all(n in (-1, m) for n, m in zip(shape, value.shape, strict=True))
        if not fits:
            raise CheckpointError(f"{name} has the shape {tuple(value.shape)}, where StyleGAN2 has {shape}")
        value = value.float().contiguous()
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{name} holds values that are no numbers; copy or download the file again")
        return value


def to_tensors(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict]:
    """Tensors of a checkpoint by name, and the metadata of a file of them: layout, side and clamp."""
    tensors = {"constant": checkpoint.constant}
    if checkpoint.w_mean is not None:
        tensors["w_mean"] = checkpoint.w_mean
    for k, (weight, bias) in enumerate(checkpoint.mapping):
        tensors |= {f"mapping.{k}.weight": weight, f"mapping.{k}.bias": bias}
    for kind in ("layers", "to_rgb"):
        for k, layer in enumerate(getattr(checkpoint, kind)):
            values = {field.name: getattr(layer, field.name) for field in fields(Modulated)}
            tensors |= {f"{kind}.{k}.{name}": value for name, value in values.items() if value is not None}
    side = 4 * 2 ** (len(checkpoint.to_rgb) - 1)
    return tensors, {"layout": LAYOUT, "side": side, "clamp": checkpoint.clamp}


def from_tensors(tensors: Mapping[str, Tensor], about: Mapping) -> Checkpoint:
    """Checkpoint of tensors by name; see :func:`to_tensors`.

    Raises
    ------
    CheckpointError
        A tensor is missing, has a wrong shape, holds values that are not finite, or is not part of the layout.
    """
    if about.get("layout") != LAYOUT:
        raise CheckpointError(f"has the layout {about.get('layout')!r}, where {LAYOUT!r} is read; convert it again")
    clamp, given, mapping = about.get("clamp"), NamedTensors(tensors), []
    if not (clamp is None or (isinstance(clamp, int | float) and clamp > 0)):
        raise CheckpointError("states a clamp that is no number above 0; convert it again")
    while f"mapping.{len(mapping)}.weight" in given:
        weight = given.take(f"mapping.{len(mapping)}.weight", -1, -1)
        mapping.append((weight, given.take(f"mapping.{len(mapping)}.bias", len(weight))))
    if not mapping:
        raise CheckpointError("holds no mapping network")
    w_dim = len(mapping[-1][1])
    w_mean = given.take("w_mean", w_dim) if "w_mean" in given else None
    constant = given.take("constant", -1, 4, 4)
    layers, to_rgb, channels, side = [], [], len(constant), 4
    while True:
        for _ in range(1 if side == 4 else 2):
            layers.append(_modulated(given, f"layers.{len(layers)}", (-1, channels, 3, 3), w_dim, side))
            channels = len(layers[-1].weight)
        to_rgb.append(_modulated(given, f"to_rgb.{len(to_rgb)}", (3, channels, 1, 1), w_dim, None))
        if f"layers.{len(layers)}.weight" not in given:
            break
        side *= 2
    if given.left:
        raise CheckpointError(
            f"holds {min(given.left)}, which a StyleGAN2 generator with skip connections does not have"
        )
    return Checkpoint(mapping, w_mean, constant, layers, to_rgb, None if clamp is None else float(clamp))


def _modulated(given: NamedTensors, name: str, shape: tuple[int, ...], w_dim: int, side: int | None) -> Modulated:
    weight = given.take(f"{name}.weight", *shape)
    has_noise = side is not None and f"{name}.noise" in given
    return Modulated(
        weight=weight,
        style_weight=given.take(f"{name}.style_weight", shape[1], w_dim),
        style_bias=given.take(f"{name}.style_bias", shape[1]),
        bias=given.take(f"{name}.bias", len(weight)),
        noise=given.take(f"{name}.noise", side, side) if has_noise else None,
    )
