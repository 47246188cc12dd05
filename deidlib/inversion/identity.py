"""The guide: SFace, differentiable, so that inversion can be led away from the patient's identity.

SFace (Zhong et al. 2021, arXiv 2205.12010) as OpenCV Zoo publishes it: a MobileNet of one convolution and thirteen
depthwise separable ones. The recogniser that guides never judges alone: the gate's judges embed with other networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 112  # px of the recogniser's frame
#: Where the recogniser wants left and right eye, nose tip and mouth corners (of the image), (x, y) in its frame.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_STRIDES = (1, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the network's fourteen convolutions
_EPSILON = 1e-3, 2e-5  # of the batch normalisations after a convolution; of the last two


def read_weights(model_file: Path) -> dict[str, np.ndarray]:
    """Weights of an ONNX file by name, block-quantised ones restored to float32."""
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


class Guide(nn.Module):
    """SFace's network: aligned faces, (N, 3, 112, 112) RGB in [−1, 1], to unit embeddings, (N, 128).

    Parameters
    ----------
    weights : mapping
        As :func:`read_weights` gives them. Batch normalisations are folded into what they follow.
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


def fit_template(points: np.ndarray) -> np.ndarray:
    """Similarity, (2, 3), from the frame of ``points`` to the recogniser's: least squares (Umeyama 1991).

    Parameters
    ----------
    points : ndarray, (5, 2)
        Left and right eye, nose tip, left and right mouth corner as seen in the image.
    """
    x, y = points - points.mean(axis=0), TEMPLATE - TEMPLATE.mean(axis=0)
    scale = np.sum(x * y) / np.sum(x**2)
    turn = np.sum(x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]) / np.sum(x**2)
    linear = np.array([[scale, -turn], [turn, scale]])
    return np.column_stack([linear, TEMPLATE.mean(axis=0) - linear @ points.mean(axis=0)])


def sampling_grid(matrices: Tensor, side: int, cropped: int = SIDE) -> Tensor:
    """Where a network's frame lies in an image: what :func:`resample` takes, (N, cropped, cropped, 2).

    Parameters
    ----------
    matrices : Tensor, (N, 2, 3)
        Pixels of the image to pixels of the network's frame, as :func:`fit_template` gives them. A pixel's centre is at
        its whole-numbered coordinate.
    side : int
        Side of the image in pixels.
    cropped : int
        Side of the network's frame in pixels; by default the recogniser's.
    """
    linear = torch.linalg.inv(matrices[:, :, :2])
    offset = -linear @ matrices[:, :, 2:]
    # grid_sample's coordinates: pixel p of an image of side s lies at (2p + 1) / s − 1.
    theta_linear = linear * (cropped / side)
    centre = linear @ linear.new_full((2, 1), (cropped - 1) / 2) + offset
    theta = torch.cat([theta_linear, (2 * centre + 1) / side - 1], dim=2)
    return F.affine_grid(theta, [len(matrices), 3, cropped, cropped], align_corners=False)


class _Resampled(torch.autograd.Function):
    """Bilinear samples, whose slopes are summed in a fixed order: torch's own on a GPU are not."""

    @staticmethod
    def forward(ctx, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.sides = images.shape[2:]
        return F.grid_sample(images, grid, align_corners=False)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        (grid,), (height, width) = ctx.saved_tensors, ctx.sides
        x, y = ((grid[..., axis] + 1) * side / 2 - 0.5 for axis, side in ((0, width), (1, height)))
        left, top = x.floor(), y.floor()
        slope = slope.permute(0, 2, 3, 1)
        images = slope.new_zeros(len(slope), height, width, slope.shape[3])
        which = torch.arange(len(slope), device=slope.device)[:, None, None].expand_as(x)
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                share = torch.where(inside, share_x * share_y, 0).to(slope.dtype)[..., None]
                place = which, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
                images.index_put_(place, slope * share, accumulate=True)
        return images.permute(0, 3, 1, 2), None


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples, (N, C, cropped, cropped), of images, (N, C, S, S), at a grid of :func:`sampling_grid`."""
    if images.device.type == "cpu":
        return F.grid_sample(images, grid, align_corners=False)  # in order there, and faster
    return _Resampled.apply(images, grid)


def crop(images: Tensor, matrices: Tensor, cropped: int = SIDE) -> Tensor:
    """Resample images, (N, 3, S, S), into a network's frame, differentiably; see :func:`sampling_grid`."""
    return resample(images, sampling_grid(matrices, images.shape[-1], cropped))
