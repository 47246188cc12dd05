"""The same ONNX network in fewer passes over its data, for ONNX Runtime on a processor.

PaddlePaddle exports an affine layer as a product and a sum with one number each, hard swish as four operations, and a
gate as a product and a sum of whole feature maps. ONNX Runtime makes a pass for each, most of them in another layout
than that of the convolutions around them. Batch normalisation and hard sigmoid keep this layout or join the
convolution. The network computes the same up to rounding.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.helper import make_node, make_tensor


def in_fewer_passes(model_file: Path) -> bytes:
    """Read a published network and replace its affine layers, hard swishes and gates."""
    model = onnx.load(model_file)
    graph = _Graph(model)
    nodes = [new for node in model.graph.node for new in graph.replaced(node)]
    del model.graph.node[:]
    model.graph.node.extend(_needed(nodes, {output.name for output in model.graph.output}))
    model.graph.initializer.extend(graph.added)
    return model.SerializeToString()


def _needed(nodes: list[NodeProto], tensors: set[str]) -> list[NodeProto]:
    """The nodes on which tensors depend, in order."""
    kept = []
    for node in reversed(nodes):
        if not tensors.isdisjoint(node.output):
            tensors = tensors.union(node.input)
            kept.append(node)
    return kept[::-1]


class _Graph:
    """A network's graph, and the constants that the new nodes need."""

    def __init__(self, model: onnx.ModelProto):
        constants = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
        arrays = {name: numpy_helper.to_array(tensor) for name, tensor in constants.items()}
        self._numbers = {name: float(array.item()) for name, array in arrays.items() if array.size == 1}
        self._maker = {name: node for node in model.graph.node for name in node.output}
        values = onnx.shape_inference.infer_shapes(model).graph.value_info
        shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
        self._channels = {name: shape[1].dim_value for name, shape in shapes.items() if len(shape) == 4}
        self.added: list[TensorProto] = []

    def replaced(self, node: NodeProto) -> list[NodeProto]:
        """The nodes that take a node's place: the node itself, where no rule applies."""
        return self._affine(node) or self._hard_swish(node) or self._gate(node) or [node]

    def _affine(self, node: NodeProto) -> list[NodeProto]:
        """``x · number + number``."""
        product, offset = self._with_number(node, "Add")
        x, factor = self._with_number(self._maker.get(product), "Mul")
        if not (channels := self._channels.get(x)):
            return []
        constants = [self._constant(value, [channels]) for value in (factor, offset, 0.0, 1.0)]
        return [make_node("BatchNormalization", [x, *constants], node.output, epsilon=0.0)]

    def _hard_swish(self, node: NodeProto) -> list[NodeProto]:
        """``x · min(max(x + 3, 0), 6) / 6``."""
        product, divisor = self._with_number(node, "Div")
        for x, clipped in self._factors(product):
            clip = self._maker.get(clipped)
            if clip is None or clip.op_type != "Clip":
                continue
            bounds = [self._numbers.get(name) for name in clip.input[1:]]
            if [divisor, *bounds, *self._with_number(self._maker.get(clip.input[0]), "Add")] == [6, 0, 6, x, 3]:
                gate = f"{clipped}.gate"
                sigmoid = make_node("HardSigmoid", [x], [gate], alpha=1 / 6, beta=0.5)
                return [sigmoid, make_node("Mul", [x, gate], node.output)]
        return []

    def _gate(self, node: NodeProto) -> list[NodeProto]:
        """``x + x · gate``."""
        if node.op_type != "Add":
            return []
        x, product = node.input
        for factor, gate in self._factors(product):
            if factor == x:
                factor = f"{gate}.plus_1"
                return [
                    make_node("Add", [gate, self._constant(1.0, [])], [factor]),
                    make_node("Mul", [x, factor], node.output),
                ]
        return []

    def _factors(self, product: str) -> list[tuple[str, str]]:
        """The two factors of a product of tensors, in either order."""
        node = self._maker.get(product)
        if node is None or node.op_type != "Mul":
            return []
        one, other = node.input
        return [(one, other), (other, one)]

    def _with_number(self, node: NodeProto | None, operation: str) -> tuple[str, float] | tuple[None, None]:
        """The tensor and the number that an operation takes; None, None for any other node."""
        if node is not None and node.op_type == operation:
            one, other = node.input
            for tensor, number in ((one, other), (other, one)):
                if number in self._numbers and tensor not in self._numbers:
                    return tensor, self._numbers[number]
        return None, None

    def _constant(self, value: float, shape: list[int]) -> str:
        """Add a constant, and return its name."""
        name = f"fewer_passes.{len(self.added)}"
        values = [value] * (shape[0] if shape else 1)
        self.added.append(make_tensor(name, TensorProto.FLOAT, shape, values))
        return name
