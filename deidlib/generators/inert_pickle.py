"""Reads a pickle without running code from it: tensors, plain containers, and inert records of objects.

NVIDIA's StyleGAN checkpoints are pickles of networks that carry their own Python source (``torch_utils.persistence``).
Here such an object becomes a :class:`Record` of its state, and its source stays unused text. The pickle may refer only
to the names listed in :func:`_meanings`. Each of these names stands for a function of this module, not for the original
one: PyTorch's own reader of tensor bytes, for example, would unpickle those bytes with the full pickle.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deidlib.generators.weights import CheckpointError

_NUMBERS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")


@dataclass(frozen=True, slots=True)
class Record:
    """An object of a pickle, as its class's name and its state. The class itself is never loaded.

    Attributes
    ----------
    class_name : str
        Name of the object's class.
    state : dict
        The object's attributes.
    """

    class_name: str
    state: dict


def read_inert(path: Path):
    """Read a pickle of tensors, containers and persistent objects without running code from it.

    Parameters
    ----------
    path : Path
        The file; protocol 2 and later.

    Returns
    -------
    object
        What was pickled: tensors on the CPU, numbers, texts, dictionaries, lists, and :class:`Record`.

    Raises
    ------
    CheckpointError
        The file is truncated, is no pickle, or refers to a name that is not on the list.
    """
    with open(path, "rb") as file:
        try:
            return _Unpickler(file).load()
        except CheckpointError as error:
            raise CheckpointError(f"{path.name}: {error}") from None
        except Exception as error:
            # A damaged pickle can fail in any way, so every error is reported as damage.
            raise CheckpointError(
                f"{path.name} is damaged or no pickle ({type(error).__name__}); copy or download it again"
            ) from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self._known = _meanings()  # new for each file: a pickle may set attributes on these objects

    def find_class(self, module: str, name: str):
        known = self._known.get(f"{module}.{name}")
        if known is None:
            raise CheckpointError(_refusal(module, name))
        return known

    def persistent_load(self, pid):
        raise CheckpointError("it refers to data outside itself: not a checkpoint of NVIDIA's repositories")


def _refusal(module: str, name: str) -> str:
    what = f"it refers to {f'{module}.{name}'[:80]!r}"
    if module.startswith("dnnlib.tflib"):
        return (
            f"{what}: a TensorFlow checkpoint. Convert it to the PyTorch format with legacy.py of NVIDIA's "
            "stylegan3 repository first"
        )
    return (
        f"{what}, which no StyleGAN2 checkpoint needs and which is therefore not run. Use the file that its "
        "authors published, and only from them"
    )


def _meanings() -> dict[str, Callable]:
    """The names that a pickle may refer to, each with its replacement here."""
    mapping = type("Mapping", (dict,), {})

    def record(meta) -> Record:
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
            raise CheckpointError("a persistent object has no state; copy or download the file again")
        return Record(str(meta.get("class_name")), meta["state"])

    def dtype(code, *_) -> _NumberType:
        return _NumberType(str(code).lstrip("<=|"))

    def number(kind, data):
        if not isinstance(kind, _NumberType) or kind.code not in _NUMBERS:
            raise CheckpointError("a number has a type that is not read")
        return np.frombuffer(data, f"<{kind.code}", 1)[0].item()

    def storage(data):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)

    def tensor(*arguments) -> Tensor:
        return _tensor(*arguments[:4])

    def parameter(data, *_) -> Tensor:
        return data

    return {
        "torch_utils.persistence._reconstruct_persistent_obj": record,
        "dnnlib.util.EasyDict": mapping,
        "collections.OrderedDict": mapping,
        "builtins.set": set,
        "numpy.dtype": dtype,
        "numpy.core.multiarray.scalar": number,
        "numpy._core.multiarray.scalar": number,
        "torch.storage._load_from_bytes": storage,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": parameter,
    }


class _NumberType:
    """A NumPy scalar type by its code; the byte order and alignment in the pickle are ignored."""

    def __init__(self, code: str):
        self.code = code

    def __setstate__(self, state):
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            raise CheckpointError("its numbers are big-endian, which is not read")


def _tensor(storage, offset: int, size: tuple, stride: tuple) -> Tensor:
    """Tensor with memory of its own. A size larger than its storage is an error; nothing beyond it is read."""
    whole = [offset, *size, *stride]
    if not isinstance(storage, torch.storage.TypedStorage) or len(size) != len(stride):
        raise CheckpointError("a tensor has no storage; copy or download the file again")
    if not all(isinstance(n, int) and n >= 0 for n in whole):
        raise CheckpointError("a tensor has a size that is no number; copy or download the file again")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if 0 not in size and (last >= held or math.prod(size) > held):  # the second test: a stride of 0 repeats values
        raise CheckpointError("a tensor is larger than its storage; copy or download the file again")
    return torch._utils._rebuild_tensor(storage, offset, tuple(size), tuple(stride)).clone()
