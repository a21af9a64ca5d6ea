"""Hits: the images that a query found, classified, grouped by file and ranked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import numpy as np

from app.encoding.encoder import Vector, Vectors
from app.pictures.decoding import hamming
from app.store.images import ImageRow

Match = Literal["exact", "copy", "scene", "similar"]
Reason = Literal["picture", "text"]

# bench/matches.py measures how well these two tell copies from other images.
COPY_SIMILARITY = 0.90
COPY_DHASH_BITS = 10

# Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
# learning methods" (SIGIR 2009), section 2.
RRF_K = 60


@dataclass(frozen=True, slots=True)
class Hit:
    """An image with its cosine similarity to the query, -1 to 1, or None for a query by words only.

    `match` is `exact` for the same bytes, `copy` for the same image, altered, and `similar`
    otherwise; it is None unless the query is a single image. `matched` says what found the image:
    its vector (`picture`), the words about it (`text`), or both. `places` are other images with the
    same bytes.
    """

    image: ImageRow
    similarity: float | None
    match: Match | None
    matched: Sequence[Reason] = ("picture",)
    places: list[ImageRow] = field(default_factory=list[ImageRow])

    def passes(self, lowest: float | None) -> bool:
        """Return whether the similarity is at least `lowest`; without a similarity, it passes."""
        return lowest is None or self.similarity is None or self.similarity >= lowest

    @property
    def ids(self) -> list[UUID]:
        """The ids of the image and of its places."""
        return [self.image.id, *(place.id for place in self.places)]


def match_of(
    image: ImageRow,
    similarity: float,
    *,
    sha256: str | None,
    dhash: int | None,
    too_plain: bool = False,
) -> Match | None:
    """Classify an image by the hashes of the query image; None if there is no query image.

    A query image that is `too_plain` has no copies.
    """
    if sha256 is None or dhash is None:
        return None
    if image.sha256 == sha256:
        return "exact"
    # Of one that is too plain to be told from others, everything like it would be a copy.
    if image.too_plain or too_plain:
        return "similar"
    copy = similarity >= COPY_SIMILARITY and hamming(image.dhash, dhash) <= COPY_DHASH_BITS
    return "copy" if copy else "similar"


def one_per_file(hits: Iterable[Hit]) -> list[Hit]:
    """Return one hit per file, in order; the others with its bytes become its `places`."""
    firsts: dict[str, Hit] = {}
    for hit in hits:
        first = firsts.setdefault(hit.image.sha256, hit)
        if first is not hit:
            first.places.append(hit.image)
    return list(firsts.values())


def reciprocal_rank_fusion(rankings: Sequence[Sequence[UUID]]) -> list[UUID]:
    """Merge rankings of ids into one, best first, by the sum of 1 / (60 + rank)."""
    weights: dict[UUID, float] = {}
    for ranking in rankings:
        for rank, image_id in enumerate(ranking, 1):
            weights[image_id] = weights.get(image_id, 0) + 1 / (RRF_K + rank)
    return sorted(weights, key=lambda image_id: -weights[image_id])


def marginal_relevance(
    query: Vector, vectors: Vectors, *, limit: int, diversity: float
) -> list[int]:
    """Return the indices of up to `limit` rows, near the query but unlike each other, best first.

    `query` is (d,) and `vectors` (n, d), of unit length. Maximal marginal relevance (Carbonell and
    Goldstein, SIGIR 1998) with `diversity` = 1 - lambda. LlamaIndex's implementation compares a
    candidate with the last choice only, and so returns to what it chose first.
    """
    relevance = (1 - diversity) * (vectors @ query)
    overlap = np.full(len(vectors), -1.0)
    chosen: list[int] = []
    for _ in range(min(limit, len(vectors))):
        gain = relevance - diversity * overlap
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen.append(best)
        overlap = np.maximum(overlap, vectors @ vectors[best])
    return chosen
