"""Export a checkpoint as a model directory: `python -m training.export CHECKPOINT FOLDER`.

The normalisations go into the convolutions, and the weights are stored in 8 bits with one scale per
filter, which ONNX Runtime turns into float32 when it loads the model. Calibration goes into the
graph too: every vector gets one more, constant, dimension, which raises all similarities together
(s becomes (1 - offset) s + offset), so that 0.90 is where copies begin.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save
from torch import Tensor

from training.network import DIMENSIONS, INPUT, MEAN, POWER, STD, Network, folded

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

    def constant(self, value: Any) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def run(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, value: Tensor) -> str:
        """Store a weight, in 8 bits with a scale per output."""
        full = value.numpy()
        if not self._small:
            return self.constant(full)
        small, scale = in_8_bits(full)
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


def export(
    network: Network, folder: Path, head: tuple[Tensor, Tensor], *, offset: float, small: bool
) -> None:
    """Write the model directory; `offset` is what every two pictures get for free."""
    layers = iter(folded(network))
    graph = Graph(small=small)
    x = graph.run("Relu", graph.convolution("pixel_values", *next(layers), 2))
    for block in network.blocks:
        stride = block.first.stride[0]  # pyright: ignore[reportAttributeAccessIssue]
        hidden = graph.run("Relu", graph.convolution(x, *next(layers), stride))
        hidden = graph.convolution(hidden, *next(layers), 1)
        if stride == 2:
            x = graph.run("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            x = graph.convolution(x, *next(layers), 1)
        x = graph.run("Relu", graph.run("Add", hidden, x))
    x = graph.run("Relu", graph.convolution(x, *next(layers), 1))
    # The mean of cubes; the least value keeps the root's gradient finite in training.
    x = graph.run("Max", x, graph.constant(np.float32(1e-4)))
    x = graph.run("Pow", x, graph.constant(np.float32(POWER)))
    x = graph.run("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = graph.run("Pow", x, graph.constant(np.float32(1 / POWER)))
    x = graph.run("Gemm", x, graph.weight(head[0]), graph.constant(head[1].numpy()), transB=1)
    x = graph.run("LpNormalization", x, axis=1, p=2)
    x = graph.run("Mul", x, graph.constant(np.float32(np.sqrt(1 - offset))))
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


@torch.no_grad()
def shortened_head(network: Network) -> tuple[Tensor, Tensor]:
    """Return the head turned so that it needs 511 dimensions, which leaves room for a constant one.

    Nothing is lost: 480 features and a bias fill no more than 481 of the 512.
    """
    weight, bias = network.head.weight, network.head.bias
    axes, _, _ = torch.linalg.svd(torch.cat([weight, bias[:, None]], 1))
    turned = axes.T[: DIMENSIONS - 1]
    return turned @ weight, turned @ bias


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.9,
        help="the network's own similarity that becomes 0.90 (training.evaluate tells it)",
    )
    parser.add_argument("--float32", action="store_true", help="store the weights in full (20 MB)")
    given = parser.parse_args()
    network = Network()
    network.load_state_dict(torch.load(given.checkpoint)["network"])
    network.eval()
    head = shortened_head(network)
    offset = max(0.0, (0.9 - given.threshold) / (1 - given.threshold))
    with torch.no_grad():
        export(network, given.folder, head, offset=offset, small=not given.float32)
    size = (given.folder / "onnx" / "vision_model.onnx").stat().st_size
    print(f"{given.folder}: {size / 1e6:.1f} MB, offset {offset:.3f}")


if __name__ == "__main__":
    main()
