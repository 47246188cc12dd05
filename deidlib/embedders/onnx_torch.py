"""A differentiable recogniser from an ONNX file: the few layers that such networks consist of, in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.errors import InputError


class OnnxTorch(nn.Module):
    """An ONNX network of convolutions, PReLUs, sums, batch normalisations and a dense layer: faces to unit embeddings.

    Parameters
    ----------
    model_file : Path
        ONNX file with one input, (N, 3, side, side), and one output, (N, D).

    Raises
    ------
    InputError
        The network has a layer of another kind.
    """

    def __init__(self, model_file: Path):
        super().__init__()
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(model_file)).graph
        stored = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        self._steps: list[tuple[str, list[str], str, dict[str, Any]]] = []
        for node in graph.node:
            if node.op_type not in _LAYERS:
                raise InputError(
                    f"this ONNX recogniser has a layer {node.op_type}; the identity loss supports only "
                    f"{', '.join(sorted(_LAYERS))}: name it in reid.recognisers instead"
                )
            options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self._steps.append((node.op_type, list(node.input), node.output[0], options))
        self._input = next(value.name for value in graph.input if value.name not in stored)
        self._output = graph.output[0].name
        self._weights = {name: f"weight_{k}" for k, name in enumerate(stored)}
        for name, weight in stored.items():
            self.register_buffer(self._weights[name], weight, persistent=False)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed aligned faces, (N, 3, side, side) RGB in [−1, 1], as unit vectors, (N, D)."""
        values = {name: getattr(self, place) for name, place in self._weights.items()} | {self._input: faces}
        for kind, inputs, output, options in self._steps:
            values[output] = _LAYERS[kind](*(values[name] for name in inputs), **options)
        return F.normalize(values[self._output].float(), dim=1)


def _convolution(x: Tensor, kernel: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    top, left, bottom, right = options.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(
        x,
        kernel,
        bias,
        stride=tuple(options.get("strides", (1, 1))),
        padding=(top, left),
        dilation=tuple(options.get("dilations", (1, 1))),
        groups=options.get("group", 1),
    )


def _dense(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    weight = weight if options.get("transB") else weight.T
    product = options.get("alpha", 1.0) * F.linear(x, weight)
    return product if bias is None else product + options.get("beta", 1.0) * bias


def _normalisation(x: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, **options: Any) -> Tensor:
    return F.batch_norm(x, mean, variance, gain, shift, training=False, eps=options.get("epsilon", 1e-5))


_LAYERS = {
    "Conv": _convolution,
    "PRelu": lambda x, slope: F.prelu(x, slope.reshape(-1)),
    "Relu": F.relu,
    "Add": torch.add,
    "BatchNormalization": _normalisation,
    "Flatten": lambda x, axis=1: x.flatten(axis),
    "Gemm": _dense,
    "Dropout": lambda x, **_: x,
    "Identity": lambda x: x,
}
