"""A search: the query's vector and words, the nearest images, and what each match means."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TypedDict
from uuid import UUID

import numpy as np

from app.catalog import Catalog, Image
from app.cursors import Asked
from app.download import Fetcher
from app.encoder import Encoder, Vector
from app.hits import Hit, Reason, match_of, one_per_file, reciprocal_rank_fusion
from app.pictures import Decoder, Picture
from app.problems import InvalidRequest, NoPicture, NotFound, TooBusy
from app.query import Marked, Query, Term, combine, rocchio
from app.store import ImageVectorStore
from app.uploads import Uploads

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


class Timings(TypedDict):
    """Milliseconds that each stage took."""

    decode: float
    embed: float
    search: float
    total: float


@dataclass(frozen=True, slots=True)
class Results:
    """The hits above the threshold, best first, and the nearest of those below it.

    `picture` is the query's, if a file, URL or upload was decoded for it. `cursor` asks for the
    next page. `notes` say what the reader of the results should know.
    """

    hits: list[Hit]
    below: list[Hit]
    took_ms: Timings
    min_similarity: float | None
    cursor: str | None = None
    notes: Sequence[str] = ()
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A picture that a query names."""

    vector: Vector
    sha256: str
    dhash: int
    picture: Picture | None = None


class Searcher:
    """Answers searches, a bounded number at once; raises `TooBusy` beyond it.

    `min_similarity` is what is asked of the results of a single picture, unless the query says.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ImageVectorStore,
        encoder: Encoder,
        decoder: Decoder,
        fetcher: Fetcher,
        uploads: Uploads,
        min_similarity: float,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._encoder = encoder
        self._decoder = decoder
        self._fetcher = fetcher
        self._uploads = uploads
        self._min_similarity = min_similarity
        self._running = 0

    async def search(self, query: Query) -> Results:
        """Find the images that a query asks for.

        Raises `NoPicture` for an empty query, `QueryCancels`, `NotFound` for an image that has no
        vector, and what fetching and decoding raise.
        """
        async with self._place():
            clock = _Clock()
            asked, picture = await self._resolve(query, clock)
            return replace(await self._answer(asked, query.limit, clock), picture=picture)

    async def next_page(self, cursor: str, *, limit: int) -> Results:
        """Go on where an answer with this cursor ended; raises `InvalidRequest`."""
        async with self._place():
            clock = _Clock()
            asked = Asked.read(cursor, dimensions=self._encoder.dimensions)
            return await self._answer(asked, limit, clock)

    async def _resolve(self, query: Query, clock: "_Clock") -> tuple[Asked, Picture | None]:
        """Fetch, decode and embed whatever the query names."""
        if not (query.terms or query.like or query.unlike):
            raise NoPicture("Send a picture as `file` or by its `url`, or a phrase as `text`.")
        notes: list[str] = []
        vectors: list[Vector] = []
        weights: list[float] = []
        found: _Found | None = None
        for term in query.terms:
            if term.text is not None:
                if self._encoder.has_text:
                    vectors.append(await self._encoder.embed_text(term.text))
                    weights.append(term.weight)
                    clock.lap("embed")
                    if self._encoder.model.is_cut(term.text):
                        notes.append(f"Only the beginning was read of: {term.text[:60]}…")
                continue
            found = await self._find(term, clock)
            vectors.append(found.vector)
            weights.append(term.weight)
        if query.texts and not self._encoder.has_text:
            if not query.words:
                raise InvalidRequest("Without a word to look for there is nothing to leave out.")
            notes.append(
                f"The encoder {self._encoder.model.name} reads pictures only: the words were "
                "looked for in titles, descriptions, tags and file names."
            )
        vector = combine(vectors, weights) if vectors else None
        if query.like or query.unlike:
            vector = rocchio(vector, await self._marked(query))
        only = query.only_picture
        whole = only is not None and only.crop is None and only.weight > 0
        lowest = query.min_similarity
        if lowest is None and whole:
            lowest = self._min_similarity
        asked = Asked(
            vector=None if vector is None else vector.astype(np.float16).tobytes(),
            words=query.words,
            filters=query.filters,
            left_out=sorted(query.images),
            min_similarity=lowest,
            diversity=query.diversity,
            sha256=found.sha256 if found and whole else None,
            dhash=found.dhash if found and whole else None,
            before=datetime.now(UTC),
            notes=notes,
        )
        return asked, found.picture if found else None

    async def _find(self, term: Term, clock: "_Clock") -> "_Found":
        """Return what a term that is a picture shows."""
        sha256: str | None = None
        if term.image is not None:
            image, vector = await self._indexed(term.image)
            if term.crop is None:
                return _Found(vector, image.sha256, image.dhash)
            _, data = await self._catalog.thumbnail(term.image) or ("", b"")
        elif term.upload is not None:
            upload = await self._uploads.find(term.upload)
            data, sha256 = upload.data, upload.sha256
        else:
            data = await self._fetcher.fetch(term.url) if term.url is not None else term.data or b""
        picture = await self._decoder.decode(data, crop=term.crop)
        clock.lap("decode")
        vector = await self._encoder.embed_image(picture.image)
        clock.lap("embed")
        return _Found(vector, sha256 or picture.sha256, picture.dhash, picture)

    async def _indexed(self, image_id: UUID) -> tuple[Image, Vector]:
        image = await self._catalog.find(image_id)
        if image is None:
            raise NotFound(f"There is no picture {image_id} in the index.")
        vector = await self._store.vector(image_id)
        if vector is None:
            raise NotFound("This picture is not embedded with the encoder in use.")
        return image, vector

    async def _marked(self, query: Query) -> Marked:
        """Return the vectors of the marked images; one that was deleted meanwhile is left out."""
        vectors = await self._store.vectors([*query.like, *query.unlike])
        marked = Marked(
            [vectors[i] for i in query.like if i in vectors],
            [vectors[i] for i in query.unlike if i in vectors],
        )
        if not marked.like and not query.terms:
            raise NotFound("None of the marked pictures is in the index any more.")
        return marked

    async def _answer(self, asked: Asked, limit: int, clock: "_Clock") -> Results:
        worded: list[UUID] = []
        if asked.words:
            worded = await self._store.worded(asked.words, limit=MOST_FUSED, filters=asked.filters)
        if asked.query_vector is None or worded:
            hits, following = await self._fused(asked, worded, limit)
        elif asked.diversity:
            hits, following = await self._diverse(asked, asked.query_vector, limit), None
        else:
            hits, following = await self._nearest(asked, asked.query_vector, limit)
        clock.lap("search")
        lowest = asked.min_similarity
        passing = [hit for hit in hits if lowest is None or (hit.similarity or -1) >= lowest]
        cursor = following.cursor() if following and len(passing) == len(hits) else None
        below = [hit for hit in hits if hit not in passing]
        return Results(passing, below, clock.timings(), lowest, cursor, asked.notes)

    async def _nearest(
        self, asked: Asked, vector: Vector, limit: int
    ) -> tuple[list[Hit], Asked | None]:
        """Return the nearest images, and how to go on behind them."""
        beyond = asked.beyond
        # More than asked for, in place of those that are left out; and more again if so many of
        # them are the same bytes that too few different ones are left.
        wanted = limit + len(asked.left_out) + 1
        while True:
            found = await self._store.nearest(
                vector, limit=wanted, filters=asked.filters, beyond=beyond
            )
            hits = one_per_file(await self._hits(asked, found))
            if len(hits) > limit or len(found) < wanted or wanted >= MOST_NEAREST:
                break
            wanted = min(4 * wanted, MOST_NEAREST)
        page = hits[:limit]
        if len(hits) <= limit or not page:
            return page, None
        return page, _behind(asked, page)

    async def _fused(
        self, asked: Asked, worded: list[UUID], limit: int
    ) -> tuple[list[Hit], Asked | None]:
        """Return the images that are near, or have the words, or best of all both."""
        vector = asked.query_vector
        near: list[tuple[UUID, float]] = []
        if vector is not None:
            near = await self._store.nearest(vector, limit=MOST_FUSED, filters=asked.filters)
        similarities: dict[UUID, float | None] = dict(near)
        if vector is not None:
            vectors = await self._store.vectors([i for i in worded if i not in similarities])
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
        found = await self._store.nearest(vector, limit=among, filters=asked.filters)
        hits = one_per_file(await self._hits(asked, found))
        lowest = -1 if asked.min_similarity is None else asked.min_similarity
        near = {hit.image.id: hit for hit in hits if (hit.similarity or 0) >= lowest}
        chosen = await self._store.diverse(
            vector, list(near), limit=limit, diversity=asked.diversity
        )
        return [near[image_id] for image_id in chosen]

    async def _hits(self, asked: Asked, found: Sequence[tuple[UUID, float]]) -> list[Hit]:
        kept = [pair for pair in found if pair[0] not in asked.left_out]
        images = await self._catalog.find_all([image_id for image_id, _ in kept])
        return [
            Hit(
                images[i],
                similarity,
                match_of(images[i], similarity, sha256=asked.sha256, dhash=asked.dhash),
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


class _Clock:
    """Milliseconds spent in each stage, by the stage's name; a stage may come several times."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def timings(self) -> Timings:
        spent = {
            name: round(self._laps.get(name, 0.0), 2) for name in ("decode", "embed", "search")
        }
        total = round((self._last - self._start) * 1000, 2)
        return Timings(**spent, total=total)
