"""Tiny model directories in the layout of the hub's CLIP exports, for ONNX Runtime.

The weights are random but the same each time.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import Tokenizer, models, pre_tokenizers, processors

DIMENSIONS = 16
TOKENS = 77
WORDS = ("a", "red", "blue", "cat", "dog", "snow", "in", "the", "of", "photo")

PREPROCESSOR: dict[str, Any] = {
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 32},
}


def write_clip(
    folder: Path,
    *,
    text: bool = True,
    mask: bool = True,
    outlier: float = 0.0,
    preprocessor: dict[str, Any] | None = None,
) -> Path:
    """Write a tiny CLIP; `outlier` makes activations that int8 cannot represent."""
    (folder / "onnx").mkdir(parents=True)
    _write_vision(folder / "onnx" / "vision_model.onnx", outlier)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor or PREPROCESSOR))
    if text:
        _write_text(folder / "onnx" / "text_model.onnx", mask)
        _write_tokenizer(folder / "tokenizer.json")
    return folder


def _write_vision(path: Path, outlier: float) -> None:
    rng = np.random.default_rng(0)
    # Means of 4 x 4 pixels of the normalised image, then two layers.
    first = rng.normal(0, 0.3, (3 * 8 * 8, 64)).astype(np.float32)
    scale = np.ones(3 * 8 * 8, np.float32)
    if outlier:
        first[0], scale[0] = 0, outlier
    second = rng.normal(0, 0.3, (64, DIMENSIONS)).astype(np.float32)
    nodes = [
        helper.make_node(
            "AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "first"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["bent"]),
        helper.make_node("MatMul", ["bent", "second"], ["image_embeds"]),
    ]
    _save(
        path,
        nodes,
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 32, 32])],
        helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["n", DIMENSIONS]),
        {"scale": scale, "first": first, "second": second},
    )


def _write_text(path: Path, mask: bool) -> None:
    """Write a bag of words, without the padding if there is a mask."""
    rng = np.random.default_rng(1)
    table = rng.normal(0, 1, (len(WORDS) + 3, DIMENSIONS)).astype(np.float32)
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "tokens"])]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["words"])]
    summed = "words"
    if mask:
        inputs.append(
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "tokens"])
        )
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["words", "column"], ["counted"]),
        ]
        summed = "counted"
    nodes.append(helper.make_node("ReduceSum", [summed, "tokens"], ["text_embeds"], keepdims=0))
    _save(
        path,
        nodes,
        inputs,
        helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["n", DIMENSIONS]),
        {"table": table, "last": np.array([2]), "tokens": np.array([1])},
    )


def _save(
    path: Path, nodes: list[Any], inputs: list[Any], output: Any, weights: dict[str, Any]
) -> None:
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(path))


def _write_tokenizer(path: Path) -> None:
    words = ["<|startoftext|>", "<|endoftext|>", "[UNK]", *WORDS]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)],
    )
    tokenizer.save(str(path))
