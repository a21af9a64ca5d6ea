"""A query image's near duplicates as URLs: the whole of `/api/query`, and nothing besides."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.pictures.decoding import Decoder
from app.search.query import Query, Term
from app.search.resolver import Clock, Timings
from app.search.searcher import Searcher
from app.store.near_urls import NearUrl, near_urls
from app.store.spaces import Space


@dataclass(frozen=True, slots=True)
class NearUrls:
    """Images near to a query image, best first, those of one file one after the other."""

    images: Sequence[NearUrl]
    took_ms: Timings


class Lookup:
    """Finds what is near to an image, each time in the place of a search.

    It gives the images that a search by this image gives in the `space` in which a similarity of
    0.90 means the same image, without what describes them.
    """

    def __init__(self, *, searcher: Searcher, space: Space, decoder: Decoder) -> None:
        self._searcher = searcher
        self._space = space
        self._decoder = decoder

    async def find(self, data: bytes, *, above: float, limit: int) -> NearUrls:
        """Return those of the `limit` images nearest to a file that are more similar than `above`.

        Raises `TooBusy` and what decoding raises.
        """
        query = Query([Term(data)])
        self._searcher.searches[query.kind] += 1

        async def work(_query: Query) -> NearUrls:
            encoder, vectors = self._space.encoder, self._space.vectors
            clock = Clock()
            _, prepared = await self._decoder.look(
                data, encoder.prepare, model_side=encoder.model.side
            )
            clock.lap("decode")
            vector = await encoder.embed_prepared(prepared)
            clock.lap("embed")
            found = await near_urls(
                vectors.database,
                vectors.table,
                vector,
                limit=limit,
                above=above,
                outside=vectors.outside,
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
