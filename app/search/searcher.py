"""Search: a page of the images nearest to a query, or that have its words."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from app.encoding.encoder import Encoder, Vector
from app.pictures.decoding import Picture
from app.problems import TooBusy
from app.search.asked import Asked
from app.search.hits import (
    Hit,
    Reason,
    marginal_relevance,
    match_of,
    one_per_file,
    reciprocal_rank_fusion,
)
from app.search.query import Query
from app.search.resolver import Clock, Resolver, Timings
from app.store.catalog import Catalog
from app.store.vectors import VectorTable

# Concurrent searches; further ones are refused.
MOST_SEARCHES = 64
# The most rows that one search considers: the maximum of pgvector's hnsw.ef_search.
MOST_NEAREST = 1000
# For a query with words, this many of the nearest and of the best text matches are merged.
MOST_FUSED = 300
# Cosines closer than this may come from the same vector.
ROUNDING = 1e-7
# Varied results are chosen from this many candidates per result.
DIVERSITY_CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Results:
    """A page of hits, best first, split into those at or above the threshold and those `below` it.

    `cursor` is that of the next page, None on the last. `notes` are sentences on how the query was
    read; `unknown_words` are the words of the query that the encoder does not know. `picture` is
    the query image, if one was decoded.
    """

    hits: list[Hit]
    below: list[Hit]
    took_ms: Timings
    min_similarity: float | None
    cursor: str | None = None
    notes: Sequence[str] = ()
    unknown_words: Sequence[str] = ()
    picture: Picture | None = None


class Searcher:
    """Answers up to 64 concurrent searches; raises `TooBusy` beyond that."""

    def __init__(
        self, *, catalog: Catalog, vectors: VectorTable, encoder: Encoder, resolver: Resolver
    ) -> None:
        self._catalog = catalog
        self._vectors = vectors
        self._encoder = encoder
        self._resolver = resolver
        self._running = 0

    async def search(self, query: Query) -> Results:
        """Return the first page of results; raises `TooBusy` and what `Resolver` raises."""
        # Not inside a slot: hosts may be slow.
        query = await self._resolver.fetch(query)
        async with self._slot():
            clock = Clock()
            asked, picture = await self._resolver.resolve(query, clock)
            return replace(await self._answer(asked, query.limit, clock), picture=picture)

    async def next_page(self, cursor: str, *, limit: int) -> Results:
        """Return the page after the one that gave this cursor; raises `InvalidRequest`."""
        async with self._slot():
            clock = Clock()
            asked = Asked.read(cursor, dimensions=self._encoder.dimensions)
            return await self._answer(asked, limit, clock)

    async def _answer(self, asked: Asked, limit: int, clock: Clock) -> Results:
        vector = asked.query_vector
        worded: list[UUID] = []
        if asked.words:
            worded = await self._vectors.worded(
                asked.words, limit=MOST_FUSED, filters=asked.filters
            )
        if vector is None or worded:
            hits, following = await self._fused(asked, vector, worded, limit)
        elif asked.diversity:
            hits, following = await self._diverse(asked, vector, limit), None
        else:
            hits, following = await self._nearest(asked, vector, limit)
        clock.lap("search")
        lowest = asked.min_similarity
        passing = [hit for hit in hits if hit.passes(lowest)]
        below = [hit for hit in hits if not hit.passes(lowest)]
        cursor = following.cursor() if following and not below else None
        return Results(
            passing, below, clock.timings(), lowest, cursor, asked.notes, asked.unknown_words
        )

    async def _nearest(
        self, asked: Asked, vector: Vector, limit: int
    ) -> tuple[list[Hit], Asked | None]:
        """Return a page of the nearest images, and the query of the next page."""
        beyond = asked.beyond
        # Enough to make up for excluded images; and four times as many again, up to a limit, if too
        # few remain because files with the same bytes make one hit.
        wanted = limit + len(asked.left_out) + 1
        while True:
            found = await self._vectors.nearest(
                vector, limit=wanted, filters=asked.filters, beyond=beyond
            )
            hits = one_per_file(await self._hits(asked, found))
            if len(hits) > limit or len(found) < wanted or wanted >= MOST_NEAREST:
                break
            wanted = min(4 * wanted, MOST_NEAREST)
        page = hits[:limit]
        at_the_end = len(hits) <= limit and len(found) < wanted
        return page, None if at_the_end or not page else _after(asked, page)

    async def _fused(
        self, asked: Asked, vector: Vector | None, worded: list[UUID], limit: int
    ) -> tuple[list[Hit], Asked | None]:
        """Return a page of images that are near or have the words, and the next page's query."""
        near: list[tuple[UUID, float]] = []
        if vector is not None:
            near = await self._vectors.nearest(vector, limit=MOST_FUSED, filters=asked.filters)
        similarities: dict[UUID, float | None] = dict(near)
        if vector is not None:
            vectors = await self._vectors.fetch([i for i in worded if i not in similarities])
            similarities |= {i: float(np.dot(v, vector)) for i, v in vectors.items()}
        order = reciprocal_rank_fusion([[i for i, _ in near], worded])
        images = await self._catalog.find_all(order)
        near_ids, worded_ids = {i for i, _ in near}, set(worded)
        hits = [
            Hit(
                images[i],
                similarities.get(i),
                None,
                _reasons(near=i in near_ids, worded=i in worded_ids),
            )
            for i in order
            # Images indexed since the first page would shift the pages.
            if i in images and i not in asked.left_out and images[i].indexed_at <= asked.before
        ]
        hits = one_per_file(hits)
        end = asked.offset + limit
        following = asked.model_copy(update={"offset": end}) if len(hits) > end else None
        return hits[asked.offset : end], following

    async def _diverse(self, asked: Asked, vector: Vector, limit: int) -> list[Hit]:
        """Return near images that differ from each other, best first."""
        candidates = min(DIVERSITY_CANDIDATES * limit + len(asked.left_out), MOST_NEAREST)
        found = await self._vectors.nearest(vector, limit=candidates, filters=asked.filters)
        hits = one_per_file(await self._hits(asked, found))
        near = {hit.image.id: hit for hit in hits if hit.passes(asked.min_similarity)}
        vectors = await self._vectors.fetch(list(near))
        chosen = marginal_relevance(
            vector,
            np.array(list(vectors.values())).reshape(-1, len(vector)),
            limit=limit,
            diversity=asked.diversity,
        )
        ids = list(vectors)
        return [near[ids[index]] for index in chosen]

    async def _hits(self, asked: Asked, found: Sequence[tuple[UUID, float]]) -> list[Hit]:
        kept = [pair for pair in found if pair[0] not in asked.left_out]
        images = await self._catalog.find_all([image_id for image_id, _ in kept])
        return [
            Hit(
                images[i],
                similarity,
                match_of(
                    images[i],
                    similarity,
                    sha256=asked.sha256,
                    dhash=asked.dhash,
                    too_plain=asked.too_plain,
                ),
            )
            for i, similarity in kept
            if i in images
        ]

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None]:
        if self._running >= MOST_SEARCHES:
            raise TooBusy
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


def _reasons(*, near: bool, worded: bool) -> list[Reason]:
    reasons: list[Reason] = []
    if near:
        reasons.append("picture")
    if worded:
        reasons.append("text")
    return reasons


def _after(asked: Asked, page: Sequence[Hit]) -> Asked:
    """Return the query positioned after a page of hits."""
    lowest = page[-1].similarity or 0.0
    distance = 1 - lowest - ROUNDING
    ids = [i for hit in page if (hit.similarity or 0.0) <= lowest + 2 * ROUNDING for i in hit.ids]
    # Several pages in a row may lie at one distance.
    before = asked.shown if asked.distance == distance else ()
    return asked.model_copy(update={"distance": distance, "shown": [*before, *ids]})
