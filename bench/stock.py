"""The stock recipe: LlamaIndex's ClipEmbedding and PGVectorStore, one image at a time, in torch.

The image tower is CLIP's ViT-B/32 at its true size with random weights (Radford et al., 2021, table
20), called as `ClipEmbedding` calls it: open, preprocess, encode a batch of one, add one node.
"""

from io import BytesIO
from time import perf_counter
from typing import Any

import httpx
import numpy as np
from llama_index.core.schema import ImageNode
from llama_index.vector_stores.postgres import PGVectorStore
from PIL import Image

from app.encoding.preprocessing import CLIP_MEAN, CLIP_STD
from bench.vit import HEADS, LAYERS, OUT, PATCH, TOKENS, WIDTH


def image_tower() -> Any:
    """Return the tower as a torch module."""
    import torch
    from torch import nn

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
            self.first = nn.Parameter(torch.zeros(1, 1, WIDTH))
            self.places = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.02)
            self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            layer = nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
            self.out = nn.Linear(WIDTH, OUT, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.places
            return self.out(self.after(self.blocks(self.before(x))[:, 0]))

    return Tower().eval()


def rate(urls: list[str], store: PGVectorStore) -> float:
    """Return images per second, from URL to row."""
    import torch

    tower = image_tower()
    with torch.no_grad(), httpx.Client(trust_env=False) as client:
        tower(torch.zeros(1, 3, 224, 224))
        start = perf_counter()
        for url in urls:
            image = Image.open(BytesIO(client.get(url).content)).convert("RGB")
            vector = tower(torch.from_numpy(_preprocessed(image))[None])[0]
            store.add([ImageNode(metadata={"url": url}, embedding=vector.tolist())])
        return len(urls) / (perf_counter() - start)


def _preprocessed(image: Image.Image) -> Any:
    scale = 224 / min(image.size)
    image = image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
    )
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return ((pixels - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1).astype(np.float32)
