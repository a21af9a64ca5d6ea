"""Hits by vectors: the images nearest to a query, page by page, and how similar they are."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from app.encoding.encoder import Vector
from app.search.asked import Asked
from app.search.candidates import MOST_VERIFIED
from app.search.hits import Hit, one_per_file
from app.search.pages import Near, Page, after, split
from app.store.catalog import Catalog
from app.store.nearest import FILE_DIGITS
from app.store.spaces import Spaces
from app.store.vectors import VectorTable

# The most rows that one search considers: the maximum of pgvector's hnsw.ef_search.
MOST_NEAREST = 1000


class NearestHits:
    """Reads hits from the vectors of an index, in the space by which a query is ranked."""

    def __init__(self, *, catalog: Catalog, spaces: Spaces) -> None:
        self._catalog = catalog
        self._spaces = spaces

    def vectors(self, asked: Asked) -> VectorTable:
        """Return the vectors that a query is compared with."""
        return self._spaces.of(asked.ranked_by).vectors

    async def page(
        self, asked: Asked, vector: Vector, limit: int, near: Near | None = None
    ) -> Page:
        """Return a page of the nearest images, without those lifted."""
        near = near or await self.near(asked, vector, limit)
        lifted = asked.lifted_files
        hits = [hit for hit in near.hits if hit.image.sha256[:FILE_DIGITS] not in lifted]
        page = hits[:limit]
        at_the_end = len(hits) <= limit and near.all
        return split(asked, page, None if at_the_end or not page else after(asked, page))

    async def near(self, asked: Asked, vector: Vector, limit: int) -> Near:
        """Return the nearest hits, more than `limit` of them not lifted if there are so many."""
        # Enough to make up for excluded images; and four times as many again, up to a limit, if too
        # few remain because files with the same bytes make one hit.
        lifted = asked.lifted_files
        wanted = limit + len(asked.left_out) + len(lifted) + 1
        while True:
            found = await self.vectors(asked).nearest(
                vector, limit=wanted, filters=asked.filters, beyond=asked.beyond
            )
            hits = await self._new(asked, vector, one_per_file(await self.hits(asked, found)))
            enough = sum(hit.image.sha256[:FILE_DIGITS] not in lifted for hit in hits) > limit
            if enough or len(found) < wanted or wanted >= MOST_NEAREST:
                return Near(hits, len(found) < wanted)
            wanted = min(4 * wanted, MOST_NEAREST)

    async def by_copy(self, asked: Asked, near: Sequence[Hit]) -> list[Hit]:
        """Return the hits nearest by the copy vector, none if there is none.

        Their similarities are those of the copy vectors. A file is shown by the image that shows it
        among the `near` ones.
        """
        vector = asked.query_copy_vector
        if vector is None:
            return []
        limit = MOST_VERIFIED + len(asked.left_out) + 1
        found = await self._spaces.copy.vectors.nearest(vector, limit=limit, filters=asked.filters)
        hits = one_per_file(await self.hits(asked, found))
        known = {hit.image.sha256: hit for hit in near}
        return [
            replace(known.get(hit.image.sha256, hit), similarity=hit.similarity) for hit in hits
        ]

    async def missing(
        self, asked: Asked, vector: Vector, hits: Sequence[Hit], near: Sequence[Hit]
    ) -> list[Hit]:
        """Return hits of files that the near ones lack, with the similarities of the ranking."""
        known = {hit.image.sha256 for hit in near}
        others = [hit for hit in hits if hit.image.sha256 not in known]
        if not others:
            return []
        similarities = await self.similarities(asked, vector, [hit.image.id for hit in others])
        return [replace(hit, similarity=similarities.get(hit.image.id)) for hit in others]

    async def similarities(
        self, asked: Asked, vector: Vector, ids: Sequence[UUID]
    ) -> dict[UUID, float]:
        """Return the similarities by which a query is ranked, of the images that have one."""
        return await self.vectors(asked).similarities(vector, ids)

    async def with_copy_similarities(self, asked: Asked, hits: Sequence[Hit]) -> list[Hit]:
        """Return hits with the similarities of their copy vectors, if the query has one."""
        vector = asked.query_copy_vector
        if vector is None or not hits:
            return list(hits)
        ids = [hit.image.id for hit in hits]
        found = await self._spaces.copy.vectors.similarities(vector, ids)
        return [replace(hit, copy_similarity=found.get(hit.image.id)) for hit in hits]

    async def hits(self, asked: Asked, found: Sequence[tuple[UUID, float]]) -> list[Hit]:
        """Return images with their similarities as hits, without those that are left out."""
        kept = [pair for pair in found if pair[0] not in asked.left_out]
        ids = [image_id for image_id, _ in kept]
        images = await self._catalog.find_all(ids, beside=asked.beside)
        return [
            matched(asked, Hit(images[i], similarity, None))
            for i, similarity in kept
            if i in images
        ]

    async def _new(self, asked: Asked, vector: Vector, hits: list[Hit]) -> list[Hit]:
        """Return hits without those whose file an earlier page had.

        Images of one file may have different vectors, if they were embedded at different times.
        """
        if asked.beyond is None or not hits:
            return hits
        shown = await self.vectors(asked).given_before(
            vector,
            [hit.image.sha256 for hit in hits],
            filters=asked.filters,
            beyond=asked.beyond,
            left_out=asked.left_out,
        )
        return [hit for hit in hits if hit.image.sha256 not in shown]


def matched(asked: Asked, hit: Hit) -> Hit:
    """Return a hit with what is known of its match to the query."""
    return hit.matching(asked.verified.get(hit.image.id), sha256=asked.sha256)
