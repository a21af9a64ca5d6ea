"""A search: the query's vector, the nearest images, and what each match means."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, TypedDict
from uuid import UUID

from app.catalog import Catalog, Image
from app.encoder import Encoder, Vector
from app.pictures import Decoder, Picture, hamming
from app.problems import NotFound, TooBusy
from app.store import ImageVectorStore

Match = Literal["exact", "copy", "similar"]

# bench/matches.py measures what these two call a copy and what they should.
COPY_SIMILARITY = 0.90
COPY_DHASH_BITS = 10

# Searches that may wait for the encoder and the database before the next one is turned away.
MOST_SEARCHES = 64
# The most rows that one search looks at: pgvector's largest hnsw.ef_search.
MOST_NEAREST = 1000


@dataclass(frozen=True, slots=True)
class Hit:
    """An image of the index with its cosine similarity, -1 to 1, to the query.

    `match` is `exact` for the same bytes, `copy` for the same picture, altered, and `similar`
    otherwise; it is None for a query that is not a picture. `places` are further images of the same
    bytes.
    """

    image: Image
    similarity: float
    match: Match | None
    places: list[Image] = field(default_factory=list[Image])


class Timings(TypedDict):
    """Milliseconds that each stage took."""

    decode: float
    embed: float
    search: float
    total: float


@dataclass(frozen=True, slots=True)
class Results:
    """The hits above the threshold, best first, and the nearest of those below it.

    `picture` is the query's, if it was a picture file.
    """

    hits: list[Hit]
    below: list[Hit]
    took_ms: Timings
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class _Query:
    vector: Vector
    sha256: str | None = None
    dhash: int | None = None
    picture: Picture | None = None


class Searcher:
    """Answers searches, a bounded number at once; raises `TooBusy` beyond it."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ImageVectorStore,
        encoder: Encoder,
        decoder: Decoder,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._encoder = encoder
        self._decoder = decoder
        self._running = 0

    async def by_picture(self, data: bytes, *, limit: int, min_similarity: float) -> Results:
        """Find the images nearest to a picture file."""
        async with self._place():
            clock = _Clock()
            picture = await self._decoder.decode(data)
            clock.lap("decode")
            vector = await self._encoder.embed_image(picture.image)
            clock.lap("embed")
            query = _Query(vector, picture.sha256, picture.dhash, picture)
            return await self._nearest(query, clock, limit=limit, min_similarity=min_similarity)

    async def by_text(
        self, text: str, *, limit: int, min_similarity: float | None = None
    ) -> Results:
        """Find the images nearest to a text; raises `NoTextTower` if the encoder cannot read.

        A text's right picture has a cosine of 0.2 to 0.35, so that without `min_similarity` the
        images are ranked and none is cut off.
        """
        async with self._place():
            clock = _Clock()
            vector = await self._encoder.embed_text(text)
            clock.lap("embed")
            lowest = -1 if min_similarity is None else min_similarity
            return await self._nearest(_Query(vector), clock, limit=limit, min_similarity=lowest)

    async def by_image(self, image: Image, *, limit: int, min_similarity: float) -> Results:
        """Find the other images nearest to one of them; raises `NotFound` without a vector."""
        async with self._place():
            clock = _Clock()
            vector = await self._store.vector(image.id)
            if vector is None:
                raise NotFound("This picture is not embedded with the encoder in use.")
            query = _Query(vector, image.sha256, image.dhash)
            return await self._nearest(
                query, clock, limit=limit, min_similarity=min_similarity, leave_out=image.id
            )

    async def _nearest(
        self,
        query: _Query,
        clock: "_Clock",
        *,
        limit: int,
        min_similarity: float,
        leave_out: UUID | None = None,
    ) -> Results:
        hits: list[Hit] = []
        # One more than asked for, in place of the one that is left out; and more again if so many
        # of them are the same bytes that too few different ones are left.
        wanted = limit + (leave_out is not None)
        while True:
            nearest = await self._store.nearest(query.vector, limit=wanted)
            found = [pair for pair in nearest if pair[0] != leave_out]
            images = await self._catalog.find_all([image_id for image_id, _ in found])
            rows = [_hit(images[i], similarity, query) for i, similarity in found if i in images]
            hits = _one_per_file(rows)[:limit]
            if len(hits) >= limit or len(nearest) < wanted or wanted >= MOST_NEAREST:
                break
            wanted = min(4 * wanted, MOST_NEAREST)
        clock.lap("search")
        passing = sum(hit.similarity >= min_similarity for hit in hits)
        return Results(hits[:passing], hits[passing:], clock.timings(), query.picture)

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        if self._running >= MOST_SEARCHES:
            raise TooBusy
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


def _hit(image: Image, similarity: float, query: _Query) -> Hit:
    if query.sha256 is None or query.dhash is None:
        return Hit(image, similarity, None)
    if image.sha256 == query.sha256:
        return Hit(image, similarity, "exact")
    return Hit(image, similarity, "copy" if _is_copy(image, similarity, query.dhash) else "similar")


def _one_per_file(hits: list[Hit]) -> list[Hit]:
    """Return the hits with those of the same bytes gathered in the first of them."""
    firsts: dict[str, Hit] = {}
    for hit in hits:
        first = firsts.setdefault(hit.image.sha256, hit)
        if first is not hit:
            first.places.append(hit.image)
    return list(firsts.values())


def _is_copy(image: Image, similarity: float, dhash: int) -> bool:
    return similarity >= COPY_SIMILARITY and hamming(image.dhash, dhash) <= COPY_DHASH_BITS


class _Clock:
    """Milliseconds since the last lap, by the stage's name."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self._laps[stage] = round((now - self._last) * 1000, 2)
        self._last = now

    def timings(self) -> Timings:
        total = round((self._last - self._start) * 1000, 2)
        stage = self._laps.get
        return {
            "decode": stage("decode", 0.0),
            "embed": stage("embed", 0.0),
            "search": stage("search", 0.0),
            "total": total,
        }
