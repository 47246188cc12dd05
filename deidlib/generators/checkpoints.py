"""Reads published StyleGAN2 checkpoints, NVIDIA's ``.pkl`` and rosinality's ``.pt``, into one form.

Only ``deidlib weights convert`` reads them; the stages read its output (:mod:`deidlib.generators.weights`).

NVIDIA's repositories stylegan2-ada-pytorch and stylegan3 (``--cfg=stylegan2``) pickle whole networks, of which
``G_ema`` is the generator; rosinality's stylegan2-pytorch saves dictionaries of tensors, ``g_ema``. Neither file's code
is run, and every tensor is checked: a checkpoint of another network is an error that says what does not fit.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from deidlib.generators.inert_pickle import Record, read_inert
from deidlib.generators.stylegan2 import Checkpoint, Modulated
from deidlib.generators.weights import CheckpointError, NamedTensors

_ZIP = b"PK\x03\x04"
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that PyTorch wrote first before 1.6
_MAPPING_RATE = 0.01  # learning-rate multiplier of the mapping network where the file does not state it


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the generator of a checkpoint, in either layout.

    Parameters
    ----------
    path : Path
        The file. Its first bytes, not its name, decide the layout.

    Raises
    ------
    CheckpointError
        The file is damaged, belongs to another network, or refers to code; the message says which.
    """
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(len(_OLD_TORCH))
    tensors = start.startswith(_ZIP) or start == _OLD_TORCH
    try:
        return _from_rosinality(_read_tensors(path)) if tensors else _from_nvidia(read_inert(path))
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(path.name) else f"{path.name}: {text}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # Names and types can be wrong in too many ways for a message each.
        raise CheckpointError(
            f"{path.name}: is not laid out as a StyleGAN2 checkpoint ({type(error).__name__})"
        ) from None


def _finish(tensors: NamedTensors) -> None:
    """Check the resampling filters, the only tensors that are not weights, and that no other tensor is left."""
    expected = torch.outer(*2 * [torch.tensor([1.0, 3.0, 3.0, 1.0])]) / 64
    for name in sorted(tensors.left):
        value = tensors.left[name]
        if not name.endswith(("resample_filter", ".kernel")):
            raise CheckpointError(f"holds {name}, which a StyleGAN2 generator with skip connections does not have")
        if value.shape != (4, 4) or not torch.allclose(value.float() / value.float().sum(), expected, atol=1e-5):
            raise CheckpointError(f"{name} is a resampling filter other than [1, 3, 3, 1], which is not supported")


# NVIDIA ---------------------------------------------------------------------------------------------------------------


def _from_nvidia(content) -> Checkpoint:
    if not isinstance(content, dict) or not isinstance(content.get("G_ema"), Record):
        raise CheckpointError("holds no network G_ema: not a checkpoint of NVIDIA's PyTorch repositories")
    modules = dict(_modules(content["G_ema"], ""))
    _check_nvidia(modules)
    tensors = NamedTensors(_tensors_of(modules))
    sides = sorted(int(name.removeprefix("synthesis.b")) for name in modules if _is_block(name))
    if sides != [4 * 2**k for k in range(len(sides))]:
        raise CheckpointError(f"has blocks of the sizes {sides}, where StyleGAN2 has 4, 8, 16 and so on")
    mapping = []
    while f"mapping.fc{len(mapping)}" in modules:
        mapping.append(_nvidia_linear(modules, tensors, f"mapping.fc{len(mapping)}"))
    if not mapping:
        raise CheckpointError("holds no mapping network")
    constant = tensors.take("synthesis.b4.const", -1, 4, 4)
    layers, to_rgb, channels, w_dim = [], [], len(constant), len(mapping[-1][1])
    for side in sides:
        for name in ["conv1"] if side == 4 else ["conv0", "conv1"]:
            layer = f"synthesis.b{side}.{name}"
            noise = None
            if modules[layer].get("use_noise", True):
                noise = tensors.take(f"{layer}.noise_const", side, side) * tensors.take(f"{layer}.noise_strength")
            layers.append(_nvidia_modulated(tensors, layer, (-1, channels, 3, 3), w_dim, noise))
            channels = len(layers[-1].weight)
        to_rgb.append(_nvidia_to_rgb(tensors, f"synthesis.b{side}.torgb", channels, w_dim))
    w_mean = tensors.take("mapping.w_avg", w_dim) if "mapping.w_avg" in tensors else None
    _finish(tensors)
    return Checkpoint(mapping, w_mean, constant, layers, to_rgb, _clamp(modules))


