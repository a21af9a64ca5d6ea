"""Search: a page of the images nearest to a query, or that have its words."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import get_args
from uuid import UUID

import numpy as np

from app.encoding.encoder import Encoder, Vector
from app.pictures.decoding import Facts
from app.problems import FetchTimedOut, TooBusy
from app.search.asked import Asked
from app.search.hits import (
    Hit,
    Reason,
    marginal_relevance,
    match_of,
    one_per_file,
    reciprocal_rank_fusion,
)
from app.search.query import Kind, Query, check_sizes
from app.search.resolver import Clock, Resolver, Timings
from app.store.catalog import Catalog
from app.store.fingerprints import Fingerprint, Fingerprints
from app.store.vectors import ROUNDING, VectorTable

# Concurrent searches; further ones are refused.
MOST_SEARCHES = 64
# Of them, those that fetch URLs: hosts may be slow, and other searches need places, too.
MOST_FETCHING = 32
# The share of a search's time that its URLs may take.
FETCHING_SHARE = 0.8
# The most rows that one search considers: the maximum of pgvector's hnsw.ef_search.
MOST_NEAREST = 1000
# For a query with words, this many of the nearest and of the best text matches are merged.
MOST_FUSED = 300
# Concurrent searches for a next page, which compare all rows, and how many of them run at once.
MOST_PAGES, PAGES_AT_ONCE = 16, 4
# The files of a first page of this many, which fit in a cursor, are named in it.
MOST_NAMED = 250
# Varied results are chosen from this many candidates per result.
DIVERSITY_CANDIDATES = 4
NEXT_PAGE = "next page"
TOO_LONG = "This query is too long for a next page."


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
    picture: Facts | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    """The hits of a page, those below the threshold apart, and the query of the next page."""

    hits: list[Hit]
    below: list[Hit] = field(default_factory=list[Hit])
    following: Asked | None = None


_Ranking = Sequence[tuple[Fingerprint, Sequence[Reason]]]
"""Images with what found them, best first."""


class Searcher:
    """Answers up to 64 concurrent searches, of which 32 may fetch URLs.

    Those that come when all places are taken raise `TooBusy` at once, and so do those that take
    longer than `timeout_s` in all (or `FetchTimedOut`, if they are still fetching). `searches`
    counts those that were asked for, by kind.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        fingerprints: Fingerprints,
        vectors: VectorTable,
        encoder: Encoder,
        resolver: Resolver,
        timeout_s: float,
    ) -> None:
        self._catalog = catalog
        self._fingerprints = fingerprints
        self._vectors = vectors
        self._encoder = encoder
        self._resolver = resolver
        self._paging = _Places(MOST_PAGES)
        self._turns = asyncio.Semaphore(PAGES_AT_ONCE)
        self.timeout_s = timeout_s
        self._places = _Places(MOST_SEARCHES)
        self._fetching = _Places(MOST_FETCHING)
        self.searches: Counter[str] = Counter(dict.fromkeys([*get_args(Kind), NEXT_PAGE], 0))

    async def search(self, query: Query) -> Results:
        """Return the first page of results; raises `TooBusy` and what `Resolver` raises."""
        self.searches[query.kind] += 1
        check_sizes(query.terms)
        deadline = self._deadline()
        with self._places.taken():
            # Each wait has one limit, so that it is clear which of two was reached.
            if query.urls:
                query = await self._fetch(query)
            async with self._until(deadline):
                clock = Clock()
                asked, picture = await self._resolver.resolve(query, clock)
                return replace(await self._answer(asked, query.limit, clock), picture=picture)

    async def next_page(self, cursor: str, *, limit: int) -> Results:
        """Return the page after the one that gave this cursor; raises `InvalidRequest`."""
        self.searches[NEXT_PAGE] += 1
        with self._places.taken():
            async with self._until(self._deadline()), self._page_place():
                clock = Clock()
                asked = Asked.read(cursor, dimensions=self._encoder.dimensions)
                return await self._answer(asked, limit, clock)

    async def _fetch(self, query: Query) -> Query:
        limit_s = self.timeout_s * FETCHING_SHARE
        try:
            with self._fetching.taken():
                async with asyncio.timeout(limit_s):
                    return await self._resolver.fetch(query)
        except TimeoutError as exc:
            raise FetchTimedOut(f"The URLs took longer than {limit_s:g} s together.") from exc

    async def _answer(self, asked: Asked, limit: int, clock: Clock) -> Results:
        page = await self._page(asked, limit)
        clock.lap("search")
        cursor = page.following.cursor() if page.following else None
        notes = asked.notes
        if page.following and cursor is None:
            notes = [*notes, TOO_LONG]
        return Results(
            page.hits,
            page.below,
            clock.timings(),
            asked.min_similarity,
            cursor,
            notes,
            asked.unknown_words,
        )

    async def _page(self, asked: Asked, limit: int) -> _Page:
        vector = asked.query_vector
        # A next page is of the same kind as the first, whatever has been added since.
        if asked.left:
            return await self._merged(asked, vector, await self._left(asked), limit)
        worded: list[UUID] = []
        if asked.words and asked.beyond is None:
            worded = await self._vectors.worded(
                asked.words, limit=MOST_FUSED, filters=asked.filters
            )
        if vector is None or worded:
            return await self._fused(asked, vector, worded, limit)
        if asked.diversity:
            return _split(asked, await self._diverse(asked, vector, limit), None)
        return await self._nearest(asked, vector, limit)

    async def _nearest(self, asked: Asked, vector: Vector, limit: int) -> _Page:
        """Return a page of the nearest images."""
        # Enough to make up for excluded images; and four times as many again, up to a limit, if too
        # few remain because files with the same bytes make one hit.
        wanted = limit + len(asked.left_out) + 1
        while True:
            found = await self._vectors.nearest(
                vector, limit=wanted, filters=asked.filters, beyond=asked.beyond
            )
            hits = await self._new(asked, vector, one_per_file(await self._hits(asked, found)))
            if len(hits) > limit or len(found) < wanted or wanted >= MOST_NEAREST:
                break
            wanted = min(4 * wanted, MOST_NEAREST)
        page = hits[:limit]
        at_the_end = len(hits) <= limit and len(found) < wanted
        return _split(asked, page, None if at_the_end or not page else _after(asked, page))

    async def _new(self, asked: Asked, vector: Vector, hits: list[Hit]) -> list[Hit]:
        """Return hits without those whose file an earlier page had.

        Images of one file may have different vectors, if they were embedded at different times.
        """
        if asked.beyond is None or not hits:
            return hits
        shown = await self._vectors.given_before(
            vector,
            [hit.image.sha256 for hit in hits],
            filters=asked.filters,
            beyond=asked.beyond,
            left_out=asked.left_out,
        )
        return [hit for hit in hits if hit.image.sha256 not in shown]

    async def _fused(
        self, asked: Asked, vector: Vector | None, worded: list[UUID], limit: int
    ) -> _Page:
        """Return the first page of images that are near or have the words."""
        near: list[tuple[UUID, float]] = []
        if vector is not None:
            near = await self._vectors.nearest(vector, limit=MOST_FUSED, filters=asked.filters)
        order = reciprocal_rank_fusion([[i for i, _ in near], worded])
        images = await self._fingerprints.find(order)
        near_ids, worded_ids = {i for i, _ in near}, set(worded)
        ranking = [
            (images[i], _reasons(near=i in near_ids, worded=i in worded_ids))
            for i in order
            if i in images and i not in asked.left_out
        ]
        lowest = asked.min_similarity
        if vector is None or lowest is None:
            return await self._merged(asked, vector, ranking, limit)
        similarities = dict(near) | await self._vectors.similarities(
            vector, [i for i in worded if i not in near_ids]
        )
        files = {image.sha256 for image, _ in ranking if similarities.get(image.id, 1.0) >= lowest}
        passing = [pair for pair in ranking if pair[0].sha256 in files]
        page = await self._merged(asked, vector, passing, limit)
        if page.following:
            return page
        others = [pair for pair in ranking if pair[0].sha256 not in files]
        rest = await self._merged(asked, vector, others, limit - len(page.hits))
        return replace(page, below=rest.hits)

    async def _left(self, asked: Asked) -> _Ranking:
        """Return what is left of the first page's ranking, without images deleted since."""
        ranking = asked.ranking
        images = await self._fingerprints.find_brief(list(ranking))
        return [(images[i], reasons) for i, reasons in ranking.items() if i in images]

    async def _merged(
        self, asked: Asked, vector: Vector | None, ranking: _Ranking, limit: int
    ) -> _Page:
        """Return the first of ranked images, one hit per file; the next page has the others."""
        files: dict[str, list[tuple[UUID, Sequence[Reason]]]] = {}
        for image, reasons in ranking:
            files.setdefault(image.sha256, []).append((image.id, reasons))
        each = list(files.values())
        shown = [pair for pairs in each[:limit] for pair in pairs]
        left = [pair for pairs in each[limit:] for pair in pairs]
        ids = [image_id for image_id, _ in shown]
        images = await self._catalog.find_all(ids)
        similarities: dict[UUID, float] = {}
        if vector is not None:
            similarities = await self._vectors.similarities(vector, ids)
        hits = [
            Hit(images[i], similarities.get(i), None, reasons)
            for i, reasons in shown
            if i in images
        ]
        return _Page(one_per_file(hits), following=asked.leaving(left) if left else None)

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

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.timeout_s

    @asynccontextmanager
    async def _until(self, deadline: float) -> AsyncGenerator[None]:
        """Raise `TooBusy` at the given time of the event loop."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as exc:
            raise TooBusy(f"The search took longer than {self.timeout_s:g} s.") from exc

    @asynccontextmanager
    async def _page_place(self) -> AsyncGenerator[None]:
        """Take a place for a next page, and wait for its turn."""
        with self._paging.taken():
            async with self._turns:
                yield


class _Places:
    """A number of places; who finds all of them taken gets `TooBusy` at once."""

    def __init__(self, number: int) -> None:
        self._free = number

    @contextmanager
    def taken(self) -> Generator[None]:
        if not self._free:
            raise TooBusy
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def _reasons(*, near: bool, worded: bool) -> Sequence[Reason]:
    pairs: list[tuple[bool, Reason]] = [(near, "picture"), (worded, "text")]
    return [reason for found, reason in pairs if found]


def _split(asked: Asked, hits: Sequence[Hit], following: Asked | None) -> _Page:
    """Return a page of the nearest images; there is no next one after those below the threshold."""
    lowest = asked.min_similarity
    passing = [hit for hit in hits if hit.passes(lowest)]
    below = [hit for hit in hits if not hit.passes(lowest)]
    return _Page(passing, below, None if below else following)


def _after(asked: Asked, page: Sequence[Hit]) -> Asked:
    """Return the query positioned after a page of hits."""
    lowest = page[-1].similarity or 0.0
    if asked.beyond is None and len(page) <= MOST_NAMED:
        return asked.without(lowest, [hit.image.sha256 for hit in page])
    near = [hit for hit in page if (hit.similarity or 0.0) <= lowest + 2 * ROUNDING]
    return asked.behind(lowest, [hit.image.sha256 for hit in near])
