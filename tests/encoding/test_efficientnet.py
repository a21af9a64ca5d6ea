"""EfficientNet-Lite's graph, compared with its definition: each layer as a loop over its pixels."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from app.encoding.efficientnet import EPSILON, STRIDES, layers_of
from app.encoding.efficientnet_graph import Projection, graph_of
from app.encoding.encoder import unit

Maps = NDArray[np.float64]
Tensors = dict[str, NDArray[np.float32]]

# Channels in each stage, the number of blocks, and the sizes of their filters.
WIDTHS, DEPTHS, SIZES = (4, 6, 8, 10, 12, 14, 16), (1, 2, 1, 2, 1, 1, 1), (3, 3, 5, 3, 5, 5, 3)


def tensors() -> Tensors:
    """A tiny network's tensors, by the names that the package gives them."""
    rng = np.random.default_rng(0)
    made: Tensors = {}

    def layer(name: str, norm: str, outputs: int, inputs: int, size: int) -> None:
        shape = (outputs, inputs, size, size)
        deviation = (2 / (inputs * size * size)) ** 0.5
        made[f"{name}.weight"] = rng.normal(0, deviation, shape).astype(np.float32)
        for part, low, high in (
            ("weight", 0.7, 1.3),
            ("bias", -0.3, 0.7),
            ("running_mean", -0.3, 0.3),
            ("running_var", 0.5, 1.5),
        ):
            made[f"{norm}.{part}"] = rng.uniform(low, high, outputs).astype(np.float32)

    layer("_conv_stem", "_bn0", 8, 3, 3)
    channels, place = 8, 0
    for width, depth, size in zip(WIDTHS, DEPTHS, SIZES, strict=True):
        for _ in range(depth):
            name = f"_blocks.{place}."
            hidden = channels if place == 0 else 2 * channels
            if place:
                layer(f"{name}_expand_conv", f"{name}_bn0", hidden, channels, 1)
            layer(f"{name}_depthwise_conv", f"{name}_bn1", hidden, 1, size)
            layer(f"{name}_project_conv", f"{name}_bn2", width, hidden, 1)
            channels, place = width, place + 1
    layer("_conv_head", "_bn1", 20, channels, 1)
    return made


