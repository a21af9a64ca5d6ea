"""LlamaIndex's ClipEmbedding as a model (`ENCODER=llamaindex:NAME`).

It is the reference for the ONNX models, and needs torch and OpenAI's `clip` package, which
Lookalike does not depend on.
"""

import hashlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from app.encoding.encoder import Reading, Vectors
from app.problems import UnusableEncoder

# The input size of most CLIP models; the others of the package are close to it.
CLIP_SIDE = 224


class ClipModel:
    """A CLIP model by its name in OpenAI's package, such as `ViT-B/32`.

    Raises `UnusableEncoder` if the package, torch or the model is missing.
    """

    precision = "fp32"
    has_text = True
    # torch is told nothing else.
    provider = "cpu"
    largest_batch = 16

    def __init__(self, name: str) -> None:
        # Imported here because LlamaIndex takes most of a second, and few use this model.
        from llama_index.embeddings.clip import ClipEmbedding

        self.name = f"llamaindex:{name}"
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()
        try:
            self._embedding = ClipEmbedding(model_name=name)
        except ImportError as exc:
            raise UnusableEncoder(
                f"ENCODER={self.name} needs torch and OpenAI's clip package, which are not "
                "installed: pip install torch git+https://github.com/openai/CLIP.git"
            ) from exc
        except ValueError as exc:
            reason = exc.__cause__ or exc
            raise UnusableEncoder(f"ENCODER={self.name} cannot be loaded: {reason}") from exc
        self.side = CLIP_SIDE
        self.dimensions = self.embed_images([self.prepare(Image.new("RGB", (64, 64)))]).shape[1]

    def prepare(self, image: Image.Image) -> BytesIO:
        """Return an image as a BMP file, since ClipEmbedding opens files."""
        file = BytesIO()
        image.save(file, "BMP")
        return file

    def embed_images(self, prepared: Sequence[BytesIO]) -> Vectors:
        """Embed images one by one, as ClipEmbedding does: (n, dimensions) float32."""
        embed = self._embedding.get_image_embedding
        return np.array([embed(file) for file in prepared], np.float32)

    def read(self, text: str) -> Reading:  # noqa: ARG002 - part of `Model`
        """Return that every text is read in full; ClipEmbedding raises for too long a text."""
        return Reading()

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: (n, dimensions) float32."""
        return np.array(self._embedding.get_text_embedding_batch(list(texts)), np.float32)
