"""EfficientNet-Lite's layers, from the tensors of its PyTorch form.

The architecture: Tan and Le, "EfficientNet", ICML 2019, in the form without squeeze-and-excitation
and with ReLU6 (Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog,
2020). Batch normalisation is folded into the convolutions, and the classifier is left out.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

EPSILON = 1e-3
# Of the seven stages; each begins with the block that changes the number of channels.
STRIDES = (1, 2, 2, 2, 1, 2, 1)


class Convolution(NamedTuple):
    """A convolution with its normalisation folded in; (outputs, inputs, size, size) and (outputs,).

    `groups` is the number of channels of a depthwise convolution, 1 of another.
    """

    weight: Array
    bias: Array
    stride: int
    groups: int


class Block(NamedTuple):
    """An inverted residual block (Sandler et al., "MobileNetV2", CVPR 2018); the first has no
    `widen`.
    """

    widen: Convolution | None
    depthwise: Convolution
    narrow: Convolution

    @property
    def has_shortcut(self) -> bool:
        """Whether its input is added to its output, which needs the same shape."""
        first = self.widen or self.depthwise
        same = first.weight.shape[1] == self.narrow.weight.shape[0]
        return self.widen is not None and self.depthwise.stride == 1 and same


class Layers(NamedTuple):
    """The network's layers, in order."""

    stem: Convolution
    blocks: list[Block]
    head: Convolution


def layers_of(tensors: Mapping[str, Array]) -> Layers:
    """Return the layers of a saved state dictionary; KeyError or ValueError if it is of another."""
    channels = tensors["_conv_stem.weight"].shape[0]
    stages = iter(STRIDES)
    blocks: list[Block] = []
    while f"_blocks.{len(blocks)}._project_conv.weight" in tensors:
        name = f"_blocks.{len(blocks)}."
        outputs = tensors[f"{name}_project_conv.weight"].shape[0]
        stride = next(stages) if outputs != channels else 1
        widen = None
        if f"{name}_expand_conv.weight" in tensors:
            widen = _folded(tensors, f"{name}_expand_conv", f"{name}_bn0")
        depthwise = _folded(tensors, f"{name}_depthwise_conv", f"{name}_bn1", stride)
        narrow = _folded(tensors, f"{name}_project_conv", f"{name}_bn2")
        blocks.append(Block(widen, depthwise, narrow))
        channels = outputs
    stem = _folded(tensors, "_conv_stem", "_bn0", 2)
    return Layers(stem, blocks, _folded(tensors, "_conv_head", "_bn1"))


def _folded(
    tensors: Mapping[str, Array], convolution: str, norm: str, stride: int = 1
) -> Convolution:
    weight = tensors[f"{convolution}.weight"]
    mean, variance = tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"]
    factor = tensors[f"{norm}.weight"] / np.sqrt(variance + EPSILON)
    bias = tensors[f"{norm}.bias"] - mean * factor
    folded = weight * factor.reshape(-1, 1, 1, 1)
    groups = len(weight) if "depthwise" in convolution else 1
    return Convolution(folded.astype(np.float32), bias.astype(np.float32), stride, groups)
