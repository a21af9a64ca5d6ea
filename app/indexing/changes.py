"""Changes of many indexed images, as jobs make them: edits, and moves to the trash and back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from app.indexing.coalescer import gather
from app.indexing.edits import Edit
from app.indexing.indexer import Indexer
from app.indexing.trash import Trash
from app.problems import InvalidRequest, NotFound
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.images import Entry
from app.store.items import Ended, Item
from app.store.job_items import JobItems

GONE = "The image is no longer in the index."
NOT_TRASHED = "The image is no longer in the trash."


_PLURALS = {
    "title": "titles",
    "description": "descriptions",
    "tags": "tags",
    "metadata": "metadata",
}


class Change(BaseModel):
    """What a job does to each of its images.

    What goes to the trash has the time `at` there, by which Undo finds it.
    """

    model_config = ConfigDict(frozen=True)

    do: Literal["edit", "trash", "restore"]
    edit: Edit | None = None
    at: datetime | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.do == "edit") != (self.edit is not None):
            raise ValueError("an edit, and nothing else, has an `edit`")
        if self.do == "trash" and self.at is None:
            raise ValueError("what goes to the trash has a time there")
        return self

    @property
    def title(self) -> str:
        """The title of its job."""
        match self.do:
            case "edit":
                return f"Edit {_PLURALS[self.edit.field]}" if self.edit else "Edit"
            case "trash":
                return "Move to the trash"
            case "restore":
                return "Restore from the trash"


class Changer:
    """Changes images of jobs, each under the lock of its row, and ends their items with it."""

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        indexer: Indexer,
        trash: Trash,
        job_items: JobItems,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._indexer = indexer
        self._trash = trash
        self._job_items = job_items

    async def change(self, items: Sequence[Item]) -> None:
        """Change the images of items, which are of one job; raises `Unavailable`.

        An image that cannot be changed fails alone.
        """
        found = await self._job_items.change(items[0].job_id)
        if found is None:  # The job was deleted meanwhile.
            return
        change = Change.model_validate(found)
        if change.edit is not None:
            await gather([self._edit(item, change.edit) for item in items])
        else:
            await self._move(items, change.at if change.do == "trash" else None)

    async def _edit(self, item: Item, edit: Edit) -> None:
        image = await self._catalog.find(item.entry.id)
        if image is None:
            await self._job_items.fail(item, GONE)
            return
        try:
            await self._indexer.describe(image, Entry(image.url), edit=edit.of, item=item)
        except (NotFound, InvalidRequest) as problem:
            await self._job_items.fail(item, problem.detail)

    async def _move(self, items: Sequence[Item], at: datetime | None) -> None:
        """Move images to the trash, where they have the time `at`, or back from it if that is None.

        What was cancelled by the time that its row is locked stays where it is, so that an Undo
        that cancels first leaves nothing behind.
        """
        ids = [item.entry.id for item in items]
        async with self._database.begin() as connection:
            # Rows of images before those of jobs, as whoever indexes locks them.
            if at is not None:
                await self._catalog.lock(connection, ids)
            waiting = await self._job_items.still_waiting(connection, items)
            wanted = [item.entry.id for item in waiting]
            moved = (
                await self._trash.put_in(connection, wanted, at=at)
                if at is not None
                else await self._trash.table.restore(connection, ids=wanted)
            )
            reason = GONE if at is not None else NOT_TRASHED
            ended = [
                Ended(item, "moved", image_id=item.entry.id)
                if item.entry.id in moved
                else Ended(item, "failed", reason)
                for item in waiting
            ]
            if ended:
                await self._job_items.end(connection, ended)
