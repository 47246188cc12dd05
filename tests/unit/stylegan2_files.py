"""Small StyleGAN2 checkpoints in the layouts that users have, and a slow reference of what they draw.

``random_network`` makes weights; ``write_nvidia`` and ``write_rosinality`` save them as NVIDIA's and rosinality's
repositories do; ``reference_image`` draws with them by the paper's equations (arXiv 1912.04958), in NumPy and double
precision, one photograph and one kernel position at a time. The reference shares no code with deidlib.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

#: Source text that NVIDIA's pickles carry. Whoever runs it learns so.
SOURCE = "raise SystemExit('the source text in the checkpoint was run')"
TAPS = np.array([1.0, 3.0, 3.0, 1.0])


def random_network(side: int = 16, channels: int = 8, w_dim: int = 16, n_mapping: int = 2, seed: int = 0) -> dict:
    """Weights as training holds them (unit variance, gains not applied), by NVIDIA's names."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    net = {"mapping.w_avg": 0.3 * normal(w_dim)}
    for k in range(n_mapping):
        net[f"mapping.fc{k}.weight"] = normal(w_dim, w_dim) / 0.01
        net[f"mapping.fc{k}.bias"] = 20 * normal(w_dim)
    net["synthesis.b4.const"] = normal(channels, 4, 4)
    for size in _sides(side):
        wide = channels if size < 16 else channels // 2
        before = channels if size <= 16 else channels // 2
        for name in _convolutions(size):
            layer = f"synthesis.b{size}.{name}"
            into = before if name == "conv0" else wide
            net |= _affine(layer, into, w_dim, normal)
            net[f"{layer}.weight"] = normal(wide, into, 3, 3)
            net[f"{layer}.bias"] = 0.2 * normal(wide)
            net[f"{layer}.noise_const"] = normal(size, size)
            net[f"{layer}.noise_strength"] = np.float32(0.1 * rng.standard_normal()).reshape(())
        layer = f"synthesis.b{size}.torgb"
        net |= _affine(layer, wide, w_dim, normal)
        net[f"{layer}.weight"], net[f"{layer}.bias"] = normal(3, wide, 1, 1), 0.1 * normal(3)
    return net


def _affine(layer: str, into: int, w_dim: int, normal) -> dict:
    return {f"{layer}.affine.weight": normal(into, w_dim), f"{layer}.affine.bias": 1 + 0.1 * normal(into)}


def _sides(side: int) -> list[int]:
    return [4 * 2**k for k in range(int(np.log2(side)) - 1)]


def _convolutions(size: int) -> list[str]:
    return ["conv1"] if size == 4 else ["conv0", "conv1"]


def side_of(net: dict) -> int:
    return max(int(name.split(".")[1][1:]) for name in net if name.startswith("synthesis.b"))


# The reference --------------------------------------------------------------------------------------------------------


