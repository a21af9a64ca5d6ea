"""EfficientNet-Lite's layers as an ONNX graph, in float32 or in 8 bits.

In 8 bits, activations are bytes whose ranges were measured in training (static quantization), and
each filter has its own scale (Krishnamoorthi, "Quantizing deep convolutional networks for efficient
inference", 2018). The result of both: pixel_values (n, 3, side, side) -> image_embeds, of unit
length, made of the pooled features as `Projection` says.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from app.encoding.efficientnet import Array, Block, Convolution, Layers

# Pixels are normalised as (x - 127) / 128.
PIXEL_ZERO, PIXEL_SCALE = 127, 1 / 128
CLIPPED = 6.0  # by ReLU6
# 7 bits: CPUs without VNNI add products in 16 bits, which 8 would overflow. A depthwise convolution
# is no matrix product, and is computed in 32 bits everywhere.
LARGEST_WEIGHT, LARGEST_DEPTHWISE = 63, 127
LARGEST_BIAS = 2**30
# Similarities are mostly by what is shown. The squares sum to 1.
SHOWN_LENGTH, TOLD_LENGTH = 0.75**0.5, 0.25**0.5
# The inverse temperature of the soft maximum, and the most of it in a vector of length 1.
BANK_SHARPNESS, MOST_OF_BANK = 20.0, 0.3


class Projection(NamedTuple):
    """What makes a vector of the pooled features.

    Two linear maps of them, (dimensions, features) and (dimensions,): of what an image shows and of
    what texts tell of images, each scaled to its length (`SHOWN_LENGTH`, `TOLD_LENGTH`). Then one
    more dimension, of how close that is to texts in general: the soft maximum of the similarities
    to the `bank` (texts, dimensions of both), less its usual `level`, a number. Texts subtract it,
    or images that are close to any text would be found by all (Bogolin et al., "Cross modal
    retrieval with querybank normalisation", CVPR 2022).
    """

    shown_weight: Array
    shown_bias: Array
    told_weight: Array
    told_bias: Array
    bank: Array
    level: Array


class Value(NamedTuple):
    """A feature map in the graph, `side` pixels wide; its bytes stand for scale (byte - zero)."""

    name: str
    side: int
    scale: float = 1.0
    zero: int = 0


def graph_of(
    layers: Layers, projection: Projection, *, side: int, ranges: Array | None = None
) -> ModelProto:
    """Return the graph; in 8 bits if there are `ranges`, the (lowest, highest) of each map.

    The maps, named map0, map1, …, are counted in the order in which `Graph` makes them.
    """
    graph = Graph() if ranges is None else ByteGraph(ranges)
    x = graph.convolution(graph.pixels(side), layers.stem, is_clipped=True)
    for block in layers.blocks:
        x = graph.block(x, block)
    graph.projection(graph.convolution(x, layers.head, is_clipped=True), projection)
    return graph.model(side, projection.bank.shape[1] + 1)


class Graph:
    """The nodes and tensors of a graph in float32."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._tensors: list[TensorProto] = []
        self.maps = 0

    def pixels(self, side: int) -> Value:
        """Return the input."""
        return Value("pixel_values", side)

    def block(self, x: Value, block: Block) -> Value:
        """Add a block."""
        inner = x if block.widen is None else self.convolution(x, block.widen, is_clipped=True)
        inner = self.convolution(inner, block.depthwise, is_clipped=True)
        inner = self.convolution(inner, block.narrow, is_clipped=False)
        return self.sum(x, inner) if block.has_shortcut else inner

    def convolution(self, x: Value, layer: Convolution, *, is_clipped: bool) -> Value:
        """Add a convolution, followed by ReLU6 if `is_clipped`."""
        name = self._next_map()
        inputs = [x.name, self.constant(layer.weight), self.constant(layer.bias)]
        self.node("Conv", inputs, f"{name}_full" if is_clipped else name, **_shape(layer, x.side))
        if is_clipped:
            limits = [self.constant(np.float32(limit)) for limit in (0, CLIPPED)]
            self.node("Clip", [f"{name}_full", *limits], name)
        return Value(name, _side(layer, x.side))

    def sum(self, a: Value, b: Value) -> Value:
        """Add two maps."""
        name = self._next_map()
        self.node("Add", [a.name, b.name], name)
        return Value(name, a.side)

    def projection(self, x: Value, projection: Projection) -> None:
        """Add the mean over the map, and the vector that is made of it."""
        self.node("GlobalAveragePool", [x.name], "means")
        self.node("Flatten", ["means"], "features")
        self._scaled("shown", projection.shown_weight, projection.shown_bias, SHOWN_LENGTH)
        self._scaled("told", projection.told_weight, projection.told_bias, TOLD_LENGTH)
        self.node("Concat", ["shown", "told"], "both", axis=1)
        sharp_bank = (BANK_SHARPNESS * projection.bank).T
        self.node("MatMul", ["both", self._number(sharp_bank)], "texts")
        self.node("ReduceLogSumExp", ["texts"], "sharp", axes=[1])
        self.node("Mul", ["sharp", self._number(1 / BANK_SHARPNESS)], "closeness")
        self.node("Sub", ["closeness", self._number(projection.level)], "usual")
        limits = [self._number(limit) for limit in (-MOST_OF_BANK, MOST_OF_BANK)]
        self.node("Clip", ["usual", *limits], "last")
        self.node("Mul", ["last", "last"], "last_squared")
        self.node("Sub", [self._number(1.0), "last_squared"], "left_squared")
        self.node("Sqrt", ["left_squared"], "left")
        self.node("Mul", ["both", "left"], "rest")
        self.node("Concat", ["rest", "last"], "image_embeds", axis=1)

    def _scaled(self, name: str, weight: Array, bias: Array, length: float) -> None:
        """Add a linear map of the features, scaled to a length."""
        inputs = ["features", self.constant(weight), self.constant(bias)]
        self.node("Gemm", inputs, f"{name}_projected", transB=1)
        self.node("LpNormalization", [f"{name}_projected"], f"{name}_unit", axis=1, p=2)
        self.node("Mul", [f"{name}_unit", self._number(length)], name)

    def _number(self, value: Array | float) -> str:
        return self.constant(np.asarray(value, np.float32))

    def model(self, side: int, dimensions: int) -> ModelProto:
        """Return the finished model."""
        floats = TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info("pixel_values", floats, ["n", 3, side, side])]
        outputs = [helper.make_tensor_value_info("image_embeds", floats, ["n", dimensions])]
        graph = helper.make_graph(self._nodes, "lite", inputs, outputs, self._tensors)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Add a node."""
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Add a tensor; return its name."""
        name = f"constant{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def _next_map(self) -> str:
        self.maps += 1
        return f"map{self.maps - 1}"


