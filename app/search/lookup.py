"""A query image's near duplicates as URLs: the whole of `/api/query`, and nothing besides."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.encoding.encoder import Encoder
from app.pictures.decoding import Decoder
from app.search.query import Query, Term
from app.search.resolver import Clock, Timings
from app.search.searcher import Searcher
from app.store.near_urls import NearUrl, near_urls
from app.store.vectors import VectorTable


@dataclass(frozen=True, slots=True)
class NearUrls:
    """Images near to a query image, best first, those of one file one after the other."""

    images: Sequence[NearUrl]
    took_ms: Timings


class Lookup:
    """Finds what is near to an image, each time in the place of a search.

    It gives the images that a search by this image gives, without what describes them.
    """

    def __init__(
        self, *, searcher: Searcher, vectors: VectorTable, encoder: Encoder, decoder: Decoder
    ) -> None:
        self._searcher = searcher
        self._vectors = vectors
        self._encoder = encoder
        self._decoder = decoder

    async def find(self, data: bytes, *, above: float, limit: int) -> NearUrls:
        """Return those of the `limit` images nearest to a file that are more similar than `above`.

        Raises `TooBusy` and what decoding raises.
        """
        query = Query([Term(data)])
        self._searcher.searches[query.kind] += 1

        async def work(_query: Query) -> NearUrls:
            clock = Clock()
            _, prepared = await self._decoder.look(
                data, self._encoder.prepare, model_side=self._encoder.model.side
            )
            clock.lap("decode")
            vector = await self._encoder.embed_prepared(prepared)
            clock.lap("embed")
            found = await near_urls(
                self._vectors.database,
                self._vectors.table,
                vector,
                limit=limit,
                above=above,
            )
            clock.lap("search")
            return NearUrls(_by_file(found), clock.timings())

        return await self._searcher.in_place(query, work)


def _by_file(images: Sequence[NearUrl]) -> list[NearUrl]:
    """Return images with those of one file together, at the place of the first."""
    files: dict[str, list[NearUrl]] = {}
    for image in images:
        files.setdefault(image.sha256, []).append(image)
    return [image for same in files.values() for image in same]
