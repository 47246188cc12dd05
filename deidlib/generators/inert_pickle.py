"""A pickle read without running anything that is in it: tensors, plain containers, and inert records of objects.

NVIDIA's StyleGAN checkpoints are pickles of networks that carry their own Python source (``torch_utils.persistence``).
Here such an object becomes a :class:`Record` of its state, and its source stays a text that nobody reads. What the
pickle may refer to is the list in :func:`_meanings`, and each name on it means a function of this module, not the one
that the file thinks of: PyTorch's own reader of tensor bytes, for one, would unpickle those bytes with the full pickle.
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
    """What a pickle says of an object: its class and its state. Nothing of the class exists here.

    Attributes
    ----------
    class_name : str
        Name that the object's class had.
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
        The file is truncated or no pickle, or refers to anything that is not on the list.
    """
    with open(path, "rb") as file:
        try:
            return _Unpickler(file).load()
        except CheckpointError as error:
            raise CheckpointError(f"{path.name}: {error}") from None
        except Exception as error:
            # A pickle can fail in any way: each of them means that these are not the bytes that were written.
            raise CheckpointError(
                f"{path.name} is damaged or no pickle ({type(error).__name__}); copy or download it again"
            ) from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self._known = _meanings()  # anew for each file: a pickle may set attributes on what it is given

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
    """What each name that a pickle may refer to means here."""
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
    """A NumPy scalar type by its code; the byte order and alignment that a pickle adds are not used."""

    def __init__(self, code: str):
        self.code = code

    def __setstate__(self, state):
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            raise CheckpointError("its numbers are big-endian, which is not read")


def _tensor(storage, offset: int, size: tuple, stride: tuple) -> Tensor:
    """Tensor of its own memory; a size that its storage does not hold is an error, never a read beyond it."""
    whole = [offset, *size, *stride]
    if not isinstance(storage, torch.storage.TypedStorage) or len(size) != len(stride):
        raise CheckpointError("a tensor has no storage; copy or download the file again")
    if not all(isinstance(n, int) and n >= 0 for n in whole):
        raise CheckpointError("a tensor has a size that is no number; copy or download the file again")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if 0 not in size and (last >= held or math.prod(size) > held):  # the second: a stride of 0 repeats what is there
        raise CheckpointError("a tensor is larger than its storage; copy or download the file again")
    return torch._utils._rebuild_tensor(storage, offset, tuple(size), tuple(stride)).clone()
