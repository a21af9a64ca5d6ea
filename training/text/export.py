"""Add a trained text tower to a model directory:
`python -m training.text.export TRAINED FOLDER`.

Weights are stored in 8 bits with a scale per row; ONNX Runtime turns them into float32 when it
loads the model.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from app.encoding.onnx_model import TEXT, TOKENIZER
from training.image.onnx_graph import quantized
from training.text.network import TextNetwork

# Quantizing a smaller tensor saves less than the nodes that restore it take.
LEAST_ENTRIES = 4096


class ExportedText(nn.Module):
    """A text network whose embeddings have unit length."""

    def __init__(self, network: TextNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return functional.normalize(self.network(input_ids, attention_mask))


def export_text_tower(network: TextNetwork, path: Path) -> None:
    """Write the ONNX graph: input_ids and attention_mask, (n, words), to text_embeds, (n, 384)."""
    # Multiply the last layers by the whitening: one matrix less.
    for layer in (network.head, network.narrow):
        layer.weight.data = network.whitening.T @ layer.weight
        layer.bias.data = layer.bias @ network.whitening
    network.whitening.copy_(torch.eye(len(network.whitening)))
    ids = torch.ones(2, 5, dtype=torch.long)
    torch.onnx.export(
        ExportedText(network).eval(),
        (ids, ids),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["input_ids", "attention_mask"],
        output_names=["text_embeds"],
        dynamic_axes={
            "input_ids": {0: "n", 1: "words"},
            "attention_mask": {0: "n", 1: "words"},
            "text_embeds": {0: "n"},
        },
    )
    model = onnx.load(str(path))
    quantize_weights(model)
    onnx.save(model, str(path))


def quantize_weights(model: ModelProto) -> None:
    """Replace large float weights with bytes, a scale per row, and the nodes that restore them."""
    graph = model.graph
    restoring: list[onnx.NodeProto] = []
    for tensor in list(graph.initializer):
        full = numpy_helper.to_array(tensor)
        if full.dtype != np.float32 or full.ndim != 2 or full.size < LEAST_ENTRIES:
            continue
        small, scale = quantized(full)
        names = [f"{tensor.name}_{part}" for part in ("bytes", "scale", "floats")]
        graph.initializer.append(numpy_helper.from_array(small, names[0]))
        graph.initializer.append(numpy_helper.from_array(scale, names[1]))
        restoring.append(helper.make_node("Cast", [names[0]], [names[2]], to=TensorProto.FLOAT))
        restoring.append(helper.make_node("Mul", [names[2], names[1]], [tensor.name]))
        graph.initializer.remove(tensor)
    nodes = [*restoring, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path, help="the folder that training.text.train wrote to")
    parser.add_argument("folder", type=Path, help="the model directory of the image tower")
    args = parser.parse_args()
    tokenizer = args.trained / "tokenizer.json"
    vocabulary = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    state = torch.load(args.trained / "text.pt")["network"]
    network = TextNetwork(vocabulary, state["whitening"])
    network.load_state_dict(state)
    with torch.no_grad():
        export_text_tower(network, args.folder / TEXT)
    shutil.copyfile(tokenizer, args.folder / TOKENIZER)
    size = (args.folder / TEXT).stat().st_size + tokenizer.stat().st_size
    print(f"{args.folder / TEXT} and {TOKENIZER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
