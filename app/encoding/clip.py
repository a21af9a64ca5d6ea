"""LlamaIndex's own ClipEmbedding as a model (`ENCODER=llamaindex:NAME`).

It needs OpenAI's `clip` package and torch, which Lookalike does not depend on: this is the
reference that the ONNX models are compared with.
"""

import hashlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from app.encoding.encoder import Reading, Vectors
from app.problems import UnusableEncoder

# What every CLIP that the reference package knows is near to.
CLIP_SIDE = 224


class ClipModel:
    """A CLIP by its name in OpenAI's package, such as `ViT-B/32`.

    Raises `UnusableEncoder` when the package, torch or the model is missing.
    """

    precision = "fp32"
    has_text = True

    def __init__(self, name: str) -> None:
        # Imported here because LlamaIndex alone takes most of a second, and few choose this model.
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
        """Return the picture as the file that ClipEmbedding wants to open."""
        file = BytesIO()
        image.save(file, "BMP")
        return file

    def embed_images(self, prepared: Sequence[BytesIO]) -> Vectors:
        """Embed pictures one at a time, as ClipEmbedding does: (n, dimensions)."""
        embed = self._embedding.get_image_embedding
        return np.array([embed(file) for file in prepared], np.float32)

    def read(self, text: str) -> Reading:  # noqa: ARG002 - what Model asks
        """Return that all of a text counts: ClipEmbedding refuses what is too long."""
        return Reading()

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: (n, dimensions)."""
        return np.array(self._embedding.get_text_embedding_batch(list(texts)), np.float32)