def _modules(record: Record, name: str) -> Iterator[tuple[str, dict]]:
    """A network's modules by dotted name, the network itself first: the attributes of each."""
    yield name, record.state
    inner = record.state.get("_modules")
    for key, value in (inner if isinstance(inner, dict) else {}).items():
        if isinstance(value, Record):
            yield from _modules(value, f"{name}.{key}" if name else str(key))


def _tensors_of(modules: dict[str, dict]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}" if name else key: value
        for name, state in modules.items()
        for kind in ("_parameters", "_buffers")
        for key, value in (state.get(kind) or {}).items()
        if isinstance(value, Tensor)
    }


def _is_block(name: str) -> bool:
    return name.startswith("synthesis.b") and name.removeprefix("synthesis.b").isdecimal()


def _check_nvidia(modules: dict[str, dict]) -> None:
    whole = modules[""]
    if "synthesis.input" in modules or not any(map(_is_block, modules)):
        raise CheckpointError("is no StyleGAN2 network (StyleGAN3's own are not supported; train with --cfg=stylegan2)")
    if whole.get("c_dim", 0):
        raise CheckpointError("is conditional on a class label; only unconditional generators are supported")
    if whole.get("img_channels", 3) != 3:
        raise CheckpointError("draws no RGB images")
    for name, state in modules.items():
        if state.get("architecture", "skip") != "skip":
            raise CheckpointError(f"{name} has the architecture {state['architecture']!r}; only skip is supported")
        linear = name.endswith(".affine")
        if state.get("activation", "linear" if linear else "lrelu") != ("linear" if linear else "lrelu"):
            raise CheckpointError(f"{name} has the activation {state['activation']!r}; StyleGAN2's is lrelu")


def _clamp(modules: dict[str, dict]) -> float | None:
    limits = {state["conv_clamp"] for state in modules.values() if "conv_clamp" in state}
    if len(limits) > 1:
        raise CheckpointError("clamps its layers at different values, which is not supported")
    limit = limits.pop() if limits else None
    return None if limit is None else float(limit)


def _nvidia_linear(modules: dict[str, dict], tensors: NamedTensors, name: str) -> tuple[Tensor, Tensor]:
    weight = tensors.take(f"{name}.weight", -1, -1)
    bias = tensors.take(f"{name}.bias", len(weight))
    state = modules[name]
    gain = float(state.get("weight_gain", _MAPPING_RATE / weight.shape[1] ** 0.5))
    return weight * gain, bias * float(state.get("bias_gain", _MAPPING_RATE))


def _nvidia_modulated(
    tensors: NamedTensors, name: str, shape: tuple[int, ...], w_dim: int, noise: Tensor | None
) -> Modulated:
    weight = tensors.take(f"{name}.weight", *shape)
    return Modulated(
        weight=weight,
        style_weight=tensors.take(f"{name}.affine.weight", shape[1], w_dim) / w_dim**0.5,
        style_bias=tensors.take(f"{name}.affine.bias", shape[1]),
        bias=tensors.take(f"{name}.bias", len(weight)),
        noise=noise,
    )


def _nvidia_to_rgb(tensors: NamedTensors, name: str, channels: int, w_dim: int) -> Modulated:
    layer = _nvidia_modulated(tensors, name, (3, channels, 1, 1), w_dim, None)
    return Modulated(layer.weight / channels**0.5, layer.style_weight, layer.style_bias, layer.bias)


