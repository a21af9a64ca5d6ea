"""Make the model directory of a trained `lite`: `python -m training.text.export TRAINED FOLDER`.

The words' vectors are stored in 8 bits with a scale per word; ONNX Runtime turns them into float32
when it loads the model.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from app.encoding.lite import NETWORK, SHIPPED, write_image_tower
from app.encoding.onnx_model import PREPROCESSOR, TEXT, TOKENIZER
from training.image.onnx_graph import quantized
from training.lite.features import read_features
from training.lite.network import FEATURES
from training.lite.prepare import RANGES
from training.lite.projection import SHOWN, LinearMap
from training.text.bank import usual_level
from training.text.network import Towers
from training.text.train import BANK, TRAINED

# Quantizing a smaller tensor saves less than the nodes that restore it take.
LEAST_ENTRIES = 4096
# How much of an image's closeness to the bank is taken off its similarity to a text.
BANK_WEIGHT = 0.6


class ExportedText(nn.Module):
    """The text tower, with the last dimension, of unit length."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers = towers

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        texts = self.towers.texts(input_ids, attention_mask)
        last = torch.full_like(texts[:, :1], -BANK_WEIGHT)
        return torch.cat([texts, last], 1) / (1 + BANK_WEIGHT**2) ** 0.5


def export_text_tower(towers: Towers, path: Path) -> None:
    """Write the ONNX graph: input_ids and attention_mask, (n, words), to text_embeds, (n, 384)."""
    ids = torch.ones(2, 5, dtype=torch.long)
    torch.onnx.export(
        ExportedText(towers).eval(),
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


def read_towers(trained: Path) -> Towers:
    """Return the towers of a checkpoint."""
    state = torch.load(trained)["towers"]
    nothing = LinearMap(np.zeros((SHOWN, FEATURES), np.float32), np.zeros(SHOWN, np.float32))
    towers = Towers(len(state["words.weight"]), nothing, torch.zeros(2, FEATURES))
    towers.load_state_dict(state)
    return towers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path, help="the folder that training.text.train wrote to")
    parser.add_argument("folder", type=Path, help="the model directory to make")
    args = parser.parse_args()
    towers = read_towers(args.trained / TRAINED)
    (args.folder / TEXT).parent.mkdir(parents=True, exist_ok=True)
    bank = torch.from_numpy(np.load(args.trained / BANK))
    whole = torch.from_numpy(read_features(args.trained).views[:, 0].astype(np.float32))
    projection = towers.projection(bank, usual_level(towers, bank, whole))
    values = dict(zip(NETWORK, (np.load(args.trained / RANGES), *projection), strict=True))
    stored = {name: value.astype(np.float16) for name, value in values.items()}
    np.savez(args.folder / "network.npz", **stored)
    shutil.copyfile(SHIPPED / PREPROCESSOR, args.folder / PREPROCESSOR)
    write_image_tower(args.folder)
    export_text_tower(towers, args.folder / TEXT)
    tokenizer = args.trained / TOKENIZER
    shutil.copyfile(tokenizer, args.folder / TOKENIZER)
    size = (args.folder / TEXT).stat().st_size + tokenizer.stat().st_size
    print(f"{args.folder / TEXT} and {TOKENIZER}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
