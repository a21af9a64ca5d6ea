"""CLIP ViT-B/32's image tower at its true size with random weights, built with the `onnx` package.

Speed does not depend on the values of the weights. The sizes are those of Radford et al., 2021
(table 20): 12 layers, width 768, 12 heads, 49 patches of 32 px and a class token, projected to 512.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

LAYERS, WIDTH, HEADS, PATCH, TOKENS, OUT = 12, 768, 12, 32, 50, 512
PREPROCESSOR = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._rng = np.random.default_rng(0)

    def constant(self, value: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int, scale: float = 0.02) -> str:
        return self.constant(self._rng.normal(0, scale, shape).astype(np.float32))

    def run(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self.run("MatMul", x, self.weight(inputs, outputs))
        return self.run("Add", product, self.weight(outputs))

    def norm(self, x: str) -> str:
        ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
        return self.run("LayerNormalization", x, self.constant(ones), self.constant(zeros), axis=-1)

    def heads(self, x: str, order: list[int]) -> str:
        shape = self.constant(np.array([0, TOKENS, HEADS, WIDTH // HEADS]))
        return self.run("Transpose", self.run("Reshape", x, shape), perm=order)

    def attention(self, x: str) -> str:
        query, key, value = (self.linear(x, WIDTH, WIDTH) for _ in range(3))
        query, value = self.heads(query, [0, 2, 1, 3]), self.heads(value, [0, 2, 1, 3])
        scores = self.run("MatMul", query, self.heads(key, [0, 2, 3, 1]))
        scale = self.constant(np.float32((WIDTH // HEADS) ** -0.5))
        weights = self.run("Softmax", self.run("Mul", scores, scale), axis=-1)
        mixed = self.run("Transpose", self.run("MatMul", weights, value), perm=[0, 2, 1, 3])
        flat = self.run("Reshape", mixed, self.constant(np.array([0, TOKENS, WIDTH])))
        return self.linear(flat, WIDTH, WIDTH)

    def block(self, x: str) -> str:
        x = self.run("Add", x, self.attention(self.norm(x)))
        hidden = self.linear(self.norm(x), WIDTH, 4 * WIDTH)
        # CLIP's "quick" GELU: x * sigmoid(1.702 x).
        slope = self.run("Mul", hidden, self.constant(np.float32(1.702)))
        bent = self.run("Mul", hidden, self.run("Sigmoid", slope))
        return self.run("Add", x, self.linear(bent, 4 * WIDTH, WIDTH))


def write_vit_b32(folder: Path) -> Path:
    """Write the model directory, 350 MB."""
    graph = _Graph()
    patches = graph.run(
        "Conv",
        "pixel_values",
        graph.weight(WIDTH, 3, PATCH, PATCH),
        kernel_shape=[PATCH, PATCH],
        strides=[PATCH, PATCH],
    )
    shape = graph.constant(np.array([0, WIDTH, TOKENS - 1]))
    patches = graph.run("Transpose", graph.run("Reshape", patches, shape), perm=[0, 2, 1])
    # The class token: a slot of zeros before the patches, and a learned position for every slot.
    room = graph.constant(np.array([0, 1, 0, 0, 0, 0]))
    x = graph.run("Add", graph.run("Pad", patches, room), graph.weight(TOKENS, WIDTH))
    x = graph.norm(x)
    for _ in range(LAYERS):
        x = graph.block(x)
    first = graph.run("Gather", x, graph.constant(np.array(0)), axis=1)
    pooled = graph.norm(first)
    graph.nodes.append(
        helper.make_node("MatMul", [pooled, graph.weight(WIDTH, OUT)], ["image_embeds"])
    )
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "vit-b-32",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 224, 224])],
            [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["n", OUT])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (folder / "onnx").mkdir(parents=True)
    save(model, str(folder / "onnx" / "vision_model.onnx"))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder
