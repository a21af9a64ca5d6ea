"""Vectors for `bench.scale`, with the statistics of an encoder's: a mixture fitted on photos.

A made-up photo is one of the photos, moved towards some that are near it and away from others; its
versions differ as crops of one photo do. So a row has near neighbours, as in an index with copies,
and beside them photos that are as much alike as real ones. Drawn from the spread of all photos,
without their neighbourhoods, strangers are all equally far, and every index looks worse than it is.
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

MOST_PHOTOS, VERSIONS = 400, 6
# Of a batch of rows, in which each photo has this many versions.
PER_PHOTO = 5
# A photo is moved along the lines to so many of its nearest, by this share of them on average.
NEAREST, LINES, MOVED = 15, 4, 0.3


class Mixture:
    """Draws unit vectors; those of one `batch` are the same each time."""

    def __init__(self, photos: Any, within: Any) -> None:
        self._photos, self._within = photos, within
        self._near = np.argsort(-(photos @ photos.T), axis=1)[:, 1 : NEAREST + 1]

    @classmethod
    def fitted(cls, encoder: Encoder, photos: Sequence[Path], kept: Path) -> "Mixture":
        """Fit it on versions of photos in folders or tar files, or read it where it was kept."""
        if not kept.exists():
            every = _embedded(encoder, photos)
            means = every.mean(1)
            residuals = (every - means[:, None]).reshape(-1, every.shape[-1])
            np.savez(kept, photos=means, within=_root(residuals))
        found = np.load(kept)
        return cls(found["photos"], found["within"])

    def rows(self, batch: int, size: int) -> Any:
        """Return (size, dimensions) unit vectors, `PER_PHOTO` versions of each photo in a row."""
        photos = self._made(batch, size)
        return self._versions(np.repeat(photos, PER_PHOTO, 0), np.random.default_rng((1, batch)))

    def queries(self, batch: int, size: int, number: int) -> Any:
        """Return other versions of so many photos of a batch."""
        return self._versions(self._made(batch, size)[:number], np.random.default_rng((2, batch)))

    def _made(self, batch: int, size: int) -> Any:
        rng, number = np.random.default_rng((0, batch)), size // PER_PHOTO
        chosen = rng.integers(0, len(self._photos), number)
        made = self._photos[chosen].copy()
        for _ in range(LINES):
            others = self._near[chosen, rng.integers(0, self._near.shape[1], number)]
            moved = self._photos[others] - self._photos[chosen]
            made += rng.normal(size=(number, 1)) * MOVED * moved
        return made

    def _versions(self, photos: Any, rng: np.random.Generator) -> Any:
        made = photos + rng.normal(size=photos.shape) @ self._within
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def batches(rows: int, size: int, *, done: int) -> Iterator[int]:
    """Yield the numbers of the batches that are still to be made."""
    yield from range(done // size, rows // size)


def _embedded(encoder: Encoder, photos: Sequence[Path]) -> Any:
    """Return the vectors of the versions of each photo, (photos, versions, dimensions)."""
    rng = np.random.default_rng(0)
    vectors: list[Vectors] = []
    # Not the first ones, which may be of one kind.
    files = [data for _, data in photo_files(photos)]
    for data in files[:: max(1, len(files) // MOST_PHOTOS)][:MOST_PHOTOS]:
        image = Image.open(BytesIO(data)).convert("RGB")
        images = [image, *(_version(image, rng) for _ in range(VERSIONS - 1))]
        vectors.append(embed_images(encoder.model, images))  # pyright: ignore[reportArgumentType]
    return np.stack(vectors)


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
