"""Reads the constants of an OpenVINO IR (``.xml`` graph with ``.bin`` weights) without OpenVINO."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deidlib.errors import InputError

_DTYPES = {"f32": np.float32, "i64": np.int64, "i32": np.int32}


def read_constants(xml_path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every constant of a network in graph order.

    Parameters
    ----------
    xml_path : Path
        The graph; the weights are in the file of the same name with the suffix ``.bin``.

    Yields
    ------
    name : str
        The constant's name in the graph.
    value : ndarray
        Its value, in the shape the graph gives.

    Raises
    ------
    ValueError
        If a constant lies outside the weight file (truncated or foreign file).
    """
    xml_path = Path(xml_path)
    blob = xml_path.with_suffix(".bin").read_bytes()
    for layer in ElementTree.parse(xml_path).getroot().iterfind("layers/layer"):
        if layer.get("type") != "Const":
            continue
        data = layer.find("data")
        offset, size = int(data.get("offset")), int(data.get("size"))
        if offset + size > len(blob):
            raise InputError(
                f"{xml_path.name}: constant {layer.get('name')!r} ends at byte {offset + size}, but the weight "
                f"file has {len(blob)}. Fetch it again with `deidlib models fetch`."
            )
        shape = tuple(int(n) for n in data.get("shape").split(",") if n.strip())
        dtype = _DTYPES[data.get("element_type")]
        yield (
            layer.get("name"),
            np.frombuffer(blob, dtype, size // np.dtype(dtype).itemsize, offset).reshape(shape),
        )
