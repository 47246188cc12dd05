"""SFace, differentiable (Zhong et al. 2021, arXiv 2205.12010), from the ONNX file that OpenCV Zoo publishes.

A MobileNet of one convolution and thirteen depthwise separable ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRIDES = (1, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the network's fourteen convolutions
_EPSILON = 1e-3, 2e-5  # of the batch normalisations after a convolution; of the last two


def read_weights(model_file: Path) -> dict[str, np.ndarray]:
    """Weights of an ONNX file by name; block-quantised ones are restored to float32."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(model_file)).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            quantised, scale, zero = (weights.pop(name) for name in node.input)
            options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            axis, length = options["axis"], quantised.shape[options["axis"]]
            scale, zero = (np.repeat(x, options["block_size"], axis).take(range(length), axis) for x in (scale, zero))
            weights[node.output[0]] = (quantised.astype(np.float32) - zero) * scale
        elif node.op_type == "Reshape" and node.input[1] in weights:
            weights[node.output[0]] = weights.pop(node.input[0]).reshape(weights.pop(node.input[1]))
    return weights


class SFaceTorch(nn.Module):
    """SFace's network: aligned faces, (N, 3, 112, 112) RGB in [−1, 1], to unit embeddings, (N, 128).

    Parameters
    ----------
    weights : mapping
        As :func:`read_weights` gives them. Batch normalisations are folded into the layers before them.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        super().__init__()
        names = ["conv_1", *(f"conv_{k}{part}" for k in range(2, len(_STRIDES) + 1) for part in ("_dw", ""))]
        kernels, biases, slopes = [], [], []
        for name in names:
            gain, shift = _normalisation(weights, f"{name}_batchnorm", _EPSILON[0])
            kernels.append(weights[f"{name}_conv2d_weight_reshaped"] * gain[:, None, None, None])
            biases.append(shift)
            slopes.append(weights[f"{name}_relu_gamma"].reshape(-1))
        before, after = _normalisation(weights, "bn1", _EPSILON[1]), _normalisation(weights, "fc1", _EPSILON[1])
        dense = weights["pre_fc1_weight_dequantized"].reshape(128, 1024, -1)
        bias = weights["pre_fc1_bias_dequantized"] + np.einsum("oci,c->o", dense, before[1])
        dense = dense * before[0][:, None] * after[0][:, None, None]
        kernels.append(dense.reshape(128, -1))
        biases.append(bias * after[0] + after[1])
        self.kernels, self.biases, self.slopes = (
            nn.ParameterList(nn.Parameter(torch.tensor(np.asarray(a, np.float32)), requires_grad=False) for a in arrays)
            for arrays in (kernels, biases, slopes)
        )

    def forward(self, faces: Tensor) -> Tensor:
        """Embed aligned faces."""
        x = faces * (127.5 / 128)
        strides = [_STRIDES[0], *(s for stride in _STRIDES[1:] for s in (stride, 1))]
        for kernel, bias, slope, stride in zip(self.kernels, self.biases, self.slopes, strides, strict=False):
            groups = x.shape[1] // kernel.shape[1]
            x = F.conv2d(x, kernel, bias, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
            x = F.prelu(x, slope)
        x = F.linear(x.flatten(1), self.kernels[-1], self.biases[-1])
        return F.normalize(x.float(), dim=1)


def _normalisation(weights: Mapping[str, np.ndarray], name: str, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    gain = weights[f"{name}_gamma"] / np.sqrt(weights[f"{name}_moving_var"] + epsilon)
    return gain, weights[f"{name}_beta"] - gain * weights[f"{name}_moving_mean"]
