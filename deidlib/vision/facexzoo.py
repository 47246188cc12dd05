"""FaceX-Zoo's MobileFaceNet, differentiable (Wang et al. 2021, arXiv 2101.04407; Chen et al. 2018, arXiv 1804.07573).

Its file is a pickle of a whole PyTorch network, in the format before PyTorch 1.6. No code of the file is run: an object
becomes a record of its state, and its class is never loaded.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C  # of PyTorch's format before 1.6
_HEADERS = 3  # pickles before the network's: magic number, protocol, byte order and sizes of types
_EPSILON = 1e-5  # of the batch normalisations


class FaceXZoo(nn.Module):
    """MobileFaceNet: aligned faces, (N, 3, 112, 112) RGB in [−1, 1], to unit embeddings, (N, 512).

    Parameters
    ----------
    model_file : Path
        The file that FaceX-Zoo publishes.

    Raises
    ------
    InputError
        The file is damaged, or is not FaceX-Zoo's MobileFaceNet.
    """

    def __init__(self, model_file: Path):
        super().__init__()
        network = _read(model_file)
        self._blocks = nn.ModuleList()
        for name, part in network.children():
            if part.kind == "Residual":
                (_, blocks), *_ = part.children()
                self._blocks.extend(_Bottleneck(block) for _, block in blocks.children())
            elif part.kind == "Depth_Wise":
                self._blocks.append(_Bottleneck(part))
            elif part.kind in ("Conv_block", "Linear_block"):
                self._blocks.append(_Convolution(part))
            elif name == "linear":
                self.register_buffer("_dense", part.tensor("weight"))
        gain, shift = _folded(dict(network.children())["bn"])
        self.register_buffer("_dense_shift", shift)
        self._dense *= gain[:, None]

    def forward(self, faces: Tensor) -> Tensor:
        """Embed aligned faces."""
        x = faces.flip(1) * (127.5 / 128)
        for block in self._blocks:
            x = block(x)
        return F.normalize(F.linear(x.flatten(1), self._dense, self._dense_shift).float(), dim=1)


class _Convolution(nn.Module):
    """A convolution with its batch normalisation folded in, and its PReLU, if any."""

    def __init__(self, part: _Object):
        super().__init__()
        parts = dict(part.children())
        convolution = parts["conv"]
        gain, shift = _folded(parts["bn"])
        self.register_buffer("_kernel", convolution.tensor("weight") * gain[:, None, None, None])
        self.register_buffer("_shift", shift)
        self._how = {name: convolution.state[name] for name in ("stride", "padding", "groups")}
        self.register_buffer("_slope", parts["prelu"].tensor("weight") if "prelu" in parts else None)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self._kernel, self._shift, **self._how)
        return x if self._slope is None else F.prelu(x, self._slope)


class _Bottleneck(nn.Module):
    """A depthwise separable convolution with expansion; its input is added where the file says so."""

    def __init__(self, part: _Object):
        super().__init__()
        parts = dict(part.children())
        self._layers = nn.Sequential(*(_Convolution(parts[name]) for name in ("conv", "conv_dw", "project")))
        self._adds = bool(part.state["residual"])

    def forward(self, x: Tensor) -> Tensor:
        return x + self._layers(x) if self._adds else self._layers(x)


def _folded(normalisation: _Object) -> tuple[Tensor, Tensor]:
    """Gain and shift of a batch normalisation."""
    mean, variance = normalisation.tensor("running_mean"), normalisation.tensor("running_var")
    gain = normalisation.tensor("weight") / torch.sqrt(variance + _EPSILON)
    return gain, normalisation.tensor("bias") - gain * mean


class _Object:
    """A record of an object in the file: the name of its class, and its state."""

    kind = ""

    def __init__(self, *_: Any):
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def children(self) -> Iterator[tuple[str, _Object]]:
        """Its modules by name, in order."""
        yield from self.state["_modules"].items()

    def tensor(self, name: str) -> Tensor:
        """One of its weights."""
        found = self.state["_parameters"].get(name)
        return (self.state["_buffers"][name] if found is None else found).read()


class _Stored(NamedTuple):
    """A tensor whose values come later in the file."""

    numbers: dict[str, np.ndarray]  # by the storage's key; filled after the pickle was read
    key: str
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        flat = self.numbers[self.key][: int(np.prod(self.shape))]
        return torch.from_numpy(flat.reshape(self.shape).copy())


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, numbers: dict[str, np.ndarray]):
        super().__init__(file)
        self._numbers = numbers
        self.types: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return type("Mapping", (OrderedDict,), {})
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, *_: _Stored(self._numbers, storage, tuple(size))
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        return type(name, (_Object,), {"kind": name})

    def persistent_load(self, pid: tuple) -> Any:
        if pid[0] == "module":
            return pid[1]
        _, kind, key, *_ = pid
        self.types[key] = kind.kind
        return key


def _read(path: Path) -> _Object:
    """The network's record, without its wrappers."""
    numbers: dict[str, np.ndarray] = {}
    try:
        with open(path, "rb") as file:
            if _Unpickler(file, numbers).load() != _MAGIC:
                raise ValueError("another format")
            for _ in range(_HEADERS - 1):
                _Unpickler(file, numbers).load()
            reader = _Unpickler(file, numbers)
            network = reader.load()
            for key in _Unpickler(file, numbers).load():
                kind = np.dtype("<i8" if reader.types[key].startswith("Long") else "<f4")
                count = int(np.frombuffer(file.read(8), "<i8")[0])
                numbers[key] = np.frombuffer(file.read(count * kind.itemsize), kind)
        return network.state["_modules"]["module"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path.name} is damaged or not FaceX-Zoo's MobileFaceNet ({type(error).__name__}); fetch it again with "
            "`deidlib models fetch`"
        ) from None
