"""The faces of images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
from sqlalchemy import Connection, Row, bindparam, delete, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.faces.face import LEVELS, VERSION, Box, Face, Found, Level, Traits
from app.store.cascade import tables
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.descriptions import describe
from app.store.images import Entry, ImageRow
from app.store.tables import FACES, IMAGES, PEOPLE

FaceId: TypeAlias = tuple[UUID, int]
"""Which face: the image, and the place from the left."""

# Of an image that is looked at again, boxes that share so much are those of one face.
SAME_BOX = 0.5


@dataclass(frozen=True, slots=True)
class StoredFace:
    """A face of an image in the index: the `order`-th from the left, from 0 on."""

    image_id: UUID
    order: int
    face: Face


@dataclass(frozen=True, slots=True)
class Progress:
    """In how many images faces were looked for, of how many."""

    made: int
    of: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Of how many images how many faces were erased."""

    images: int
    faces: int


class FaceTable:
    """Reads and writes the faces of images."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    async def keep(self, connection: AsyncConnection, found: Mapping[UUID, Found]) -> None:
        """Replace the faces of images, whose rows the transaction has locked or written.

        A face that was there before, at the same place, stays the same person's. What filters know
        of them is left to `label`, or to whoever stores their vectors.
        """
        gone = delete(FACES).where(FACES.c.image_id.in_(found)).returning(FACES)
        before = _by_image(await connection.execute(gone))
        rows = [
            _values(image_id, order, face) | placing
            for image_id, looked in sorted(found.items())
            for order, (face, placing) in enumerate(_placed(looked.faces, before.get(image_id, [])))
        ]
        if rows:
            await connection.execute(FACES.insert(), rows)
        await connection.execute(
            IMAGES.update()
            .where(IMAGES.c.id == bindparam("image_id"))
            .values(face_count=bindparam("number"), faces_made=bindparam("made")),
            [
                {"image_id": i, "number": len(looked.faces), "made": _mark(looked.level)}
                for i, looked in sorted(found.items())
            ],
        )

    async def of(self, ids: Sequence[UUID]) -> dict[UUID, list[StoredFace]]:
        """Return the faces of images, from left to right, without images that have none."""
        query = (
            select(FACES).where(FACES.c.image_id.in_(ids)).order_by(FACES.c.image_id, FACES.c.order)
        )
        async with self._database.reading() as connection:
            rows = _by_image(await connection.execute(query))
        return {image_id: [_stored(row) for row in some] for image_id, some in rows.items()}

    async def waiting(self, level: Level, *, after: UUID | None, limit: int) -> list[UUID]:
        """Return images in which faces have not been looked for at this level, by id."""
        query = select(IMAGES.c.id).where(_unmade(level)).order_by(IMAGES.c.id).limit(limit)
        if after is not None:
            query = query.where(IMAGES.c.id > after)
        async with self._database.reading() as connection:
            return list(await connection.scalars(query))

    async def progress(self, level: Level) -> Progress:
        """Count the images in which faces have been looked for at this level."""
        query = select(func.count().filter(~_unmade(level)), func.count()).select_from(IMAGES)
        async with self._database.reading() as connection:
            return Progress(*(await connection.execute(query)).one())

    async def count(self) -> int:
        """Return the number of faces."""
        async with self._database.reading() as connection:
            return await connection.scalar(select(func.count()).select_from(FACES)) or 0

    async def forget(self, *, batch: int = 1000) -> Forgotten:
        """Erase every face, and all that was made of them."""
        images = faces = 0
        while True:
            async with self._database.begin() as connection:
                chosen = select(IMAGES.c.id).where(IMAGES.c.faces_made.is_not(None)).limit(batch)
                ids = list(await connection.scalars(chosen.order_by(IMAGES.c.id)))
                if not ids:
                    await connection.execute(delete(PEOPLE))
                    await connection.run_sync(_strip_labels)
                    return Forgotten(images, faces)
                locked = list(await self._catalog.lock(connection, ids))
                faces += await self.erase(connection, locked)
            images += len(locked)

    async def erase(self, connection: AsyncConnection, ids: Sequence[UUID]) -> int:
        """Erase the faces of images, whose rows the transaction has locked; return how many."""
        made = IMAGES.c.id.in_(ids), IMAGES.c.faces_made.is_not(None)
        looked_at = list(await connection.scalars(select(IMAGES.c.id).where(*made)))
        if not looked_at:
            return 0
        gone = await connection.execute(delete(FACES).where(FACES.c.image_id.in_(looked_at)))
        none = {"face_count": None, "faces_made": None}
        await connection.execute(IMAGES.update().where(IMAGES.c.id.in_(looked_at)).values(**none))
        await self.label(connection, looked_at)
        return gone.rowcount

    async def label(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        """Tell filters how many faces images have, whose rows the transaction has locked."""
        rows = await self._catalog.lock(connection, ids)
        said = [(row, Entry(row.url).over(row)) for row in rows.values()]
        await describe(connection, said)


def _by_image(rows: Iterable[Row[Any]]) -> dict[UUID, list[Row[Any]]]:
    found: dict[UUID, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.image_id, []).append(row)
    return found


def _placed(
    faces: Sequence[Face], before: Sequence[Row[Any]]
) -> list[tuple[Face, dict[str, object]]]:
    """Return faces with whose they are, by those that an image had before."""
    left = list(before)
    placed: list[tuple[Face, dict[str, object]]] = []
    for face in faces:
        same = max(left, key=lambda row: face.box.overlap(_box(row)), default=None)
        if same is None or face.vector is None or face.box.overlap(_box(same)) < SAME_BOX:
            placed.append((face, {"person_id": None, "placed": False, "removed": False}))
            continue
        left.remove(same)
        names = ("person_id", "placed", "removed")
        placed.append((face, {name: getattr(same, name) for name in names}))
    return placed


def _box(row: Row[Any] | SimpleNamespace) -> Box:
    return Box(row.x, row.y, row.width, row.height)


def _strip_labels(connection: Connection) -> None:
    """Take numbers of faces from the labels of whatever vectors still have some."""
    for name in tables(connection):
        quoted = connection.dialect.identifier_preparer.quote(name)
        connection.execute(
            text(f"""
                UPDATE public.{quoted} SET labels = ARRAY(
                    SELECT label FROM unnest(labels) AS label WHERE NOT starts_with(label, 'faces:')
                ) WHERE EXISTS (
                    SELECT FROM unnest(labels) AS label WHERE starts_with(label, 'faces:')
                )
            """)  # noqa: S608
        )


def _mark(level: Level) -> str:
    return f"{VERSION} {level}"


def _unmade(level: Level) -> Any:
    # What was made at a higher level has what this one needs.
    enough = [_mark(made) for made in LEVELS[LEVELS.index(level) :]]
    return or_(IMAGES.c.faces_made.is_(None), IMAGES.c.faces_made.not_in(enough))


def _values(image_id: UUID, order: int, face: Face) -> dict[str, object]:
    box, traits = face.box, face.traits
    return {
        "image_id": image_id,
        "order": order,
        "x": box.x,
        "y": box.y,
        "width": box.width,
        "height": box.height,
        "confidence": face.confidence,
        "landmarks": [part for point in face.landmarks for part in point],
        "age": traits and traits.age,
        "age_low": traits and traits.age_low,
        "age_high": traits and traits.age_high,
        "gender": traits and traits.gender,
        "gender_confidence": traits and traits.gender_confidence,
        "vector": face.vector,
    }


def read_faces(image: ImageRow) -> list[StoredFace]:
    """Return the faces, without vectors, that were read beside an image."""
    faces = image.beside.faces if image.beside else None
    return [
        _stored(SimpleNamespace(image_id=image.id, vector=None, **face)) for face in faces or ()
    ]


def _stored(row: Row[Any] | SimpleNamespace) -> StoredFace:
    points = list(zip(row.landmarks[::2], row.landmarks[1::2], strict=True))
    traits = None
    if row.age is not None:
        traits = Traits(row.age, row.age_low, row.age_high, row.gender, row.gender_confidence)
    face = Face(
        _box(row),
        row.confidence,
        tuple(points),
        traits,
        None if row.vector is None else np.array(row.vector, np.float32),
    )
    return StoredFace(row.image_id, row.order, face)