# rosinality -----------------------------------------------------------------------------------------------------------


def _read_tensors(path: Path) -> dict:
    """A dictionary that ``torch.save`` wrote, by PyTorch's reader of tensors and containers alone.

    Training also saves its command-line arguments as a ``Namespace``; no other type is allowed.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # the file refers to something else
        raise CheckpointError(
            "holds more than tensors, or is damaged, and is therefore not opened. Save the generator's tensors alone: "
            "torch.save({'g_ema': g_ema.state_dict()}, FILE)"
        ) from None
    except Exception as error:
        raise CheckpointError(f"is damaged ({type(error).__name__}); copy or download it again") from None
    return content


def _from_rosinality(content) -> Checkpoint:
    if not isinstance(content, dict) or not isinstance(content.get("g_ema"), dict):
        raise CheckpointError("holds no g_ema: not a checkpoint of rosinality's stylegan2-pytorch")
    tensors = NamedTensors({str(name): value for name, value in content["g_ema"].items() if isinstance(value, Tensor)})
    mapping = []
    while f"style.{len(mapping) + 1}.weight" in tensors:
        name = f"style.{len(mapping) + 1}"
        weight = tensors.take(f"{name}.weight", -1, -1)
        gain = _MAPPING_RATE / weight.shape[1] ** 0.5
        mapping.append((weight * gain, tensors.take(f"{name}.bias", len(weight)) * _MAPPING_RATE))
    if not mapping:
        raise CheckpointError("holds no mapping network (style.1.weight): not rosinality's StyleGAN2")
    constant = tensors.take("input.input", 1, -1, 4, 4)[0]
    layers, to_rgb, channels, w_dim = [], [], len(constant), len(mapping[-1][1])
    side = 4
    while True:
        for name in ["conv1"] if side == 4 else [f"convs.{len(layers) - 1}", f"convs.{len(layers)}"]:
            noise = tensors.take(f"noises.noise_{len(layers)}", 1, 1, side, side)[0, 0]
            noise = noise * tensors.take(f"{name}.noise.weight", 1)
            bias = f"{name}.activate.bias"
            layers.append(_rosinality_modulated(tensors, name, bias, (1, -1, channels, 3, 3), w_dim, noise))
            channels = len(layers[-1].weight)
        name = f"to_rgbs.{len(to_rgb) - 1}" if to_rgb else "to_rgb1"
        to_rgb.append(_rosinality_modulated(tensors, name, f"{name}.bias", (1, 3, channels, 1, 1), w_dim, None))
        if f"convs.{len(layers) - 1}.conv.weight" not in tensors:
            break
        side *= 2
    _finish(tensors)
    return Checkpoint(mapping, _rosinality_mean(content, w_dim), constant, layers, to_rgb)


def _rosinality_modulated(
    tensors: NamedTensors, name: str, bias: str, shape: tuple[int, ...], w_dim: int, noise: Tensor | None
) -> Modulated:
    weight = tensors.take(f"{name}.conv.weight", *shape)[0]
    bias_shape = (1, 3, 1, 1) if noise is None else (len(weight),)
    return Modulated(
        weight=weight / weight[0].numel() ** 0.5,
        style_weight=tensors.take(f"{name}.conv.modulation.weight", shape[2], w_dim) / w_dim**0.5,
        style_bias=tensors.take(f"{name}.conv.modulation.bias", shape[2]),
        bias=tensors.take(bias, *bias_shape).reshape(-1),
        noise=noise,
    )


def _rosinality_mean(content: dict, w_dim: int) -> Tensor | None:
    mean = content.get("latent_avg")
    return (
        NamedTensors({"latent_avg": mean.reshape(-1)}).take("latent_avg", w_dim) if isinstance(mean, Tensor) else None
    )
