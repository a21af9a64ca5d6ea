"""Building the ONNX graph of an image tower, with weights in 8 bits.

A weight is stored with one scale per filter or row; ONNX Runtime turns it into float32 when it
loads the model.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.image.network import POWER, Block


def quantized(full: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a weight in 8 bits and a scale per row, whose product is close to the weight."""
    scale = np.abs(full).reshape(len(full), -1).max(1) / 127
    scale = np.maximum(scale, 1e-12).reshape(-1, *[1] * (full.ndim - 1)).astype(np.float32)
    return np.round(full / scale).astype(np.int8), scale


class GraphBuilder:
    """Adds nodes and tensors to an ONNX graph; `small` stores weights in 8 bits.

    Methods take and return the names of values in the graph.
    """

    def __init__(self, *, small: bool) -> None:
        self._small = small
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def run(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, value: Tensor) -> str:
        """Store a weight, in 8 bits with a scale per output if the graph is to be small."""
        full = value.numpy()
        if not self._small:
            return self.constant(full)
        small, scale = quantized(full)
        floats = self.run("Cast", self.constant(small), to=TensorProto.FLOAT)
        return self.run("Mul", floats, self.constant(scale))

    def convolution(self, x: str, weight: Tensor, bias: Tensor, stride: int) -> str:
        size = weight.shape[-1]
        return self.run(
            "Conv",
            x,
            self.weight(weight),
            self.constant(bias.numpy()),
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
        )

    def blocks(self, x: str, blocks: nn.Sequential, layers: Iterator[tuple[Tensor, Tensor]]) -> str:
        """Add residual blocks, taking weight and bias of each convolution from `layers`."""
        for block in blocks:
            assert isinstance(block, Block)
            stride = block.first.stride[0]
            hidden = self.run("Relu", self.convolution(x, *next(layers), stride))
            hidden = self.convolution(hidden, *next(layers), 1)
            if stride == 2:
                x = self.run("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
                x = self.convolution(x, *next(layers), 1)
            x = self.run("Relu", self.run("Add", hidden, x))
        return x

    def pooling(self, x: str, layer: tuple[Tensor, Tensor]) -> str:
        """Add generalised-mean pooling, which turns feature maps into features of the image."""
        x = self.run("Relu", self.convolution(x, *layer, 1))
        # The minimum keeps the root's gradient finite in training.
        x = self.run("Max", x, self.constant(np.float32(1e-4)))
        x = self.run("Pow", x, self.constant(np.float32(POWER)))
        x = self.run("ReduceMean", x, axes=[2, 3], keepdims=0)
        return self.run("Pow", x, self.constant(np.float32(1 / POWER)))

    def embedding(self, x: str, head: nn.Linear, dimensions: int) -> str:
        """Add a linear layer's first dimensions, normalised to unit length."""
        weight, bias = head.weight[:dimensions], head.bias[:dimensions]
        x = self.run("Gemm", x, self.weight(weight), self.constant(bias.numpy()), transB=1)
        return self.run("LpNormalization", x, axis=1, p=2)

    def times(self, x: str, factor: float) -> str:
        return self.run("Mul", x, self.constant(np.float32(factor)))
