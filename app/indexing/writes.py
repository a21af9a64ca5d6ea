"""The transaction that stores images, changes what is said of them, and ends items of jobs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.encoding.encoder import Vector
from app.faces.face import Found
from app.indexing.outcomes import OutcomeStatus
from app.pictures.decoding import Facts
from app.problems import WriteConflict
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.descriptions import Described, describe
from app.store.faces import FaceTable
from app.store.images import Entry, ImageRow, NewImage, Validators
from app.store.items import Ended, Item
from app.store.job_items import JobItems
from app.store.spaces import Embedded, Space, Spaces
from app.store.trash import TrashTable
from app.store.vectors import NewVector


class RowGone(Exception):  # noqa: N818 - not a problem of the client's
    """The image to change was deleted meanwhile."""


class EditEnded(Exception):  # noqa: N818 - not a problem of the client's
    """The item whose edit this is has ended, or was cancelled, meanwhile."""


@dataclass(frozen=True, slots=True)
class Write:
    """An image to write; without `picture` and `vectors`, only what is said of it changes.

    The entry's id is that of the row, if there is one. Whatever the entry leaves out (None), it
    gets from the row as the transaction finds it; with `fills`, it also leaves alone what the row
    already has. With an `edit`, what is to be said is made of the row, instead of the entry.
    `checked` is set if the image was seen to be unchanged, with the SHA-256 and the
    validators that it had. Unless it `creates`, an image that is no longer there is neither made
    nor restored from the trash.
    """

    entry: Entry
    picture: Facts | None = None
    vectors: Embedded = field(default_factory=dict[Space, Vector])
    validators: Validators = field(default_factory=Validators)
    checked: str | None = None
    fills: bool = False
    edit: Callable[[ImageRow], Entry] | None = None
    creates: bool = True
    faces: Found | None = None
    item: Item | None = None
    thumbnail_key: str | None = None


class Writer:
    """Writes images in batches.

    Each row is locked before what depends on it is made, so of two who change different fields of
    one image, each finds what the other wrote.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        spaces: Spaces,
        trash: TrashTable,
        job_items: JobItems,
        faces: FaceTable,
    ) -> None:
        self._database = database
        self._trash = trash
        self._catalog = catalog
        self._spaces = spaces
        self._job_items = job_items
        self._faces = faces

    async def write(self, writes: Sequence[Write]) -> list[OutcomeStatus]:
        """Write images in one transaction; each may occur only once.

        Raises `RowGone`, `EditEnded`, and `WriteConflict` if someone else inserted one of them at
        this moment.
        """
        async with self._database.begin() as connection:
            rows = await self._locked(connection, writes)
            merged = [_merged(write, rows.get(write.entry.id)) for write in writes]
            pairs = list(zip(writes, merged, strict=True))
            new = [
                NewImage(entry, write.picture, write.validators, write.thumbnail_key)
                for write, entry in pairs
                if write.picture
            ]
            inserted = await self._catalog.upsert(connection, new) if new else set[object]()
            # A row that was neither there nor inserted has been replaced unread.
            if any(image.entry.id not in inserted and image.entry.id not in rows for image in new):
                raise WriteConflict
            statuses: list[OutcomeStatus] = []
            described: list[Described] = []
            for write, entry in pairs:
                row = rows.get(entry.id)
                if write.picture:
                    statuses.append("indexed" if entry.id in inserted else "updated")
                    continue
                assert row is not None  # noqa: S101 - _merged has raised RowGone
                if write.checked == row.sha256:
                    await self._catalog.mark_same(connection, entry, write.validators)
                if not entry.describes(row):
                    await self._catalog.describe(connection, entry)
                    described.append((row, entry))
                statuses.append("unchanged" if entry.describes(row) else "updated")
            for space in self._spaces.all:
                new_vectors = [
                    NewVector(
                        entry,
                        write.picture,
                        write.picture.sha256,
                        write.vectors[space],
                        len(write.faces.faces) if write.faces else None,
                    )
                    for write, entry in pairs
                    if write.picture and space in write.vectors
                ]
                if new_vectors:
                    await space.vectors.upsert(connection, new_vectors)
            if described:
                await describe(connection, described)
            found = {entry.id: write.faces for write, entry in pairs if write.faces}
            if found:
                await self._faces.keep(connection, found)
            ended = [
                Ended(write.item, status, image_id=entry.id)
                for (write, entry), status in zip(pairs, statuses, strict=True)
                if write.item
            ]
            if ended:
                await self._check_edits(connection, writes)
                await self._job_items.end(connection, ended)
        return statuses

    async def _check_edits(self, connection: AsyncConnection, writes: Sequence[Write]) -> None:
        """Raise `EditEnded` if an edit is no longer wanted: made again, it would add twice.

        This locks the jobs of all items, and so comes last, as the end of items does.
        """
        if any(write.edit and write.item for write in writes):
            items = [write.item for write in writes if write.item]
            waiting = await self._job_items.still_waiting(connection, items)
            if any(write.edit and write.item and write.item not in waiting for write in writes):
                raise EditEnded

    async def _locked(
        self, connection: AsyncConnection, writes: Sequence[Write]
    ) -> dict[UUID, ImageRow]:
        """Lock the rows of images, those in the trash too, and return them by id."""
        rows = await self._catalog.lock(connection, [write.entry.id for write in writes])
        # Asked once their rows are locked: whoever moved one to the trash has done so by now.
        new = [w.entry.id for w in writes if w.creates and w.entry.id not in rows]
        if new and (restored := await self._trash.restore(connection, ids=new)):
            rows |= await self._catalog.lock(connection, restored)
        return rows


def _merged(write: Write, row: ImageRow | None) -> Entry:
    if row is None and not (write.picture and write.creates):
        raise RowGone
    entry = write.entry.filling(row) if row and write.fills else write.entry
    if row and write.edit:
        entry = write.edit(row)
    return entry.over(row)
