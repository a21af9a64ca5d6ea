"""A search: the images nearest to a query, or that have its words, and the next page of them."""

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

# Searches that may wait for the encoder and the database before the next one is turned away.
MOST_SEARCHES = 64
# The most rows that one search looks at: pgvector's largest hnsw.ef_search.
MOST_NEAREST = 1000
# Of a query with words, the nearest and the best worded that are ranked together.
MOST_FUSED = 300
# Cosines that differ by less may be of one vector.
ROUNDING = 1e-7
# Diverse results are chosen among so many times as many.
DIVERSE_AMONG = 4


@dataclass(frozen=True, slots=True)
class Results:
    """The hits above the threshold, best first, and the nearest of those below it.

    `picture` is the query's, if a file, URL or upload was decoded for it. `cursor` asks for the
    next page. `notes` say what the reader of the results should know; `unknown_words` are those of
    the query that the encoder has never seen.
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
    """Answers searches, a bounded number at once; raises `TooBusy` beyond it."""

    def __init__(
        self, *, catalog: Catalog, vectors: VectorTable, encoder: Encoder, resolver: Resolver
    ) -> None:
        self._catalog = catalog
        self._vectors = vectors
        self._encoder = encoder
        self._resolver = resolver
        self._running = 0

    async def search(self, query: Query) -> Results:
        """Find the images that a query asks for; raises what `Resolver` raises."""
        # Before it takes a place: others' servers may be slow.
        query = await self._resolver.fetch(query)
        async with self._place():
            clock = Clock()
            asked, picture = await self._resolver.resolve(query, clock)
            return replace(await self._answer(asked, query.limit, clock), picture=picture)

    async def next_page(self, cursor: str, *, limit: int) -> Results:
        """Go on where an answer with this cursor ended; raises `InvalidRequest`."""
        async with self._place():
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
        """Return the nearest images, and how to go on behind them."""
        beyond = asked.beyond
        # More than asked for, in place of those that are left out; and more again if so many of
        # them are the same bytes that too few different ones are left.
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
        return page, None if at_the_end or not page else _behind(asked, page)

    async def _fused(
        self, asked: Asked, vector: Vector | None, worded: list[UUID], limit: int
    ) -> tuple[list[Hit], Asked | None]:
        """Return the images that are near, or have the words, or best of all both."""
        near: list[tuple[UUID, float]] = []
        if vector is not None:
            near = await self._vectors.nearest(vector, limit=MOST_FUSED, filters=asked.filters)
        similarities: dict[UUID, float | None] = dict(near)
        if vector is not None:
            vectors = await self._vectors.fetch([i for i in worded if i not in similarities])
            similarities |= {i: float(np.dot(v, vector)) for i, v in vectors.items()}
        order = reciprocal_rank_fusion([[i for i, _ in near], worded])
        images = await self._catalog.find_all(order)
        seen, said = {i for i, _ in near}, set(worded)
        hits = [
            Hit(images[i], similarities.get(i), None, _reasons(near=i in seen, worded=i in said))
            for i in order
            # What was indexed since the first page would move the others about.
            if i in images and i not in asked.left_out and images[i].indexed_at <= asked.before
        ]
        hits = one_per_file(hits)
        end = asked.offset + limit
        following = asked.model_copy(update={"offset": end}) if len(hits) > end else None
        return hits[asked.offset : end], following

    async def _diverse(self, asked: Asked, vector: Vector, limit: int) -> list[Hit]:
        """Return near images that differ from each other."""
        among = min(DIVERSE_AMONG * limit + len(asked.left_out), MOST_NEAREST)
        found = await self._vectors.nearest(vector, limit=among, filters=asked.filters)
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
        return [near[ids[place]] for place in chosen]

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
    async def _place(self) -> AsyncGenerator[None]:
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


def _behind(asked: Asked, page: Sequence[Hit]) -> Asked:
    """Return the query with its position behind a page of hits."""
    lowest = page[-1].similarity or 0.0
    distance = 1 - lowest - ROUNDING
    ids = [i for hit in page if (hit.similarity or 0.0) <= lowest + 2 * ROUNDING for i in hit.ids]
    # Pages of nothing but one distance follow each other.
    before = asked.shown if asked.distance == distance else ()
    return asked.model_copy(update={"distance": distance, "shown": [*before, *ids]})
