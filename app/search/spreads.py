"""How widely similarities spread over an index: far less for texts than for images.

An image is more or less similar to each of the others, a text hardly more to one image than to the
next. In a sum of both, the image would decide alone.
"""

import asyncio
from dataclasses import dataclass

import numpy as np

from app.encoding.encoder import Vectors
from app.store.sizes import Sizes
from app.store.spaces import Space

# Images of the sample, and the fewest that say anything.
SAMPLE, FEWEST = 500, 20
# The sample is taken again when the index has grown, or shrunk, by as much.
GROWTH = 1.5
# Of things and places that photos show: what counts is only how differently images answer to each.
PHRASES = (
    "a dog", "a cat", "a person", "children", "a car", "a bicycle", "a boat", "an aeroplane",
    "a building", "a street", "a room", "a table with food", "a cup of coffee", "a flower",
    "trees in a forest", "mountains", "a beach", "a river", "snow", "the night sky", "a sunset",
    "a bird", "a horse", "fruit", "a map", "a drawing", "text on paper", "a machine", "clothes",
    "sports", "a crowd", "a road",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Measured:
    """The ratio, and of how many images."""

    images: int
    ratio: float


class Spreads:
    """Measures the spreads of a space's similarities, and again when the index has grown."""

    def __init__(self, space: Space, sizes: Sizes) -> None:
        self._space = space
        self._sizes = sizes
        self._measuring = asyncio.Lock()
        self._measured: _Measured | None = None

    async def ratio(self) -> float:
        """Return the spread of texts' similarities divided by that of images'.

        It is 1 for an encoder without texts, and for an index of hardly any images.
        """
        images = (await self._sizes.images()).number
        async with self._measuring:
            known = self._measured
            if known is None or not 1 / GROWTH < images / max(1, known.images) < GROWTH:
                known = self._measured = _Measured(images, await self._measure())
        return known.ratio

    async def _measure(self) -> float:
        encoder = self._space.encoder
        read = await encoder.read(PHRASES) if encoder.has_text else {}
        phrases = [phrase for phrase, reading in read.items() if not reading.is_empty]
        vectors = await self._space.vectors.sample(SAMPLE)
        if not phrases or len(vectors) < FEWEST:
            return 1.0
        # One by one: what a text is batched with may change its vector a little, and so the ratio.
        texts = [await encoder.embed_text(phrase) for phrase in phrases]
        return spread_ratio(np.array(texts), vectors)


def spread_ratio(texts: Vectors, images: Vectors) -> float:
    """Return the mean deviation of texts' similarities to images, divided by that of images'.

    The rows are unit vectors; an image's similarity to itself does not count.
    """
    among = images @ images.T
    others = among[~np.eye(len(images), dtype=bool)].reshape(len(images), -1)
    of_images = float(others.std(axis=1).mean())
    return float((texts @ images.T).std(axis=1).mean()) / of_images if of_images else 1.0
