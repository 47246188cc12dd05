"""The mesh: MediaPipe's face landmark network, differentiable, so that inversion can keep the mouth in place.

The mouth of a released photograph is the patient's own, but the face around it shifts the mouth's landmarks. With this
network in the loss, inversion finds a face that keeps them in place. The layers come from the model file itself, in its
order (Grishchenko et al. 2020, arXiv 2006.10962).
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.errors import InputError

SIDE = 256  # px of the network's frame
#: Side of the network's square, and how far its centre lies below that of the box around the landmarks, in longer sides
#: of that box. MediaPipe cuts it around a detector's box, 1.5 times as large: means over 136 faces (their standard
#: deviations: 0.033 and 0.025).
ROOM, LOWER = 1.383, 0.026
_NETWORK = "face_landmarks_detector.tflite"  # in face_landmarker.task, a ZIP archive
_EYE_CORNERS = [33, 263]


def fit_square(points: np.ndarray) -> np.ndarray:
    """Similarity, (2, 3), from the frame of face landmarks, (478, 2), to the network's; it is close to MediaPipe's."""
    x = points[_EYE_CORNERS[1]] - points[_EYE_CORNERS[0]]
    x = x / np.hypot(*x)
    turn = np.array([x, [-x[1], x[0]]])
    turned = points @ turn.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    scale = SIDE / (ROOM * (high - low).max())
    centre = (low + high) / 2 + [0, LOWER * (high - low).max()]
    return np.column_stack([scale * turn, (SIDE - 1) / 2 - scale * centre])


class Mesh(nn.Module):
    """Faces in the network's frame, (N, 3, 256, 256) RGB in [−1, 1], to landmarks, (N, K, 2), in its pixels.

    Parameters
    ----------
    model_file : Path
        ``face_landmarker.task`` from the model registry.
    which : sequence of int
        The K landmarks to give, of 478.

    Raises
    ------
    ValueError
        The file's network does not have the layers of MediaPipe's of 2023.
    """

    def __init__(self, model_file: Path, which: Sequence[int] = range(478)):
        super().__init__()
        self.which = list(which)
        with zipfile.ZipFile(model_file) as archive:
            self._steps, constants, self._input, self._output = _read_network(archive.read(_NETWORK))
        self.constants = nn.ParameterDict(
            {str(i): nn.Parameter(torch.from_numpy(array), requires_grad=False) for i, array in constants.items()}
        )
        self.register_buffer("_rows", torch.tensor(self.which), persistent=False)

    def forward(self, faces: Tensor) -> Tensor:
        """Find the landmarks of aligned faces."""
        values = {self._input: ((faces + 1) / 2).contiguous(memory_format=torch.channels_last)}
        for operation, inputs, output, options in self._steps:
            arguments = [values[i] if i in values else self.constants[str(i)] for i in inputs]
            values[output] = operation(*arguments, **options)
        return values[self._output].float().reshape(len(faces), -1, 3).index_select(1, self._rows)[:, :, :2]


def _same(x: Tensor, kernel: tuple[int, int], stride: int, value: float = 0.0) -> Tensor:
    """Padding of TensorFlow's SAME: an odd pixel goes to the right and below."""
    room = [max(0, (-(-side // stride) - 1) * stride + k - side) for side, k in zip(x.shape[2:], kernel, strict=True)]
    (above, below), (left, right) = ((r // 2, r - r // 2) for r in room)
    return F.pad(x, (left, right, above, below), value=value) if any(room) else x


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor, stride: int, same: bool, grouped: bool) -> Tensor:
    x = _same(x, kernel.shape[2:], stride) if same else x
    return F.conv2d(x, kernel, bias, stride=stride, groups=x.shape[1] if grouped else 1)


def _pool(x: Tensor, side: int, stride: int, same: bool) -> Tensor:
    return F.max_pool2d(_same(x, (side, side), stride, -torch.inf) if same else x, side, stride)


def _widen(x: Tensor, room: tuple[int, ...]) -> Tensor:
    return F.pad(x, room)


def _read_network(data: bytes) -> tuple[list, dict[int, np.ndarray], int, int]:
    """Steps in order, constants by tensor (kernels as torch wants them), and the tensors of input and landmarks."""
    import tflite

    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    constants = {i: a for i in range(graph.TensorsLength()) if (a := _constant(model, graph.Tensors(i))) is not None}
    steps, named = [], {}
    for k in range(graph.OperatorsLength()):
        node = graph.Operators(k)
        name = tflite.opcode2name(model.OperatorCodes(node.OpcodeIndex()).BuiltinCode())
        inputs, output = [int(i) for i in node.InputsAsNumpy()], int(node.Outputs(0))
        if name == "DEQUANTIZE":  # weights kept in half precision
            constants[output] = constants.pop(inputs[0]).astype(np.float32)
            continue
        operation, options = _operation(name, node)
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            order = (0, 3, 1, 2) if name == "CONV_2D" else (3, 0, 1, 2)
            named[inputs[1]] = np.ascontiguousarray(constants[inputs[1]].transpose(order))
            named[inputs[2]] = constants[inputs[2]]
        elif name == "PRELU":
            named[inputs[1]] = constants[inputs[1]].reshape(-1)
        elif name == "PAD":  # before and behind batch, row, column, channel
            (_, _), rows, columns, channels = constants[inputs[1]].tolist()
            inputs, options = inputs[:1], {"room": (*columns, *rows, *channels)}
        if operation is not None:
            steps.append((operation, [inputs[0]] if name in ("MAX_POOL_2D",) else inputs, output, options))
    sizes = {int(i): int(np.prod(graph.Tensors(i).ShapeAsNumpy())) for i in graph.OutputsAsNumpy()}
    return steps, named, int(graph.Inputs(0)), max(sizes, key=sizes.get)


def _constant(model, tensor) -> np.ndarray | None:
    import tflite

    dtypes = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.FLOAT32: np.float32}
    dtypes[tflite.TensorType.INT32] = np.int32
    buffer = model.Buffers(tensor.Buffer())
    if not buffer.DataLength() or tensor.Type() not in dtypes:
        return None
    return buffer.DataAsNumpy().view(dtypes[tensor.Type()]).reshape(tensor.ShapeAsNumpy())


def _operation(name: str, node) -> tuple:
    """The operation of a node on (N, C, H, W), with its options; None for nodes that the landmarks do not need."""
    import tflite

    def options_of(kind):
        options = kind()
        options.Init(node.BuiltinOptions().Bytes, node.BuiltinOptions().Pos)
        if options.FusedActivationFunction() != tflite.ActivationFunctionType.NONE:
            raise InputError(f"{_NETWORK}: a fused activation is not known here. Use the registry's file.")
        return options

    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        grouped = name == "DEPTHWISE_CONV_2D"
        options = options_of(tflite.DepthwiseConv2DOptions if grouped else tflite.Conv2DOptions)
        same = options.Padding() == tflite.Padding.SAME
        return _convolve, {"stride": options.StrideH(), "same": same, "grouped": grouped}
    if name == "MAX_POOL_2D":
        options = options_of(tflite.Pool2DOptions)
        same = options.Padding() == tflite.Padding.SAME
        return _pool, {"side": options.FilterHeight(), "stride": options.StrideH(), "same": same}
    if name == "ADD":
        options_of(tflite.AddOptions)
        return torch.add, {}
    plain = {"PRELU": F.prelu, "PAD": _widen, "LOGISTIC": None, "RESHAPE": None}
    if name not in plain:
        raise InputError(f"{_NETWORK}: layer {name} is not known here. Use the registry's file.")
    return plain[name], {}