def reference_map(net: dict, z: np.ndarray) -> np.ndarray:
    """w of z, one layer at a time: the learning-rate multiplier 0.01 scales weights (with 1/√fan-in) and biases."""
    x = z / np.sqrt(np.mean(z.astype(np.float64) ** 2, axis=1, keepdims=True) + 1e-8)
    k = 0
    while f"mapping.fc{k}.weight" in net:
        weight, bias = (net[f"mapping.fc{k}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        x = x @ (weight.T * 0.01 / np.sqrt(weight.shape[1])) + 0.01 * bias
        x = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
        k += 1
    return x


def _slide(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlation of (I, H, W) with (O, I, k, k), no padding, by summing over the kernel's positions."""
    k = kernel.shape[-1]
    rows, columns = x.shape[1] - k + 1, x.shape[2] - k + 1
    total = np.zeros((len(kernel), rows, columns))
    for i in range(k):
        for j in range(k):
            total += np.tensordot(kernel[:, :, i, j], x[:, i : i + rows, j : j + columns], axes=1)
    return total


def _spread(x: np.ndarray) -> np.ndarray:
    """Zeros between the pixels: (C, H, W) to (C, 2H, 2W)."""
    wide = np.zeros((x.shape[0], 2 * x.shape[1], 2 * x.shape[2]))
    wide[:, ::2, ::2] = x
    return wide


def _filtered(x: np.ndarray) -> np.ndarray:
    """The low-pass filter, its sum 4 (it makes up for the zeros), channel by channel, no padding."""
    kernel = np.outer(TAPS, TAPS) / TAPS.sum() ** 2 * 4
    return np.concatenate([_slide(channel[None], kernel[None, None]) for channel in x])


def _modulated(net: dict, layer: str, w: np.ndarray, scale: float) -> np.ndarray:
    """The layer's kernel, (O, I, k, k), each input channel times its style."""
    affine = net[f"{layer}.affine.weight"].astype(np.float64)
    style = affine @ w / np.sqrt(len(w)) + net[f"{layer}.affine.bias"]
    return net[f"{layer}.weight"].astype(np.float64) * scale * style[None, :, None, None]


def reference_image(net: dict, codes: np.ndarray, clamp: float | None = None, until: int | None = None) -> np.ndarray:
    """Image, (3, side, side) float64, of one W+ code, (n_styles, w_dim), by the equations."""

    def limited(values: np.ndarray) -> np.ndarray:
        return values if clamp is None else np.clip(values, -clamp, clamp)

    x, image, position = net["synthesis.b4.const"].astype(np.float64), None, 0
    for size in _sides(until or side_of(net)):
        for name in _convolutions(size):
            layer = f"synthesis.b{size}.{name}"
            kernel = _modulated(net, layer, codes[position], 1.0)
            kernel = kernel / np.sqrt(np.sum(kernel**2, axis=(1, 2, 3), keepdims=True) + 1e-8)
            if name == "conv0":  # enlarge and filter, then convolve; padded once, by what both take away
                x = _filtered(np.pad(_spread(x), ((0, 0), (3, 2), (3, 2))))
                x = _slide(x, kernel[:, :, ::-1, ::-1])
            else:
                x = _slide(np.pad(x, ((0, 0), (1, 1), (1, 1))), kernel)
            x = x + net[f"{layer}.noise_strength"] * net[f"{layer}.noise_const"].astype(np.float64)
            x = x + net[f"{layer}.bias"].astype(np.float64)[:, None, None]
            x = limited(np.where(x > 0, x, 0.2 * x) * np.sqrt(2))
            position += 1
        layer = f"synthesis.b{size}.torgb"
        kernel = _modulated(net, layer, codes[position], 1 / np.sqrt(x.shape[0]))
        rgb = limited(_slide(x, kernel) + net[f"{layer}.bias"].astype(np.float64)[:, None, None])
        image = rgb if image is None else _filtered(np.pad(_spread(image), ((0, 0), (2, 1), (2, 1)))) + rgb
    return image


# NVIDIA's layout ------------------------------------------------------------------------------------------------------


class _Persistent(torch.nn.Module):
    """A module that pickles as torch_utils.persistence has it: its state and its source, for a function to rebuild."""

    def __init__(self, class_name: str, **attributes):
        super().__init__()
        self.class_name = class_name
        for name, value in attributes.items():
            setattr(self, name, value)
        self._init_args, self._init_kwargs = (), {"mapping_kwargs": _easy_dict()(num_layers=2), "resolution": 16}

    def __reduce__(self):
        state = {name: value for name, value in self.__dict__.items() if name != "class_name"}
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.class_name, "state": state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None


def _easy_dict() -> type:
    return sys.modules["dnnlib.util"].EasyDict


@contextlib.contextmanager
def nvidia_modules():
    """The names that NVIDIA's pickles refer to, importable for as long as one is written."""

    def _reconstruct_persistent_obj(meta):
        exec(meta["module_src"])  # as NVIDIA's own does

    modules = {
        name: types.ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    modules["dnnlib.util"].EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def _linear(net: dict, name: str, activation: str, rate: float) -> _Persistent:
    layer = _Persistent(
        "FullyConnectedLayer",
        activation=activation,
        weight_gain=rate / np.sqrt(net[f"{name}.weight"].shape[1]),  # a NumPy number, as in the repositories
        bias_gain=rate,
    )
    layer.weight, layer.bias = (torch.nn.Parameter(torch.tensor(net[f"{name}.{part}"])) for part in ("weight", "bias"))
    return layer.requires_grad_(False)


def _filter_buffer() -> torch.Tensor:
    taps = torch.tensor(TAPS, dtype=torch.float32)
    return torch.outer(taps, taps) / 64


def _nvidia_generator(net: dict, clamp: float | None, **changes) -> _Persistent:
    w_dim, side = len(net["mapping.w_avg"]), side_of(net)
    sizes = {"z_dim": w_dim, "c_dim": 0, "w_dim": w_dim, "img_resolution": side, "img_channels": 3}
    mapping = _Persistent("MappingNetwork", z_dim=w_dim, c_dim=0, w_dim=w_dim, w_avg_beta=0.998, num_layers=2)
    mapping.register_buffer("w_avg", torch.tensor(net["mapping.w_avg"]))
    k = 0
    while f"mapping.fc{k}.weight" in net:
        setattr(mapping, f"fc{k}", _linear(net, f"mapping.fc{k}", "lrelu", 0.01))
        k += 1
    synthesis = _Persistent("SynthesisNetwork", w_dim=w_dim, img_resolution=side, img_channels=3, num_fp16_res=2)
    for size in _sides(side):
        block = _Persistent("SynthesisBlock", resolution=size, architecture="skip", use_fp16=size > 8)
        block.register_buffer("resample_filter", _filter_buffer())
        if size == 4:
            block.const = torch.nn.Parameter(torch.tensor(net["synthesis.b4.const"]))
        for name in _convolutions(size):
            inner = f"synthesis.b{size}.{name}"
            layer = _Persistent("SynthesisLayer", resolution=size, up=2 if name == "conv0" else 1, conv_clamp=clamp)
            layer.use_noise, layer.activation, layer.padding, layer.act_gain = True, "lrelu", 1, np.sqrt(2)
            layer.register_buffer("resample_filter", _filter_buffer())
            layer.register_buffer("noise_const", torch.tensor(net[f"{inner}.noise_const"]))
            layer.affine = _linear(net, f"{inner}.affine", "linear", 1.0)
            weight = torch.tensor(net[f"{inner}.weight"])
            # The repositories keep the weights of half-precision layers with channels last.
            weight = weight.to(memory_format=torch.channels_last) if size > 8 else weight
            layer.weight = torch.nn.Parameter(weight)
            layer.bias = torch.nn.Parameter(torch.tensor(net[f"{inner}.bias"]))
            layer.noise_strength = torch.nn.Parameter(torch.tensor(net[f"{inner}.noise_strength"]))
            setattr(block, name, layer)
        block.torgb = _Persistent("ToRGBLayer", conv_clamp=clamp)
        block.torgb.affine = _linear(net, f"synthesis.b{size}.torgb.affine", "linear", 1.0)
        for part in ("weight", "bias"):
            setattr(block.torgb, part, torch.nn.Parameter(torch.tensor(net[f"synthesis.b{size}.torgb.{part}"])))
        setattr(synthesis, f"b{size}", block)
    generator = _Persistent("Generator", **(sizes | changes))
    generator.synthesis, generator.mapping = synthesis, mapping
    return generator.eval().requires_grad_(False)


def write_nvidia(path: Path, net: dict, clamp: float | None = None, protocol: int = 4, edit=None, **changes) -> Path:
    """Write a ``.pkl`` as the training of stylegan2-ada-pytorch (protocol 3) and stylegan3 (protocol 4) does.

    ``changes`` are attributes of the generator; ``edit`` is called with it before it is written.
    """
    with nvidia_modules():
        generator = _nvidia_generator(net, clamp, **changes)
        if edit:
            edit(generator)
        content = {
            "G": generator,
            "D": _Persistent("Discriminator", img_resolution=side_of(net)),
            "G_ema": generator,
            "augment_pipe": None,
            "training_set_kwargs": _easy_dict()(class_name="training.dataset.ImageFolderDataset", xflip=True),
        }
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


# rosinality's layout --------------------------------------------------------------------------------------------------


def rosinality_tensors(net: dict) -> dict[str, torch.Tensor]:
    """The state dictionary of rosinality's generator with the same weights."""
    state, names = {}, []
    k = 0
    while f"mapping.fc{k}.weight" in net:
        for part in ("weight", "bias"):
            state[f"style.{k + 1}.{part}"] = net[f"mapping.fc{k}.{part}"]
        k += 1
    state["input.input"] = net["synthesis.b4.const"][None]
    for size in _sides(side_of(net)):
        to_rgb = "to_rgb1" if size == 4 else f"to_rgbs.{int(np.log2(size)) - 3}"
        layer = f"synthesis.b{size}.torgb"
        state[f"{to_rgb}.bias"] = net[f"{layer}.bias"].reshape(1, 3, 1, 1)
        names.append((layer, to_rgb))
        for name in _convolutions(size):
            k = len([n for _, n in names if n.startswith("conv")])
            layer, target = f"synthesis.b{size}.{name}", "conv1" if k == 0 else f"convs.{k - 1}"
            state[f"{target}.noise.weight"] = net[f"{layer}.noise_strength"].reshape(1)
            state[f"{target}.activate.bias"] = net[f"{layer}.bias"]
            state[f"noises.noise_{k}"] = net[f"{layer}.noise_const"][None, None]
            if name == "conv0":
                state[f"{target}.conv.blur.kernel"] = 4 * _filter_buffer().numpy()
            names.append((layer, target))
        if size > 4:
            state[f"{to_rgb}.upsample.kernel"] = 4 * _filter_buffer().numpy()
    for layer, target in names:
        state[f"{target}.conv.weight"] = net[f"{layer}.weight"][None]
        for part in ("weight", "bias"):
            state[f"{target}.conv.modulation.{part}"] = net[f"{layer}.affine.{part}"]
    return {name: torch.tensor(np.ascontiguousarray(value)) for name, value in state.items()}


def write_rosinality(path: Path, net: dict, trained: bool = False, old_format: bool = False) -> Path:
    """Write a ``.pt`` as its converter does (with the mean of w), or as its training does (arguments, no mean)."""
    content = {"g_ema": rosinality_tensors(net)}
    if trained:
        content |= {
            "args": Namespace(size=16, lr=0.002),
            "ada_aug_p": 0.0,
            "g_optim": {"state": {}, "param_groups": []},
        }
    else:
        content["latent_avg"] = torch.tensor(net["mapping.w_avg"])
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    return path


# A network that draws faces ------------------------------------------------------------------------------------------


def portrait_network(portrait: np.ndarray, channels: int = 4) -> dict:
    """Weights whose image is a grey portrait, (side, side) in [−1, 1], in a contrast that depends on w.

    The convolutions are nought, so that a layer shows its noise image alone, and the last one's is the portrait. Nobody
    trains such a network, but every step of the pipeline that wants faces from a checkpoint can be tried with it.
    """
    net = random_network(len(portrait), channels, w_dim=512, n_mapping=2)
    for name, value in net.items():
        weight = name.startswith("synthesis") and name.endswith("weight")
        bias = name.endswith(".bias") and "affine" not in name
        if weight or bias or name.endswith("noise_strength"):
            net[name] = np.zeros_like(value)
    last = f"synthesis.b{len(portrait)}"
    net[f"{last}.conv1.noise_const"] = ((portrait + 1) / np.sqrt(2)).astype(np.float32)  # leaky ReLU passes it as it is
    net[f"{last}.conv1.noise_strength"] = np.float32(1).reshape(())
    net[f"{last}.torgb.weight"] += np.float32(1 / np.sqrt(net[f"{last}.torgb.weight"].shape[1]))
    net[f"{last}.torgb.bias"] -= np.float32(1)
    net[f"{last}.torgb.affine.bias"][:] = 1
    net[f"{last}.torgb.affine.weight"] += np.float32(0.1 * np.random.default_rng(1).standard_normal((1, 512)))
    return net