class ByteGraph(Graph):
    """The nodes and tensors of a graph in 8 bits; only the projection is in float32."""

    def __init__(self, ranges: Array) -> None:
        super().__init__()
        self._ranges = ranges

    def pixels(self, side: int) -> Value:
        """Return the input as bytes; they are exactly the image's."""
        x = Value("pixels", side, PIXEL_SCALE, PIXEL_ZERO)
        self.node("QuantizeLinear", ["pixel_values", *self._scale(x)], x.name)
        return x

    def convolution(self, x: Value, layer: Convolution, *, is_clipped: bool) -> Value:  # noqa: ARG002
        """Add a convolution; a range within 0 and 6 is ReLU6."""
        y = self._next_value(_side(layer, x.side))
        steps = LARGEST_WEIGHT if layer.groups == 1 else LARGEST_DEPTHWISE
        largest = np.abs(layer.weight).reshape(len(layer.weight), -1).max(1) / steps
        # A filter of zeros would leave no scale, and its bias must fit as well.
        least = np.abs(layer.bias) / (x.scale * LARGEST_BIAS)
        scales = np.maximum(largest, np.maximum(least, 1e-12)).astype(np.float32)
        weight = np.round(layer.weight / scales.reshape(-1, 1, 1, 1)).astype(np.int8)
        bias = np.round(layer.bias / (scales * x.scale)).astype(np.int32)
        inputs = [x.name, *self._scale(x), self.constant(weight), self.constant(scales)]
        inputs += [self.constant(np.zeros(len(scales), np.int8)), *self._scale(y)]
        inputs.append(self.constant(bias))
        self.node("QLinearConv", inputs, y.name, **_shape(layer, x.side))
        return y

    def sum(self, a: Value, b: Value) -> Value:
        """Add two maps."""
        y = self._next_value(a.side)
        inputs = [a.name, *self._scale(a), b.name, *self._scale(b), *self._scale(y)]
        self.node("QLinearAdd", inputs, y.name, domain="com.microsoft")
        return y

    def projection(self, x: Value, projection: Projection) -> None:
        """Add the projection, in float32."""
        self.node("DequantizeLinear", [x.name, *self._scale(x)], "floats")
        super().projection(Value("floats", x.side), projection)

    def _next_value(self, side: int) -> Value:
        low, high = (float(limit) for limit in self._ranges[self.maps])
        low, high = min(low, 0.0), max(high, 1e-6)
        scale = (high - low) / 255
        return Value(self._next_map(), side, scale, round(-low / scale))

    def _scale(self, value: Value) -> list[str]:
        scale = self.constant(np.float32(value.scale))
        return [scale, self.constant(np.uint8(value.zero))]


def _shape(layer: Convolution, side: int) -> dict[str, Any]:
    """Return the attributes of a convolution of a square map."""
    size = layer.weight.shape[2]
    return {
        "kernel_shape": [size, size],
        "strides": [layer.stride, layer.stride],
        "pads": _padding(layer, side),
        "group": layer.groups,
    }


def _padding(layer: Convolution, side: int) -> list[int]:
    """Return the top, left, bottom and right of TensorFlow's padding "SAME"."""
    size = layer.weight.shape[2]
    total = max((_side(layer, side) - 1) * layer.stride + size - side, 0)
    return [total // 2, total // 2, total - total // 2, total - total // 2]


def _side(layer: Convolution, side: int) -> int:
    return -(-side // layer.stride)
