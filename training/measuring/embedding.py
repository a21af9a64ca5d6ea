"""Images and texts to unit vectors, by an exported model as the server runs it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from app.encoding.encoder import MAX_BATCH, Vectors, unit
from app.encoding.onnx_model import OnnxModel

TEXTS_BATCH = 64


def embed_images(model: OnnxModel, images: Sequence[Image.Image]) -> Vectors:
    """Return the images' unit vectors, (n, dimensions)."""
    batches = [
        model.embed_images([model.prepare(image) for image in images[first : first + MAX_BATCH]])
        for first in range(0, len(images), MAX_BATCH)
    ]
    return unit(np.concatenate(batches))


def embed_texts(model: OnnxModel, texts: Sequence[str]) -> Vectors:
    """Return the texts' unit vectors, (n, dimensions)."""
    batches = [
        model.embed_texts(texts[first : first + TEXTS_BATCH])
        for first in range(0, len(texts), TEXTS_BATCH)
    ]
    return unit(np.concatenate(batches))
