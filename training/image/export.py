"""Export the image tower: `python -m training.image.export CHECKPOINT FOLDER`.

FOLDER becomes a model directory. Normalisations are folded into the convolutions, and weights are
stored in 8 bits with a scale per filter. The last of a vector's 512 dimensions is constant, for
calibration: it raises every similarity s to (1 - offset) s + offset, so that copies begin at 0.90.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, save

from training.data.inputs import INPUT, MEAN, STD
from training.image.network import DIMENSIONS, CopyNetwork, folded
from training.image.onnx_graph import GraphBuilder

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


@torch.no_grad()
def export_image_tower(network: CopyNetwork, folder: Path, *, offset: float, small: bool) -> None:
    """Write the model directory; `offset` is the least similarity of two images."""
    graph = GraphBuilder(small=small)
    layers = iter(folded(network.conv_norms()))
    x = graph.run("Relu", graph.convolution("pixel_values", *next(layers), 2))
    x = graph.pooling(graph.blocks(x, network.blocks, layers), next(layers))
    x = graph.times(graph.embedding(x, network.head, DIMENSIONS - 1), (1 - offset) ** 0.5)
    room = graph.constant(np.array([0, 0, 0, 1]))
    value = graph.constant(np.float32(np.sqrt(offset)))
    graph.nodes.append(helper.make_node("Pad", [x, room, value], ["image_embeds"]))
    _save(graph, folder)


def _save(graph: GraphBuilder, folder: Path) -> None:
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
    parser.add_argument("checkpoint", type=Path, help="the network.pt of a training")
    parser.add_argument("folder", type=Path, help="the model directory to write")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.9,
        help="the uncalibrated similarity that becomes 0.90 (training.measuring.copies prints it)",
    )
    parser.add_argument(
        "--float32", action="store_true", help="store the weights in float32 (40 MB)"
    )
    args = parser.parse_args()
    network = CopyNetwork()
    network.load_state_dict(torch.load(args.checkpoint)["network"])
    offset = max(0.0, (0.9 - args.threshold) / (1 - args.threshold))
    export_image_tower(network, args.folder, offset=offset, small=not args.float32)
    size = (args.folder / "onnx" / "vision_model.onnx").stat().st_size
    print(f"{args.folder}: {size / 1e6:.1f} MB, offset {offset:.3f}")


if __name__ == "__main__":
    main()
