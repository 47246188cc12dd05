"""dlib's face recogniser, differentiable: a residual network of 29 convolutions (King 2017), from its own file.

A block is two 3×3 convolutions, each with an affine layer (a folded batch normalisation), added to the block's input.
A block that halves the size adds its input's means over 2×2 squares; where sizes or channels differ, dlib adds zeros.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deidlib.vision.dlib_file import Layer, read_layers

SIDE = 150  # px of the network's chip
_MEAN, _UNIT = (122.782, 117.001, 104.298), 256.0  # of its input, RGB
_CONVOLUTIONS = 29


class DlibTorch(nn.Module):
    """dlib's network: chips, (N, 3, 150, 150) RGB in [−1, 1], to embeddings, (N, 128).

    Distances between embeddings equal dlib's: two faces closer than 0.6 are one person's, by its author's threshold.

    Parameters
    ----------
    path : Path
        ``dlib_face_recognition_resnet_model_v1.dat``.
    """

    def __init__(self, path: Path):
        super().__init__()
        *layers, dense = read_layers(path)
        pairs = list(zip(layers[::2], layers[1::2], strict=True))
        kinds = {tuple(layer.kind for layer in pair) for pair in pairs}
        if kinds != {("con_4", "affine_")} or len(pairs) != _CONVOLUTIONS or dense.kind != "fc_2":
            raise ValueError(f"{path.name} is not dlib's face recognition network")
        self.strides = [convolution.options[3] for convolution, _ in pairs]
        self.paddings = [convolution.options[5] for convolution, _ in pairs]
        kernels, biases = zip(*(_folded(*pair) for pair in pairs), strict=True)
        self.kernels, self.biases = (
            nn.ParameterList(nn.Parameter(torch.from_numpy(a), requires_grad=False) for a in arrays)
            for arrays in (kernels, biases)
        )
        outputs, inputs = dense.options
        self.dense = nn.Parameter(torch.from_numpy(dense.values.reshape(inputs, outputs)), requires_grad=False)
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        """Embed chips."""
        x = ((chips + 1) * 127.5 - self.mean) / _UNIT
        x = F.max_pool2d(F.relu(self._convolved(x, 0)), 3, 2)
        for k in range(1, len(self.kernels), 2):
            y = self._convolved(F.relu(self._convolved(x, k)), k + 1)
            beside = F.avg_pool2d(x, 2, 2) if self.strides[k] == 2 else x
            x = F.relu(_added(y, beside))
        return x.float().mean(dim=(2, 3)) @ self.dense

    def _convolved(self, x: Tensor, k: int) -> Tensor:
        return F.conv2d(x, self.kernels[k], self.biases[k], stride=self.strides[k], padding=self.paddings[k])


def _folded(convolution: Layer, affine: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution and the affine layer that follows it."""
    filters, rows, columns = convolution.options[:3]
    kernel, bias = np.split(convolution.values, [len(convolution.values) - filters])
    gain, shift = affine.values.reshape(2, filters)
    kernel = kernel.reshape(filters, -1, rows, columns)
    return kernel * gain[:, None, None, None], bias * gain + shift


def _added(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two feature maps, each padded with zeros at its end to the larger number of channels, rows and columns."""
    sizes = [max(pair) for pair in zip(a.shape[1:], b.shape[1:], strict=True)]

    def filled(x: Tensor) -> Tensor:
        missing = [size - own for size, own in zip(sizes, x.shape[1:], strict=True)]
        return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x

    return filled(a) + filled(b)
