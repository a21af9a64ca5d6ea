"""How near to the index a phrase comes by chance, so that a weak best match can be told.

The cosine of a phrase and an image that fits it differs by encoder and by index, and no number of
it means anything by itself. So phrases that nothing depicts, pairs of words that have nothing to do
with each other, are searched for, and what the middle one of them reaches is chance.
"""

import asyncio
from dataclasses import dataclass
from statistics import median
from time import monotonic

from app.encoding.encoder import Encoder
from app.problems import Problem
from app.store.vectors import VectorTable

PHRASES = (
    "accordion sparrow", "teapot tractor", "cactus violin", "igloo bicycle", "goldfish ladder",
    "lobster umbrella", "volcano sofa", "penguin keyboard", "cello banana", "submarine onion",
    "camel refrigerator", "trombone mushroom", "zebra envelope", "lighthouse sock", "spider piano",
    "helicopter cheese", "snail cathedral", "broccoli helmet", "koala scissors", "drum iceberg",
    "parrot tunnel", "hammer jellyfish", "pineapple train", "owl bathtub", "harp crocodile",
    "microscope pancake", "sheep telescope", "balloon desert anvil", "pumpkin elevator",
    "octopus chair", "candle giraffe", "lemon tank",
)  # fmt: skip
# Of fewer, the middle one says little.
FEWEST = 5
# How long a measurement is good for, as the index changes.
KEPT_S = 600.0


@dataclass(slots=True)
class _Measured:
    similarity: float | None
    until: float


class Chance:
    """Measures what phrases reach by chance; at most every ten minutes."""

    def __init__(self, *, encoder: Encoder, vectors: VectorTable) -> None:
        self._encoder = encoder
        self._vectors = vectors
        self._measuring = asyncio.Lock()
        self._known = _Measured(None, 0.0)

    async def similarity(self) -> float | None:
        """Return the cosine that the middle one of the phrases reaches.

        None if the encoder knows too few of the words, or the index has no image.
        """
        async with self._measuring:
            if monotonic() >= self._known.until:
                self._known = _Measured(await self._measured(), monotonic() + KEPT_S)
            return self._known.similarity

    async def _measured(self) -> float | None:
        if not self._encoder.has_text:
            return None
        readings = await self._encoder.read(PHRASES)
        known = [p for p, r in readings.items() if not r.unknown_words and not r.is_empty]
        try:
            vectors = await asyncio.gather(*(self._encoder.embed_text(p) for p in known))
            best = [await self._vectors.nearest(vector, limit=1) for vector in vectors]
        except Problem:
            return None
        reached = [found[0][1] for found in best if found]
        return median(reached) if len(reached) >= FEWEST else None
