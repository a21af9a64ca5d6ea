"""A search with nothing but filters: the images that pass, in an order, page by page."""

import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.indexing.requests import MAX_INTEGER
from app.problems import InvalidRequest
from app.search import cursors
from app.search.asked import checked
from app.search.hits import Hit
from app.search.pages import Results
from app.search.query import Query
from app.search.resolver import Clock
from app.search.sorting import Sort
from app.store.beside import Beside
from app.store.catalog import Catalog
from app.store.filters import Filters
from app.store.listing import passing
from app.store.orders import ListOrder, Position
from app.store.vectors import VectorTable

# The cursor of a query begins otherwise, as all that zlib packs.
_PREFIX = "list_"
_ORDERS: Mapping[Sort, ListOrder] = {
    "best": "newest",
    "newest": "newest",
    "oldest": "oldest",
    "biggest": "biggest",
}


class _Listed(BaseModel):
    """A list of what passes filters, up to an image that was `indexed_at` or has `pixels`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters: Filters
    order: ListOrder
    id: UUID
    indexed_at: datetime | None = None
    pixels: Annotated[int, Field(ge=0, le=MAX_INTEGER)] | None = None

    @property
    def end(self) -> Position:
        """The position at which the page ended."""
        value = self.pixels if self.order == "biggest" else self.indexed_at
        if value is None:
            raise ValueError("no position")
        return Position(value, self.id)

    def cursor(self) -> str | None:
        """Return the list as a URL-safe string, None if it would be too long to be read."""
        return cursors.of(self, prefix=_PREFIX)

    @classmethod
    def read(cls, cursor: str, *, sees_faces: bool) -> "_Listed":
        """Return the list of a cursor; raises `InvalidRequest`."""
        try:
            listed = cls.model_validate_json(cursors.opened(cursor, prefix=_PREFIX))
            _ = listed.end
        except (ValueError, zlib.error, ValidationError) as exc:
            raise cursors.not_ours() from exc
        filters = checked(listed.filters, sees_faces=sees_faces)
        return listed.model_copy(update={"filters": filters})


class Lister:
    """Lists the images that pass filters."""

    def __init__(self, *, catalog: Catalog, vectors: VectorTable) -> None:
        self._catalog = catalog
        self._vectors = vectors

    async def first_page(self, query: Query) -> Results:
        """Return the first page of what passes the filters of a query, which has nothing else.

        Raises `InvalidRequest` for what only a search has.
        """
        given = {
            "match": query.match,
            "thorough": query.thorough or None,
            "diversity": query.diversity or None,
            "min_similarity": query.min_similarity,
        }
        for name, value in given.items():
            if value is not None:
                raise InvalidRequest(f"{name}: filters alone are no query that has one.")
        if query.sort not in _ORDERS:
            raise InvalidRequest("sort: filters alone list by newest, oldest or biggest.")
        return await self._page(query.filters, _ORDERS[query.sort], None, query.limit, query.beside)

    async def next_page(
        self,
        cursor: str,
        *,
        limit: int,
        sees_faces: bool = True,
        beside: frozenset[Beside] = frozenset(),
    ) -> Results:
        """Return the page after the one that gave this cursor; raises `InvalidRequest`."""
        listed = _Listed.read(cursor, sees_faces=sees_faces)
        return await self._page(listed.filters, listed.order, listed.end, limit, beside)

    async def _page(
        self,
        filters: Filters,
        order: ListOrder,
        after: Position | None,
        limit: int,
        beside: frozenset[Beside],
    ) -> Results:
        clock = Clock()
        found = await passing(self._vectors, filters, order=order, limit=limit + 1, after=after)
        page = found[:limit]
        images = await self._catalog.find_all([position.id for position in page], beside=beside)
        clock.lap("search")
        more = len(found) > limit
        cursor = _cursor(filters, order, page[-1]) if more else None
        return Results(
            [Hit(images[p.id], None, None, matched=()) for p in page if p.id in images],
            [],
            clock.timings(),
            None,
            cursor,
            [cursors.TOO_LONG] if more and cursor is None else [],
        )


def is_of_list(cursor: str) -> bool:
    """Return whether a cursor is that of a list, and not that of a query."""
    return cursor.startswith(_PREFIX)


def _cursor(filters: Filters, order: ListOrder, end: Position) -> str | None:
    listed = _Listed(filters=filters, order=order, id=end.id)
    field = "pixels" if order == "biggest" else "indexed_at"
    return listed.model_copy(update={field: end.value}).cursor()
