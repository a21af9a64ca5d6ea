"""How widely similarities spread over an index: far less for texts than for images.

An image is more or less similar to each of the others, a text hardly more to one image than to the
next. In a sum of both, the image would decide alone.

Nor do marked images always help a text. What the text finds already tells it nothing new, and
brings its background along; what the text overlooks shows what the words did not say.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.encoding.encoder import Vector, Vectors, unit
from app.search.query import ROCCHIO_UNWANTED, Marked, rocchio
from app.store.sizes import Sizes
from app.store.spaces import Space

# Images of the sample, and the fewest that say anything.
SAMPLE, FEWEST = 500, 20
# The sample is taken again when the index has grown, or shrunk, by as much.
GROWTH = 1.5
# The weights of wanted images beside a text, when each counts by the spread of its similarities:
# where the text finds them no better than any image, and from so many deviations above the mean on.
# Measured (docs/design.md, decision 64).
OVERLOOKED, KNOWN, KNOWN_FROM = 0.4, 0.02, 3.0
# Of things and places that photos show: what counts is only how differently images answer to each.
PHRASES = (
    "a dog", "a cat", "a person", "children", "a car", "a bicycle", "a boat", "an aeroplane",
    "a building", "a street", "a room", "a table with food", "a cup of coffee", "a flower",
    "trees in a forest", "mountains", "a beach", "a river", "snow", "the night sky", "a sunset",
    "a bird", "a horse", "fruit", "a map", "a drawing", "text on paper", "a machine", "clothes",
    "sports", "a crowd", "a road",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of texts' similarities divided by that of images', for an index of so many images,
    and the vectors of some of them.
    """

    images: int
    ratio: float
    sample: Vectors

    def marked_beside_text(self, query: Vector, marked: Marked) -> Vector:
        """Return the query, which has texts, moved by the marked images; see `rocchio`."""
        wanted = wanted_beside_text(query, marked.like, self.sample) * self.ratio
        return rocchio(query, marked, wanted=wanted, unwanted=ROCCHIO_UNWANTED * self.ratio)


class Spreads:
    """Measures the spreads of a space's similarities, and again when the index has grown."""

    def __init__(self, space: Space, sizes: Sizes) -> None:
        self._space = space
        self._sizes = sizes
        self._measuring = asyncio.Lock()
        self._measured: Spread | None = None

    async def measured(self) -> Spread:
        """Return the spread, whose ratio is 1 for an encoder without texts, and for an index of
        hardly any images.
        """
        images = (await self._sizes.images()).number
        async with self._measuring:
            known = self._measured
            if known is None or not 1 / GROWTH < images / max(1, known.images) < GROWTH:
                known = self._measured = await self._measure(images)
        return known

    async def _measure(self, images: int) -> Spread:
        encoder = self._space.encoder
        read = await encoder.read(PHRASES) if encoder.has_text else {}
        phrases = [phrase for phrase, reading in read.items() if not reading.is_empty]
        vectors = await self._space.vectors.sample(SAMPLE)
        if not phrases or len(vectors) < FEWEST:
            return Spread(images, 1.0, vectors)
        # One by one: what a text is batched with may change its vector a little, and so the ratio.
        texts = [await encoder.embed_text(phrase) for phrase in phrases]
        return Spread(images, spread_ratio(np.array(texts), vectors), vectors)


def spread_ratio(texts: Vectors, images: Vectors) -> float:
    """Return the mean deviation of texts' similarities to images, divided by that of images'.

    The rows are unit vectors; an image's similarity to itself does not count.
    """
    among = images @ images.T
    others = among[~np.eye(len(images), dtype=bool)].reshape(len(images), -1)
    of_images = float(others.std(axis=1).mean())
    return float((texts @ images.T).std(axis=1).mean()) / of_images if of_images else 1.0


def wanted_beside_text(query: Vector, wanted: Sequence[Vector], sample: Vectors) -> float:
    """Return the weight of wanted images beside a query with texts, before the ratio.

    The better the query finds them already, among the index's images as the `sample` shows them,
    the less they weigh. The query and the sample are unit vectors; `wanted` may have weights.
    """
    if not wanted or len(sample) < FEWEST:
        return (OVERLOOKED + KNOWN) / 2
    similarities = sample @ query
    own = float(np.mean(unit(np.array(wanted)) @ query))
    above = (own - float(similarities.mean())) / max(float(similarities.std()), 1e-6)
    return float(np.interp(above, [0, KNOWN_FROM], [OVERLOOKED, KNOWN]))
