"""Placing faces: which faces are near those that no one has placed yet, and whose they become.

A face is placed once, by the rule in indexing/people_maker.py or by someone. After that only
someone moves it, or the rule if it is no one's and a new face like it comes; never one that someone
has removed from a person.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, bindparam, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.catalog import Catalog
from app.store.faces import FaceId
from app.store.scans import local_settings
from app.store.tables import FACES, PEOPLE

# Arbitrary, but the same in every version: one at a time changes who is who.
PLACING_LOCK = 1_885_696_109
# That of migration 0019, which whoever deletes a person's faces takes last.
ENDING_LOCK = 1_885_696_110
# Of each new face, so many of the nearest are looked at.
NEIGHBOURS = 8
# Up to so many faces, comparing all of them is as fast as the HNSW index.
MOST_EXACT = 5_000

# OFFSET 0 keeps the planner from the HNSW index, of whose candidates none may be placed yet.
_NEAR = """
    SELECT mine.image_id, mine."order", near.* FROM faces AS mine
    CROSS JOIN LATERAL (
        SELECT image_id AS other_image, "order" AS other_order, person_id, removed,
            1 - distance AS similarity
        FROM (
            SELECT image_id, "order", person_id, removed, vector <=> mine.vector AS distance
            FROM faces
            WHERE placed AND vector IS NOT NULL AND image_id <> mine.image_id {first}
        ) AS others
        ORDER BY distance LIMIT :neighbours
    ) AS near
    WHERE (mine.image_id, mine."order") IN (
        SELECT * FROM unnest(CAST(:images AS uuid[]), CAST(:orders AS smallint[]))
    )
    ORDER BY mine.image_id, mine."order", near.similarity DESC
"""
_EXACTLY = text(_NEAR.format(first="OFFSET 0"))
_BY_INDEX = text(_NEAR.format(first="ORDER BY vector <=> mine.vector LIMIT :neighbours"))


@dataclass(frozen=True, slots=True)
class NewFace:
    """A face that is to be placed; its vector has 128 float32 numbers, unit length."""

    id: FaceId
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A face that is placed, how near it is (a cosine), and whose it is, if it is anyone's.

    Of a `removed` one, someone has said that it is not the person whose it was.
    """

    id: FaceId
    similarity: float
    person: UUID | None
    removed: bool = False


async def place_lock(connection: AsyncConnection) -> None:
    """Wait until no one else changes who is who; others wait until the transaction ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(PLACING_LOCK)))


async def keep_people(connection: AsyncConnection) -> None:
    """Let no person end until the transaction does, nor for want of faces that it has given.

    Whoever deletes faces has locked their images before, so no other row is waited for after this.
    """
    await connection.execute(select(func.pg_advisory_xact_lock(ENDING_LOCK)))


async def new_faces(connection: AsyncConnection, catalog: Catalog, *, limit: int) -> list[NewFace]:
    """Return faces that are to be placed, by image and order; their images are locked."""
    waiting = (
        select(FACES.c.image_id, FACES.c.order, FACES.c.vector)
        .where(~FACES.c.placed, FACES.c.vector.is_not(None))
        .order_by(FACES.c.image_id, FACES.c.order)
        .limit(limit)
    )
    found = (await connection.execute(waiting)).all()
    if not found:
        return []
    await catalog.lock(connection, {row.image_id for row in found})
    # As they are now that nobody else can change them.
    chosen = waiting.where(FACES.c.image_id.in_({row.image_id for row in found}))
    return [
        NewFace((row.image_id, row.order), np.array(row.vector, np.float32))
        for row in await connection.execute(chosen)
    ]


async def neighbours(
    connection: AsyncConnection, faces: Sequence[NewFace]
) -> dict[FaceId, list[Neighbour]]:
    """Return the placed faces in other images that are nearest to new ones, nearest first."""
    some = select(FACES.c.order).where(FACES.c.placed).limit(MOST_EXACT + 1).subquery()
    placed = await connection.scalar(select(func.count()).select_from(some)) or 0
    await connection.execute(*local_settings(NEIGHBOURS))
    given = {
        "images": [face.id[0] for face in faces],
        "orders": [face.id[1] for face in faces],
        "neighbours": NEIGHBOURS,
    }
    rows = await connection.execute(_EXACTLY if placed <= MOST_EXACT else _BY_INDEX, given)
    found: dict[FaceId, list[Neighbour]] = {}
    for row in rows:
        found.setdefault((row.image_id, row.order), []).append(_neighbour(row))
    return found


async def hold(connection: AsyncConnection, faces: Collection[FaceId]) -> set[FaceId]:
    """Keep faces that are no one's from others; return those that no one else is changing."""
    if not faces:
        return set()
    query = (
        select(FACES.c.image_id, FACES.c.order)
        .where(tuple_(FACES.c.image_id, FACES.c.order).in_(faces), FACES.c.person_id.is_(None))
        .with_for_update(skip_locked=True)
    )
    return {(row.image_id, row.order) for row in await connection.execute(query)}


async def sizes_of(connection: AsyncConnection, persons: Collection[UUID]) -> dict[UUID, int]:
    """Return how many faces persons have, without persons that have none any more."""
    query = (
        select(FACES.c.person_id, func.count())
        .where(FACES.c.person_id.in_(persons))
        .group_by(FACES.c.person_id)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def add_people(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    """Make people without names and without faces."""
    if ids:
        await connection.execute(PEOPLE.insert(), [{"id": one, "name": ""} for one in ids])


async def give(connection: AsyncConnection, persons: Sequence[tuple[FaceId, UUID | None]]) -> None:
    """Give faces to persons, or to no one, and let them count as placed."""
    statement = (
        FACES.update()
        .where(FACES.c.image_id == bindparam("image"), FACES.c.order == bindparam("place"))
        .values(person_id=bindparam("person"), placed=True)
    )
    rows = [
        {"image": image_id, "place": order, "person": person}
        for (image_id, order), person in sorted(persons, key=lambda one: one[0])
    ]
    if rows:
        await connection.execute(statement, rows)


def _neighbour(row: Row[Any]) -> Neighbour:
    return Neighbour((row.other_image, row.other_order), row.similarity, row.person_id, row.removed)
