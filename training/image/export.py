"""Export a checkpoint as a model directory: `python -m training.image.export CHECKPOINT FOLDER`.

The normalisations go into the convolutions, and the weights are stored in 8 bits with one scale per
filter, which ONNX Runtime turns into float32 when it loads the model. A vector holds both branches'
embeddings side by side, so that its similarities are their weighted mean; a phrase is compared with
the semantic part. Two more dimensions: one takes from a picture's similarity with any phrase what
it has in common with all (0 before the text tower is exported; see `training.text.querybank`).
Pictures' similarities with each other hardly change. The last is calibration, constant, and raises
all similarities together (s becomes (1 - offset) s + offset), so that 0.90 is where copies begin.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save
from torch import Tensor, nn

from training.image.network import (
    DIMENSIONS,
    INPUT,
    MEAN,
    POWER,
    SEMANTIC_SCALE,
    SHARED,
    STD,
    Block,
    Network,
    SemanticBranch,
    folded,
)

# How many dimensions of a vector are for what is shown, and how much of its square they make up.
SEMANTIC_DIMENSIONS, SEMANTIC_SHARE = 190, 0.04
# Where they are, and where the hubness is: the last is constant.
HUBNESS = DIMENSIONS - 2
SEMANTIC = slice(HUBNESS - SEMANTIC_DIMENSIONS, HUBNESS)
# The inverse temperature at which near texts count more than others for the hubness, and the names
# in the graph of the querybank's texts, in 8 bits, their scale, and how much they count.
SHARPNESS = 16.0
BANK = ("querybank", "querybank_scale", "querybank_counts")
SMALLER = np.array([1, 1, SEMANTIC_SCALE, SEMANTIC_SCALE], np.float32)

PREPROCESSOR = {
    "do_resize": True,
    "size": {"height": INPUT, "width": INPUT},
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [MEAN] * 3,
    "image_std": [STD] * 3,
}


def in_8_bits(full: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a weight as bytes and a scale per row, whose product is nearly the weight."""
    scale = np.abs(full).reshape(len(full), -1).max(1) / 127
    scale = np.maximum(scale, 1e-12).reshape(-1, *[1] * (full.ndim - 1)).astype(np.float32)
    return np.round(full / scale).astype(np.int8), scale


class Graph:
    """An ONNX graph in the making; `small` stores weights in 8 bits."""

    def __init__(self, *, small: bool) -> None:
        self._small = small
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def run(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, value: Tensor) -> str:
        """Store a weight, in 8 bits with a scale per output."""
        full = value.numpy()
        return self.in_8_bits(*in_8_bits(full)) if self._small else self.constant(full)

    def in_8_bits(
        self,
        small: NDArray[np.int8],
        scale: NDArray[np.float32],
        names: Sequence[str | None] = (None, None),
    ) -> str:
        floats = self.run("Cast", self.constant(small, names[0]), to=TensorProto.FLOAT)
        return self.run("Mul", floats, self.constant(scale, names[1]))

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
        """Add residual blocks, whose convolutions come from `layers`."""
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
        """Add what turns maps into features of the whole picture: the mean of cubes."""
        x = self.run("Relu", self.convolution(x, *layer, 1))
        # The least value keeps the root's gradient finite in training.
        x = self.run("Max", x, self.constant(np.float32(1e-4)))
        x = self.run("Pow", x, self.constant(np.float32(POWER)))
        x = self.run("ReduceMean", x, axes=[2, 3], keepdims=0)
        return self.run("Pow", x, self.constant(np.float32(1 / POWER)))

    def embedding(self, x: str, head: nn.Linear, dimensions: int) -> str:
        """Add the first dimensions of a linear layer, and make its vectors unit vectors."""
        weight, bias = head.weight[:dimensions], head.bias[:dimensions]
        x = self.run("Gemm", x, self.weight(weight), self.constant(bias.numpy()), transB=1)
        return self.run("LpNormalization", x, axis=1, p=2)

    def hubness(self, x: str) -> str:
        """Add how near embeddings are to the texts of a bank, (n, 1): here to none."""
        nothing = np.zeros((1, SEMANTIC_DIMENSIONS), np.int8), np.zeros((1, 1), np.float32)
        texts = self.in_8_bits(*nothing, BANK[:2])
        counts = self.constant(np.zeros(1, np.float32), BANK[2])
        x = self.run("Gemm", x, texts, counts, transB=1)
        x = self.run("ReduceLogSumExp", x, axes=[1], keepdims=1)
        return self.times(x, 1 / SHARPNESS)

    def times(self, x: str, factor: float) -> str:
        return self.run("Mul", x, self.constant(np.float32(factor)))


@torch.no_grad()
def export(
    network: Network, branch: SemanticBranch, folder: Path, *, offset: float, small: bool
) -> None:
    """Write the model directory; `offset` is what every two pictures get for free."""
    graph = Graph(small=small)
    layers = iter(folded(network.layers()))
    x = graph.run("Relu", graph.convolution("pixel_values", *next(layers), 2))
    shared = graph.blocks(x, network.blocks[:SHARED], layers)
    x = graph.pooling(graph.blocks(shared, network.blocks[SHARED:], layers), next(layers))
    copies = graph.embedding(x, network.head, SEMANTIC.start)
    layers = iter(folded(branch.layers()))
    x = graph.run("Resize", shared, "", graph.constant(SMALLER), mode="linear")
    x = graph.pooling(graph.blocks(x, branch.blocks, layers), next(layers))
    semantic = graph.embedding(x, branch.head, SEMANTIC_DIMENSIONS)
    hubness = graph.hubness(semantic)
    length = ((1 - offset) * SEMANTIC_SHARE) ** 0.5
    parts = [
        graph.times(copies, ((1 - offset) * (1 - SEMANTIC_SHARE)) ** 0.5),
        graph.times(semantic, length),
        graph.times(hubness, -length),
    ]
    x = graph.run("Concat", *parts, axis=1)
    room = graph.constant(np.array([0, 0, 0, 1]))
    value = graph.constant(np.float32(np.sqrt(offset)))
    graph.nodes.append(helper.make_node("Pad", [x, room, value], ["image_embeds"]))
    _save(graph, folder)


def _save(graph: Graph, folder: Path) -> None:
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "lookalike",
            [
                helper.make_tensor_value_info(
                    "pixel_values", TensorProto.FLOAT, ["n", 3, INPUT, INPUT]
                )
            ],
            [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["n", DIMENSIONS])],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    save(model, str(folder / "onnx" / "vision_model.onnx"))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.9,
        help="the network's own similarity that becomes 0.90 (training.measuring.copies tells it)",
    )
    parser.add_argument("--float32", action="store_true", help="store the weights in full (40 MB)")
    given = parser.parse_args()
    network, branch, state = Network(), SemanticBranch(), torch.load(given.checkpoint)
    network.load_state_dict(state["network"])
    branch.load_state_dict(state["semantic"])
    offset = max(0.0, (0.9 - given.threshold) / (1 - given.threshold))
    export(network, branch, given.folder, offset=offset, small=not given.float32)
    size = (given.folder / "onnx" / "vision_model.onnx").stat().st_size
    print(f"{given.folder}: {size / 1e6:.1f} MB, offset {offset:.3f}")


if __name__ == "__main__":
    main()
