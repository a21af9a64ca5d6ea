"""Vectors for `bench.scale`, with the statistics of an encoder's: a mixture fitted on photos.

Photos are drawn from the spread of the photos' vectors, and versions of one from the spread of the
vectors of crops of one photo, so that a row has near neighbours as in an index with copies.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.encoding.encoder import Encoder, Vectors
from training.data.photos import photo_files
from training.measuring.embedding import embed_images

VERSIONS = 6
# Of a batch of rows, in which each photo has this many versions.
PER_PHOTO = 5


class Mixture:
    """Draws unit vectors; those of one `batch` are the same each time."""

    def __init__(self, mean: Any, between: Any, within: Any) -> None:
        self._mean, self._between, self._within = mean, between, within

    @classmethod
    def fitted(cls, encoder: Encoder, photos: Sequence[Path], most: int) -> "Mixture":
        """Fit it on versions of at most so many photos, in folders or tar files."""
        rng = np.random.default_rng(0)
        vectors: list[Vectors] = []
        for _, data in photo_files(photos):
            image = Image.open(BytesIO(data)).convert("RGB")
            images = [image, *(_version(image, rng) for _ in range(VERSIONS - 1))]
            vectors.append(embed_images(encoder.model, images))  # pyright: ignore[reportArgumentType]
            if len(vectors) == most:
                break
        every = np.stack(vectors)
        means = every.mean(1)
        return cls(
            means.mean(0),
            _root(means),
            _root((every - means[:, None]).reshape(-1, every.shape[-1])),
        )

    def rows(self, batch: int, size: int) -> Any:
        """Return (size, dimensions) unit vectors, `PER_PHOTO` versions of each photo in a row."""
        photos = self._photos(batch, size)
        return self._versions(np.repeat(photos, PER_PHOTO, 0), np.random.default_rng((1, batch)))

    def queries(self, batch: int, size: int, number: int) -> Any:
        """Return other versions of so many photos of a batch."""
        photos = self._photos(batch, size)[:number]
        return self._versions(photos, np.random.default_rng((2, batch)))

    def _photos(self, batch: int, size: int) -> Any:
        rng = np.random.default_rng((0, batch))
        return self._mean + rng.normal(size=(size // PER_PHOTO, len(self._mean))) @ self._between

    def _versions(self, photos: Any, rng: np.random.Generator) -> Any:
        made = photos + rng.normal(size=photos.shape) @ self._within
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def batches(rows: int, size: int, *, done: int) -> Iterator[int]:
    """Yield the numbers of the batches that are still to be made."""
    yield from range(done // size, rows // size)


def _root(vectors: Any) -> Any:
    """Return a square root of the vectors' covariance."""
    values, directions = np.linalg.eigh(np.cov(vectors.T))
    return (np.sqrt(np.maximum(values, 0)) * directions) @ directions.T


def _version(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = rng.uniform(0.5, 1) ** 0.5
    width, height = int(image.width * side), int(image.height * side)
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    made = image.crop((left, top, left + width, top + height))
    return made.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.3 else made
