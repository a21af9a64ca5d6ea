"""Faces of images that are in the index already."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from app.faces.face import Finder, Found
from app.indexing.coalescer import gather
from app.indexing.indexer import Indexer
from app.indexing.people_maker import PeopleMaker
from app.pictures.decoding import Decoder
from app.problems import PictureProblem
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.faces import FaceTable
from app.store.images import ImageRow

BATCH = 16


@dataclass(frozen=True, slots=True)
class Looked:
    """In how many images faces were looked for; in how many of them only in the thumbnail."""

    images: int
    thumbnails: int


class FaceMaker:
    """Looks for faces in the originals of images; where one cannot be had, in its thumbnail."""

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        table: FaceTable,
        finder: Finder,
        indexer: Indexer,
        decoder: Decoder,
        people: PeopleMaker,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._table = table
        self._finder = finder
        self._indexer = indexer
        self._decoder = decoder
        self._people = people

    @property
    def finder(self) -> Finder:
        """What looks for faces."""
        return self._finder

    async def run(self) -> AsyncGenerator[Looked]:
        """Look for faces wherever it was not done at this level; yields the progress.

        What was done is kept, if this is ended. Raises `MissingPackage` if the models cannot be
        loaded.
        """
        await asyncio.to_thread(self._finder.load)
        after: UUID | None = None
        images = thumbnails = 0
        while ids := await self._table.waiting(self._finder.level, after=after, limit=BATCH):
            read = await self._catalog.thumbnails(ids=ids, limit=BATCH)
            rows = [(image, thumbnail) for image, thumbnail in read if thumbnail]
            looked = await gather([self._look(image, thumbnail) for image, thumbnail in rows])
            found = {image.id: faces for (image, _), (faces, _) in zip(rows, looked, strict=True)}
            await self._keep([image for image, _ in rows], found)
            images += len(rows)
            thumbnails += sum(not whole for _, whole in looked)
            after = ids[-1]
            yield Looked(images, thumbnails)
        await self._people.run()

    async def _look(self, image: ImageRow, thumbnail: bytes) -> tuple[Found, bool]:
        """Return the faces of an image, and whether they were looked for in its original."""
        original = await self._indexer.original(image)
        if original is not None:
            try:
                return await self._found(original), True
            except PictureProblem:
                pass  # an older version decoded what this one does not
        return await self._found(thumbnail), False

    async def _found(self, data: bytes) -> Found:
        _, found = await self._decoder.decode_and(data, lambda p: self._finder.look(p.image))
        assert found is not None  # noqa: S101 - the models are loaded
        return found

    async def _keep(self, images: list[ImageRow], found: dict[UUID, Found]) -> None:
        async with self._database.begin() as connection:
            now = await self._catalog.lock(connection, [image.id for image in images])
            # Not of images whose bytes have changed meanwhile.
            same = {
                image.id: found[image.id]
                for image in images
                if (row := now.get(image.id)) and row.sha256 == image.sha256
            }
            if same:
                await self._table.keep(connection, same)
                await self._table.label(connection, list(same))
