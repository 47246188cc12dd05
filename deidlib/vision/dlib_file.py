"""Reads a dlib network from its ``.dat`` file, without dlib.

dlib writes a network's layers in the order from the input to the output: each layer's name, then its parameters and
options, as ``serialize()`` of dlib/serialize.h writes them. An integer is one byte, whose low four bits count the bytes
that follow and whose highest bit is the sign, then these bytes, the lowest first. A tensor is a version, its four sizes
and its values as 32-bit floats, the lowest byte first.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

_CONVOLUTION, _AFFINE, _DENSE = "con_4", "affine_", "fc_2"
_TENSOR_VERSION = 2
#: A layer's name: its length, as an integer, and its letters.
_MARKER = re.compile(rb"\x01[\x04\x05\x07](con_4|affine_|fc_2)")


class Layer(NamedTuple):
    """A layer with parameters."""

    kind: str  # con_4, affine_ or fc_2
    values: np.ndarray  # (n,) float32, as stored
    options: tuple[int, ...]  # con_4: filters, rows, columns, strides, paddings; fc_2: outputs, inputs


class _Reader:
    def __init__(self, data: bytes, at: int):
        self._data, self._at = data, at

    def integer(self) -> int:
        head = self._data[self._at]
        count = head & 0x0F
        self._at += 1 + count
        value = int.from_bytes(self._data[self._at - count : self._at], "little")
        return -value if head & 0x80 else value

    def tensor(self) -> np.ndarray:
        version = self.integer()
        if version != _TENSOR_VERSION:
            raise ValueError(f"a tensor of version {version}; only version {_TENSOR_VERSION} is supported")
        count = int(np.prod([self.integer() for _ in range(4)]))
        values = np.frombuffer(self._data, "<f4", count, self._at)
        self._at += 4 * count
        return values.astype(np.float32)

    @property
    def at(self) -> int:
        return self._at


def read_layers(path: Path) -> list[Layer]:
    """Convolutions, affine and dense layers of a network file, from the input to the output.

    Raises
    ------
    ValueError
        If the file does not hold such layers.
    """
    data = path.read_bytes()
    layers, at = [], 0
    while marker := _MARKER.search(data, at):
        kind = marker[1].decode()
        reader = _Reader(data, marker.end())
        sizes = (reader.integer(), reader.integer()) if kind == _DENSE else ()
        values = reader.tensor()
        options = tuple(reader.integer() for _ in range(7)) if kind == _CONVOLUTION else sizes
        layers.append(Layer(kind, values, options))
        at = reader.at
    if not layers:
        raise ValueError(f"{path.name} holds no known layer: is it a dlib network?")
    return layers
