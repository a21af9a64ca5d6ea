"""Add a trained text tower, and its querybank, to a model directory:
`python -m training.text.export OUT FOLDER`.

Weights are stored in 8 bits with a scale per row, which ONNX Runtime turns into float32 when it
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

from app.encoding.onnx_model import TEXT, TOKENIZER, VISION
from training.image.export import HUBNESS, in_8_bits
from training.image.network import DIMENSIONS
from training.text.network import TextNetwork
from training.text.querybank import Querybank

# Smaller tensors are worth less than the nodes that would restore them.
LEAST_ENTRIES = 4096
# How much of what a picture has in common with captions is taken from its similarity with a text:
# more helps no caption further, and costs the names of things.
HUBNESS_WEIGHT = 0.5


class Unit(nn.Module):
    """A text network whose embeddings have unit length, and weigh pictures' hubness."""

    def __init__(self, network: TextNetwork) -> None:
        super().__init__()
        self.network = network
        weights = functional.one_hot(torch.tensor(HUBNESS), DIMENSIONS) * HUBNESS_WEIGHT
        self.register_buffer("hubness", weights)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        semantic = functional.normalize(self.network(input_ids, attention_mask))
        return functional.normalize(semantic + self.hubness)


def export(network: TextNetwork, path: Path) -> None:
    """Write the ONNX graph: input_ids and attention_mask, (n, words), to text_embeds, (n, 512)."""
    # One matrix in place of two.
    network.head.weight.data = network.spread.T @ network.head.weight
    network.head.bias.data = network.head.bias @ network.spread
    network.spread.copy_(torch.eye(len(network.spread)))
    ids = torch.ones(2, 5, dtype=torch.long)
    torch.onnx.export(
        Unit(network).eval(),
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
    store_in_8_bits(model)
    onnx.save(model, str(path))


def store_in_8_bits(model: ModelProto) -> None:
    """Replace large float weights by bytes, a scale per row, and the nodes that restore them."""
    graph = model.graph
    restoring: list[onnx.NodeProto] = []
    for tensor in list(graph.initializer):
        full = numpy_helper.to_array(tensor)
        if full.dtype != np.float32 or full.ndim != 2 or full.size < LEAST_ENTRIES:
            continue
        small, scale = in_8_bits(full)
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
    parser.add_argument("trained", type=Path, help="the folder that training.text.train wrote")
    parser.add_argument("folder", type=Path, help="the model directory of the image tower")
    given = parser.parse_args()
    tokenizer = given.trained / "tokenizer.json"
    vocabulary = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    state = torch.load(given.trained / "text.pt")["network"]
    network = TextNetwork(vocabulary, state["spread"])
    network.load_state_dict(state)
    with torch.no_grad():
        export(network, given.folder / TEXT)
    bank = Querybank(*torch.load(given.trained / "querybank.pt"))
    bank.install(given.folder / VISION)
    shutil.copyfile(tokenizer, given.folder / TOKENIZER)
    size = (given.folder / TEXT).stat().st_size + tokenizer.stat().st_size
    print(f"{given.folder / TEXT} and {TOKENIZER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
