"""People: groups of faces, which someone may name, merge and split.

A face is of one person at most, which the column `faces.person_id` says. A person ends, with the
name, when the last of its faces goes (migration 0019).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, literal, or_, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from app.faces.face import Box
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.faces import FaceId
from app.store.placing import keep_people, place_lock
from app.store.tables import FACES, IMAGES, PEOPLE

_FACES = select(
    FACES, IMAGES.c.width.label("image_width"), IMAGES.c.height.label("image_height")
).join(IMAGES, IMAGES.c.id == FACES.c.image_id)
_AT = tuple_(FACES.c.image_id, FACES.c.order)


@dataclass(frozen=True, slots=True)
class PersonFace:
    """A face of a person, in an image of this `width` and `height` in pixels."""

    image_id: UUID
    order: int
    box: Box
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Person:
    """A person of the index: so many `faces`, in so many `images`, and what they are known by.

    The `name` is empty until someone gives one. The `cover` is the face that the detector is surest
    of.
    """

    id: UUID
    name: str
    faces: int
    images: int
    cover: PersonFace


class PeopleTable:
    """Reads people, and changes them as someone wishes."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    async def some(
        self, *, limit: int, after: tuple[int, UUID] | None = None, part: str = ""
    ) -> list[Person]:
        """Return people, those with the most faces first, after one of so many faces and this id.

        Only those in whose name `part` is, in any case.
        """
        counted = _counted().where(_is_called(part)).subquery()
        query = select(counted).order_by(counted.c.faces.desc(), counted.c.id).limit(limit)
        if after is not None:
            faces, last = after
            same = and_(counted.c.faces == faces, counted.c.id > last)
            query = query.where(or_(counted.c.faces < faces, same))
        return await self._people(query)

    async def find(self, person_id: UUID) -> Person | None:
        """Return a person, None if there is none with this id."""
        found = await self._people(_counted().where(PEOPLE.c.id == person_id))
        return found[0] if found else None

    async def count(self, *, part: str = "") -> int:
        """Return the number of people in whose name `part` is, in any case."""
        query = select(func.count()).select_from(PEOPLE).where(_is_called(part))
        async with self._database.reading() as connection:
            return await connection.scalar(query) or 0

    async def faces(
        self, person_id: UUID, *, limit: int, after: FaceId | None = None
    ) -> list[PersonFace]:
        """Return faces of a person, by image and order, after one of them."""
        query = _FACES.where(FACES.c.person_id == person_id)
        if after is not None:
            query = query.where(tuple_(literal(after[0]), literal(after[1])) < _AT)
        query = query.order_by(FACES.c.image_id, FACES.c.order).limit(limit)
        async with self._database.reading() as connection:
            return [_face(row) for row in await connection.execute(query)]

    async def of_images(self, ids: Sequence[UUID]) -> dict[FaceId, tuple[UUID, str]]:
        """Return whose the faces of images are, with the names, without those of no one."""
        query = (
            select(FACES.c.image_id, FACES.c.order, PEOPLE.c.id, PEOPLE.c.name)
            .join(PEOPLE, PEOPLE.c.id == FACES.c.person_id)
            .where(FACES.c.image_id.in_(ids))
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return {(row.image_id, row.order): (row.id, row.name) for row in rows}

    async def rename(self, person_id: UUID, name: str) -> bool:
        """Give a person a name, or an empty one; return whether there is such a person."""
        statement = PEOPLE.update().where(PEOPLE.c.id == person_id).values(name=name)
        async with self._database.begin() as connection:
            # Or a merge that has read the name before would put it back.
            await place_lock(connection)
            return bool((await connection.execute(statement)).rowcount)

    async def merge(self, into: UUID, others: Iterable[UUID]) -> bool:
        """Give a person all faces of others, who are then gone; False if one is not there.

        The name stays; where there is none, it is the first that one of the others has.
        """
        gone = [other for other in dict.fromkeys(others) if other != into]
        async with self._database.begin() as connection:
            await place_lock(connection)
            await self._lock(connection, FACES.c.person_id.in_(gone))
            found = select(PEOPLE).where(PEOPLE.c.id.in_([into, *gone]))
            names = {row.id: row.name for row in await connection.execute(found)}
            if len(names) <= len(gone):
                return False
            await self._move(connection, FACES.c.person_id.in_(gone), into)
            name = next((names[one] for one in (into, *gone) if names[one]), "")
            named = PEOPLE.update().where(PEOPLE.c.id == into).values(name=name)
            await connection.execute(named)
        return True

    async def split(self, person_id: UUID, faces: Sequence[FaceId], *, name: str) -> UUID | None:
        """Make another person of some of a person's faces; None unless all of them are."""
        async with self._database.begin() as connection:
            await place_lock(connection)
            chosen = await self._of(connection, person_id, faces)
            if chosen is None:
                return None
            made = PEOPLE.insert().values(name=name).returning(PEOPLE.c.id)
            other: UUID = (await connection.execute(made)).scalar_one()
            await self._move(connection, chosen, other)
        return other

    async def remove(self, person_id: UUID, faces: Sequence[FaceId]) -> bool:
        """Let faces be no one's; False, and nothing is done, unless all of them are the person's.

        The rule neither gives them back nor makes a new person of one.
        """
        async with self._database.begin() as connection:
            await place_lock(connection)
            chosen = await self._of(connection, person_id, faces)
            if chosen is None:
                return False
            await self._move(connection, chosen, None, removed=True)
        return True

    async def dissolve(self, person_id: UUID) -> bool:
        """Let all faces of a person be no one's, so that there is no such person any more.

        The rule does not put them back, but may make a new person of one of them and a new face.
        """
        async with self._database.begin() as connection:
            await place_lock(connection)
            await self._lock(connection, FACES.c.person_id == person_id)
            return bool(await self._move(connection, FACES.c.person_id == person_id, None))

    async def _of(
        self, connection: AsyncConnection, person_id: UUID, faces: Sequence[FaceId]
    ) -> Any:
        """Return a condition for these faces, locked; None unless all of them are the person's."""
        chosen = and_(FACES.c.person_id == person_id, _AT.in_(faces))
        await self._lock(connection, chosen)
        number = await connection.scalar(select(func.count()).select_from(FACES).where(chosen))
        return chosen if number == len({*faces}) else None

    async def _lock(self, connection: AsyncConnection, chosen: Any) -> None:
        """Keep others from deleting these faces, and from ending any person.

        Whoever writes an image and its faces has locked its row first, in the order of ids; whoever
        ends a person waits for the other lock last.
        """
        ids = await connection.scalars(select(FACES.c.image_id.distinct()).where(chosen))
        await self._catalog.lock(connection, ids.all())
        await keep_people(connection)

    async def _move(
        self, connection: AsyncConnection, chosen: Any, to: UUID | None, *, removed: bool = False
    ) -> int:
        placed = {"person_id": to, "placed": True, "removed": removed}
        moved = FACES.update().where(chosen).values(**placed)
        return (await connection.execute(moved)).rowcount

    async def _people(self, query: Select[Any]) -> list[Person]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
            if not rows:
                return []
            best = (FACES.c.person_id, FACES.c.confidence.desc(), FACES.c.image_id, FACES.c.order)
            covers = (
                _FACES.distinct(FACES.c.person_id)
                .where(FACES.c.person_id.in_([row.id for row in rows]))
                .order_by(*best)
            )
            cover = {row.person_id: _face(row) for row in await connection.execute(covers)}
        return [
            Person(row.id, row.name, row.faces, row.images, cover[row.id])
            for row in rows
            if row.id in cover
        ]


def _is_called(part: str) -> ColumnElement[bool]:
    return PEOPLE.c.name.icontains(part, autoescape=True) if part else true()


def _counted() -> Select[Any]:
    return (
        select(
            PEOPLE.c.id,
            PEOPLE.c.name,
            func.count().label("faces"),
            func.count(FACES.c.image_id.distinct()).label("images"),
        )
        .join(FACES, FACES.c.person_id == PEOPLE.c.id)
        .group_by(PEOPLE.c.id)
    )


def _face(row: Row[Any]) -> PersonFace:
    box = Box(row.x, row.y, row.width, row.height)
    return PersonFace(row.image_id, row.order, box, row.image_width, row.image_height)
