"""Our encoder as a LlamaIndex embedding."""

import asyncio
from io import BytesIO
from pathlib import Path

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageType
from PIL import Image

from app.encoder import Encoder
from app.pictures import decode


class EncoderEmbedding(MultiModalEmbedding):
    """Our encoder as LlamaIndex's multi-modal embedding, for use in any LlamaIndex pipeline."""

    _encoder: Encoder = PrivateAttr()
    _max_pixels: int = PrivateAttr()

    def __init__(self, encoder: Encoder, *, max_pixels: int) -> None:
        super().__init__(model_name=encoder.model.name)
        self._encoder = encoder
        self._max_pixels = max_pixels

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises."""
        return "EncoderEmbedding"

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._encoder.submit_text(text).result().tolist()

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._encoder.embed_text(query)).tolist()

    def _get_image_embedding(self, img_file_path: ImageType) -> Embedding:
        return self._encoder.submit_image(self._open(img_file_path)).result().tolist()

    async def _aget_image_embedding(self, img_file_path: ImageType) -> Embedding:
        image = await asyncio.to_thread(self._open, img_file_path)
        return (await self._encoder.embed_image(image)).tolist()

    def _open(self, source: ImageType) -> Image.Image:
        data = source.getvalue() if isinstance(source, BytesIO) else Path(source).read_bytes()
        return decode(data, max_pixels=self._max_pixels).image
