"""EfficientNet-Lite2 as the server runs it, with its features and classes beside its vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from app.encoding.efficientnet import Array, Layers, layers_of
from app.encoding.efficientnet_graph import Projection, graph_of
from app.encoding.lite import SHIPPED, SIDE, weights_file
from app.encoding.onnx_model import PREPROCESSOR
from app.encoding.preprocessing import read_preprocessing
from app.encoding.torch_file import read_tensors

FEATURES = 1280
PREPROCESSING = read_preprocessing(SHIPPED / PREPROCESSOR)


class Weights:
    """The layers, and the classifier: (1000, 1280) and (1000,)."""

    def __init__(self) -> None:
        with weights_file() as path:
            tensors = read_tensors(path)
        self.layers: Layers = layers_of(tensors)
        self.classes: Array = tensors["_fc.weight"]
        self.bias: Array = tensors["_fc.bias"]

    def probabilities(self, features: NDArray[Any]) -> Array:
        """Return the probabilities of ImageNet's classes, (n, 1000), by features (n, 1280)."""
        logits = features.astype(np.float32) @ self.classes.T + self.bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)


class Network:
    """Computes values of the graph by their names; in 8 bits if there are `ranges`."""

    def __init__(self, layers: Layers, outputs: Sequence[str], *, ranges: Array | None) -> None:
        unused = Projection(np.zeros((1, FEATURES), np.float32), np.ones(1, np.float32))
        model = graph_of(layers, unused, side=SIDE, ranges=ranges)
        for name in outputs:
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            model.graph.output.append(value)
        self._outputs = list(outputs)
        self._session: Any = onnxruntime.InferenceSession(model.SerializeToString())

    def __call__(self, images: Sequence[Image.Image]) -> list[Array]:
        """Return each value for RGB images."""
        pixels = np.stack([PREPROCESSING(image) for image in images])
        return self._session.run(self._outputs, {"pixel_values": pixels})