def convolved(x: Maps, weight: NDArray[np.float32], stride: int) -> Maps:
    """A convolution, depthwise if the filters have one channel, padded as TensorFlow's "SAME"."""
    outputs, inputs, size, _ = weight.shape
    side = -(-x.shape[1] // stride)
    total = max((side - 1) * stride + size - x.shape[1], 0)
    ends = (total // 2, total - total // 2)
    padded = np.pad(x, ((0, 0), ends, ends))
    made = np.zeros((outputs, side, side))
    for row in range(side):
        for column in range(side):
            part = padded[:, row * stride :, column * stride :][:, :size, :size]
            if inputs == 1:
                made[:, row, column] = (part * weight[:, 0]).sum((1, 2))
            else:
                made[:, row, column] = np.tensordot(weight, part, 3)
    return made


def normalised(x: Maps, of: Tensors, name: str) -> Maps:
    scale = of[f"{name}.weight"] / np.sqrt(of[f"{name}.running_var"] + EPSILON)
    shift = of[f"{name}.bias"] - of[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def features(of: Tensors, pixels: Maps) -> Maps:
    """The pooled features of one image, (3, side, side)."""

    def step(x: Maps, layer: str, norm: str, stride: int = 1) -> Maps:
        return normalised(convolved(x, of[f"{layer}.weight"], stride), of, norm)

    x = step(pixels, "_conv_stem", "_bn0", 2).clip(0, 6)
    place = 0
    for stage_stride, depth in zip(STRIDES, DEPTHS, strict=True):
        for number in range(depth):
            name, stride = f"_blocks.{place}.", stage_stride if number == 0 else 1
            inner = x
            if place:
                inner = step(inner, f"{name}_expand_conv", f"{name}_bn0").clip(0, 6)
            inner = step(inner, f"{name}_depthwise_conv", f"{name}_bn1", stride).clip(0, 6)
            inner = step(inner, f"{name}_project_conv", f"{name}_bn2")
            x = x + inner if number else inner
            place += 1
    return step(x, "_conv_head", "_bn1").clip(0, 6).mean((1, 2))


def embedded(model: Any, pixels: NDArray[np.float32], *outputs: str) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(list(outputs) or ["image_embeds"], {"pixel_values": pixels})


def pixels(side: int) -> NDArray[np.float32]:
    """Two images, as bytes normalised for the network."""
    values = np.random.default_rng(1).integers(0, 256, (2, 3, side, side))
    return ((values - 127) / 128).astype(np.float32)


def projection() -> Projection:
    """Vectors of 4 + 3 + 1 dimensions, and three texts."""
    rng = np.random.default_rng(2)
    shapes = ((4, 20), (4,), (3, 20), (3,), (3, 7))
    values = [rng.normal(0, 1, shape).astype(np.float32) for shape in shapes]
    values[-1] = unit(values[-1])
    return Projection(*values, np.float32(0.2))


PROJECTION = projection()


def projected(values: NDArray[Any]) -> NDArray[Any]:
    """The vector of pooled features."""
    shown = PROJECTION.shown_weight @ values + PROJECTION.shown_bias
    told = PROJECTION.told_weight @ values + PROJECTION.told_bias
    shown *= 0.75**0.5 / np.linalg.norm(shown)
    told *= 0.5 / np.linalg.norm(told)
    both = np.concatenate([shown, told])
    close = np.log(np.exp(20 * PROJECTION.bank @ both).sum()) / 20 - 0.2
    last = np.clip(close, -0.3, 0.3)
    return np.append(both * (1 - last**2) ** 0.5, last)


# Odd sides are padded differently from even ones.
@pytest.mark.parametrize("side", [64, 52, 41])
def test_the_graph_computes_the_network(side: int) -> None:
    of, images = tensors(), pixels(side)
    [vectors] = embedded(graph_of(layers_of(of), PROJECTION, side=side), images)
    for vector, image in zip(vectors, images, strict=True):
        expected = projected(features(of, image.astype(np.float64)))
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        assert np.linalg.norm(vector) == pytest.approx(1)


def test_the_graph_in_bytes_is_close_to_the_one_in_floats() -> None:
    layers, images = layers_of(tensors()), pixels(64)
    model = graph_of(layers, PROJECTION, side=64)
    names = [name for node in model.graph.node for name in node.output if name[3:].isdigit()]
    assert names == [f"map{place}" for place in range(len(names))]
    for name in names:
        value = model.graph.output.add()
        value.CopyFrom(model.graph.output[0])
        value.name = name
        value.type.tensor_type.ClearField("shape")
    full, *maps = embedded(model, images, "image_embeds", *names)
    ranges = np.array([(values.min(), values.max()) for values in maps], np.float32)
    [small] = embedded(graph_of(layers, PROJECTION, side=64, ranges=ranges), images)
    assert small.dtype == np.float32
    cosines = (full * small).sum(1)
    assert (cosines > 0.99).all()
    assert (cosines < 1).all()


def test_a_filter_of_zeros_is_only_its_bias() -> None:
    of = tensors()
    of["_conv_head.weight"][5] = 0
    layers, images = layers_of(of), pixels(64)
    fifth = np.eye(20, dtype=np.float32)[5:6].repeat(2, 0)
    zeros = np.zeros(2, np.float32)
    biased = np.array([0, 1], np.float32)
    one = Projection(fifth, biased, fifth, biased, np.zeros((1, 4), np.float32), zeros[0])
    maps = 2 + sum(2 + (block.widen is not None) + block.has_shortcut for block in layers.blocks)
    ranges = np.tile(np.array([-6, 6], np.float32), (maps, 1))
    [full] = embedded(graph_of(layers, one, side=64), images)
    [small] = embedded(graph_of(layers, one, side=64, ranges=ranges), images)
    np.testing.assert_allclose(small, full, atol=0.02)


def test_another_network_is_refused() -> None:
    of = tensors()
    del of["_blocks.3._bn1.running_mean"]
    with pytest.raises(KeyError):
        layers_of(of)
