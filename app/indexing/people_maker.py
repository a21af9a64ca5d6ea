"""New faces find their people: the rule, and who applies it.

A face joins the person of the face nearest to it, if that is near enough and another face of that
person is not far, either: one odd photo does not join two people. Two faces that are near each
other and no one's are a new person, without a name. What is placed is not moved again. A
face that someone has removed from a person stays no one's, and what is most like it joins no one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np

from app.faces.face import SAME_FACE, SAME_PERSON
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.faces import FaceId
from app.store.placing import (
    Neighbour,
    NewFace,
    add_people,
    give,
    hold,
    keep_people,
    neighbours,
    new_faces,
    place_lock,
    sizes_of,
)

BATCH = 200
# Who opens the page of people places so many at most; the next one goes on.
MOST_AT_ONCE = 1000


class PeopleMaker:
    """Places new faces."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    async def run(self, *, most: int | None = None) -> int:
        """Place new faces, about `most` at the most; return how many were placed."""
        placed = 0
        while most is None or placed < most:
            number = await self._batch()
            if not number:
                break
            placed += number
        return placed

    async def _batch(self) -> int:
        async with self._database.begin() as connection:
            await place_lock(connection)
            faces = await new_faces(connection, self._catalog, limit=BATCH)
            if not faces:
                return 0
            near = await neighbours(connection, faces)
            found = [n for some in near.values() for n in some]
            free = await hold(
                connection, {n.id for n in found if n.person is None and not n.removed}
            )
            await keep_people(connection)
            sizes = await sizes_of(connection, {n.person for n in found if n.person is not None})
            given: dict[FaceId, UUID | None] = {}
            made: list[UUID] = []
            for place, face in enumerate(faces):
                # Without people that have ended meanwhile.
                there = [
                    n
                    for n in near.get(face.id, ())
                    if n.person in sizes or n.id in free or n.removed
                ]
                known = [_now(n, given) for n in there]
                known += _between(face, faces[:place], given)
                person, founder = person_of(known, sizes)
                if founder is not None:
                    person = uuid4()
                    made.append(person)
                    given[founder.id] = person
                    sizes[person] = 1
                given[face.id] = person
                if person is not None:
                    sizes[person] = sizes.get(person, 0) + 1
            await add_people(connection, made)
            await give(connection, list(given.items()))
        return len(faces)


def person_of(
    known: Sequence[Neighbour], sizes: Mapping[UUID, int]
) -> tuple[UUID | None, Neighbour | None]:
    """Return whose a face is that has these neighbours: a person's, or a new one's with another.

    `sizes` are how many faces each person has.
    """
    nearest = max(known, key=lambda n: (n.similarity, n.id), default=None)
    if nearest is None or nearest.similarity < SAME_PERSON:
        return None, None
    if nearest.removed:
        # Not whoever is next to it: it may be the person that the nearest face is not.
        free = [n for n in known if n.person is None and not n.removed]
        other = max(free, key=lambda n: (n.similarity, n.id), default=None)
        return None, other if other is not None and other.similarity >= SAME_PERSON else None
    if nearest.person is None:
        return None, nearest
    theirs = [n for n in known if n.person == nearest.person and n.similarity >= SAME_FACE]
    return (nearest.person, None) if len(theirs) >= min(2, sizes[nearest.person]) else (None, None)


def _now(neighbour: Neighbour, given: Mapping[FaceId, UUID | None]) -> Neighbour:
    person = given.get(neighbour.id, neighbour.person)
    return replace(neighbour, person=person)


def _between(
    face: NewFace, others: Sequence[NewFace], given: Mapping[FaceId, UUID | None]
) -> list[Neighbour]:
    """Return those placed before in the same batch, but for those in the same image."""
    others = [other for other in others if other.id[0] != face.id[0]]
    if not others:
        return []
    cosines = np.array([other.vector for other in others]) @ face.vector
    return [
        Neighbour(other.id, float(cosine), given[other.id])
        for other, cosine in zip(others, cosines, strict=True)
        if cosine >= SAME_FACE
    ]
