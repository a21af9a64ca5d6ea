"""Hits: the images that a query found, classified, grouped by file and ranked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import UUID

import numpy as np

from app.encoding.encoder import Vector, Vectors
from app.faces.face import Box
from app.search.verification import Alignment, Verified
from app.store.images import ImageRow

Match = Literal["exact", "copy", "scene", "similar"]
Reason = Literal["picture", "text"]

# Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
# learning methods" (SIGIR 2009), section 2.
RRF_K = 60


@dataclass(frozen=True, slots=True)
class FaceMatch:
    """The face of an image that is most similar to the one searched by, by their cosine."""

    order: int
    box: Box
    similarity: float


@dataclass(frozen=True, slots=True)
class Hit:
    """An image with its cosine similarity to the query, -1 to 1, or None for a query by words only.

    `copy_similarity` is that of the copy vectors, for a query by one whole image where images have
    two vectors.

    `match` is `exact` for the same bytes, `copy` for the same image, altered, `scene` for the same
    place or thing in another image, and `similar` otherwise; it is None unless the query is a
    single image. `alignment` says how the query lies on a copy or scene. `matched` says what found
    the image: its vector (`picture`), the words about it (`text`), or both. `places` are other
    images with the same bytes. `face` is what a search by a face found in it.
    """

    image: ImageRow
    similarity: float | None
    match: Match | None
    matched: Sequence[Reason] = ("picture",)
    places: list[ImageRow] = field(default_factory=list[ImageRow])
    alignment: Alignment | None = None
    copy_similarity: float | None = None
    face: FaceMatch | None = None

    def passes(self, lowest: float | None) -> bool:
        """Return whether the similarity is at least `lowest`; without one, it passes.

        So does what is proved to be the query image.
        """
        is_near = lowest is None or self.similarity is None or self.similarity >= lowest
        return is_near or is_proved(self.match)

    def matching(self, verified: Verified | None, *, sha256: str | None) -> "Hit":
        """Return the hit with its match to a query image, which has this SHA-256.

        Without one, it has no match.
        """
        if sha256 is None:
            return self
        if self.image.sha256 == sha256:
            return replace(self, match="exact")
        if verified is None:
            return replace(self, match="similar")
        return replace(self, match=verified.match, alignment=verified.alignment)

    @property
    def ids(self) -> list[UUID]:
        """The ids of the image and of its places."""
        return [self.image.id, *(place.id for place in self.places)]


def is_proved(match: Match | None) -> bool:
    """Return whether a match is the query image itself, whatever the similarity."""
    return match in ("exact", "copy")


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
