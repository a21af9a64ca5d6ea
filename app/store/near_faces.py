"""The images whose faces are nearest to a face, that pass filters.

The first page comes from the HNSW index of the faces' vectors, if there are many and its candidates
are enough. Those behind it are exact and leave out what the first one had, so that none is missed
or shown twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, Select, Text, and_, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from app.faces.face import Box
from app.store.filters import Filters
from app.store.nearest import conditions
from app.store.placing import MOST_EXACT
from app.store.scans import MAX_EF_SEARCH, local_settings
from app.store.tables import FACES
from app.store.vectors import VectorTable

# An image may have several of the nearest faces.
CANDIDATES_PER_IMAGE = 3


@dataclass(frozen=True, slots=True)
class NearFace:
    """The face of an image that is nearest to the one searched for, and its cosine distance."""

    image_id: UUID
    order: int
    box: Box
    distance: float

    @property
    def similarity(self) -> float:
        """The cosine of the two vectors."""
        return 1 - self.distance


@dataclass(frozen=True, slots=True)
class Shown:
    """What the pages before had: a first page's images, and then all up to a position."""

    images: Sequence[UUID]
    distance: float | None = None
    image_id: UUID | None = None


class NearFaces:
    """Searches among the vectors of faces; filters are those of an index's vectors."""

    def __init__(self, vectors: VectorTable) -> None:
        self._vectors = vectors

    async def find(
        self,
        vector: NDArray[np.float32],
        *,
        within: float,
        limit: int,
        filters: Filters,
        without: UUID | None = None,
        shown: Shown | None = None,
    ) -> list[NearFace]:
        """Return one face each of the images that have one `within` a cosine distance.

        The nearest comes first; the image `without` is left out.
        """
        distance = FACES.c.vector.cosine_distance(vector).label("distance")
        wanted: list[ColumnElement[bool]] = [FACES.c.vector.is_not(None)]
        if without is not None:
            wanted.append(FACES.c.image_id != without)
        query = select(FACES.c.image_id, FACES.c.order, *_BOX, distance).where(*wanted)
        if filters:
            table = self._vectors.table
            same = table.c.node_id == cast(FACES.c.image_id, Text)
            query = query.join(table, same).where(*conditions(table, filters))
        async with self._vectors.database.begin() as connection:
            if shown is None and not await _are_few(connection):
                candidates = min(CANDIDATES_PER_IMAGE * limit, MAX_EF_SEARCH)
                await connection.execute(*local_settings(candidates))
                some = query.order_by(distance).limit(candidates)
                rows = (await connection.execute(some)).all()
                found = _best(rows, within)[:limit]
                # Unless all were near enough, or the scan gave up, no further one is.
                if len(found) == limit or (rows and rows[-1].distance > within):
                    return found
            page = await connection.execute(_page(query, within, limit, shown))
            return [_near_face(row) for row in page]


_BOX = (FACES.c.x, FACES.c.y, FACES.c.width, FACES.c.height)


def _page(query: Select[Any], within: float, limit: int, shown: Shown | None) -> Select[Any]:
    # OFFSET 0 keeps the planner from pushing the order, and with it the HNSW index, inside.
    near = query.offset(0).subquery()
    best = (
        select(near)
        .distinct(near.c.image_id)
        .where(near.c.distance <= within)
        .order_by(near.c.image_id, near.c.distance, near.c.order)
        .subquery()
    )
    page = select(best).order_by(best.c.distance, best.c.image_id).limit(limit)
    if shown is not None:
        page = page.where(best.c.image_id.not_in(shown.images))
        if shown.distance is not None:
            same = and_(best.c.distance == shown.distance, best.c.image_id > shown.image_id)
            page = page.where(or_(best.c.distance > shown.distance, same))
    return page


def _best(rows: Sequence[Row[Any]], within: float) -> list[NearFace]:
    """Return the nearest face of each image, as `_page` orders them."""
    best: dict[UUID, Row[Any]] = {}
    for row in sorted(rows, key=lambda row: (row.distance, row.order)):
        if row.distance <= within:
            best.setdefault(row.image_id, row)
    ordered = sorted(best.values(), key=lambda row: (row.distance, row.image_id))
    return [_near_face(row) for row in ordered]


def _near_face(row: Row[Any]) -> NearFace:
    box = Box(row.x, row.y, row.width, row.height)
    return NearFace(row.image_id, row.order, box, row.distance)


async def _are_few(connection: AsyncConnection) -> bool:
    some = select(FACES.c.order).where(FACES.c.vector.is_not(None)).limit(MOST_EXACT + 1).subquery()
    return (await connection.scalar(select(func.count()).select_from(some)) or 0) <= MOST_EXACT
