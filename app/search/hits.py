"""Hits: what a found image has in common with the query, gathered and ranked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import numpy as np

from app.encoding.encoder import Vector, Vectors
from app.pictures.decoding import hamming
from app.store.catalog import ImageRow

Match = Literal["exact", "copy", "similar"]
Reason = Literal["picture", "text"]

# bench/matches.py measures what these two call a copy and what they should.
COPY_SIMILARITY = 0.90
COPY_DHASH_BITS = 10

# Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
# learning methods" (SIGIR 2009), section 2.
RRF_K = 60


@dataclass(frozen=True, slots=True)
class Hit:
    """An image of the index with its cosine similarity, -1 to 1, to the query.

    The similarity is None if the query has words only. `match` is `exact` for the same bytes,
    `copy` for the same picture, altered, and `similar` otherwise; it is None for a query that is
    not one picture. `matched` says whether the look or the words led here, or both. `places` are
    further images of the same bytes.
    """

    image: ImageRow
    similarity: float | None
    match: Match | None
    matched: Sequence[Reason] = ("picture",)
    places: list[ImageRow] = field(default_factory=list[ImageRow])

    def passes(self, lowest: float | None) -> bool:
        """Return whether it is similar enough; one that was found by words alone always is."""
        return lowest is None or self.similarity is None or self.similarity >= lowest

    @property
    def ids(self) -> list[UUID]:
        """The ids of the image and its further places."""
        return [self.image.id, *(place.id for place in self.places)]


def match_of(
    image: ImageRow,
    similarity: float,
    *,
    sha256: str | None,
    dhash: int | None,
    too_plain: bool = False,
) -> Match | None:
    """Return what an image is to a query picture of these hashes, which may be `too_plain`."""
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
    """Return the hits with those of the same bytes gathered in the first of them."""
    firsts: dict[str, Hit] = {}
    for hit in hits:
        first = firsts.setdefault(hit.image.sha256, hit)
        if first is not hit:
            first.places.append(hit.image)
    return list(firsts.values())


def reciprocal_rank_fusion(rankings: Sequence[Sequence[UUID]]) -> list[UUID]:
    """Return the ids of several rankings as one, best first: by the sum of 1 / (60 + rank)."""
    scores: dict[UUID, float] = {}
    for ranking in rankings:
        for rank, image_id in enumerate(ranking, 1):
            scores[image_id] = scores.get(image_id, 0) + 1 / (RRF_K + rank)
    return sorted(scores, key=lambda image_id: -scores[image_id])


def marginal_relevance(
    query: Vector, vectors: Vectors, *, limit: int, diversity: float
) -> list[int]:
    """Return the places of rows that are near a query and differ from each other, best first.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), where `diversity` is one minus
    their lambda. LlamaIndex's own compares each candidate with the last one chosen only, so that
    its results come back to what they began with.
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
