"""Vectors made from the thumbnails of images that have none yet, without fetching anything."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from app.encoding.encoder import Vector
from app.indexing.coalescer import gather
from app.pictures.decoding import Decoder
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.images import Entry, ImageRow
from app.store.spaces import Space, embed, prepare
from app.store.vectors import NewVector


class Reindexer:
    """Makes the vectors that images lack, of the spaces that are asked for and no others."""

    def __init__(self, *, database: Database, catalog: Catalog, decoder: Decoder) -> None:
        self._database = database
        self._catalog = catalog
        self._decoder = decoder

    async def run(self, spaces: Sequence[Space], *, batch: int = 64) -> AsyncGenerator[int]:
        """Embed the thumbnails of images that have no vector, or an old one, in these spaces.

        Vectors of an older version are kept, and get the columns that filters use. Yields the
        number of images checked so far.
        """
        checked, after = 0, None
        while rows := await self._catalog.thumbnails(after=after, limit=batch):
            checked, after = checked + len(rows), rows[-1][0].id
            while rows:
                rows = await self._embed_missing(spaces, rows)
            yield checked

    async def _embed_missing(
        self, spaces: Sequence[Space], rows: Sequence[tuple[ImageRow, bytes]]
    ) -> Sequence[tuple[ImageRow, bytes]]:
        """Embed the thumbnails that need it; return the images whose bytes changed meanwhile."""
        # The vectors to keep, and None for those to make, of each image that lacks something.
        lacking: dict[UUID, dict[Space, Vector | None]] = {}
        for space in spaces:
            for image_id, vector in (await _lacking(space, [image for image, _ in rows])).items():
                lacking.setdefault(image_id, {})[space] = vector
        new = await gather(
            [
                self._from_thumbnail(image, thumbnail, lacking[image.id])
                for image, thumbnail in rows
                # Of one that is lost, nothing can be made.
                if image.id in lacking and thumbnail
            ]
        )
        if not new:
            return []
        async with self._database.begin() as connection:
            now = await self._catalog.lock(connection, [image.id for image, _ in new])
            same = [
                (image, made)
                for image, made in new
                if (row := now.get(image.id)) and row.sha256 == image.sha256
            ]
            if same:
                colours = {image.id: image.colours for image, _ in same}
                await self._catalog.set_colours(connection, colours)
            for space in spaces:
                # What is said of them may have changed, too.
                vectors = [
                    NewVector(
                        Entry(i.url).over(now[i.id]), i, i.sha256, made[space], now[i.id].face_count
                    )
                    for i, made in same
                    if space in made
                ]
                if vectors:
                    await space.vectors.upsert(connection, vectors)
        changed = now.keys() - {image.id for image, _ in same}
        if not changed:
            return []
        return await self._catalog.thumbnails(ids=list(changed), limit=len(rows))

    async def _from_thumbnail(
        self, image: ImageRow, thumbnail: bytes, wanted: dict[Space, Vector | None]
    ) -> tuple[ImageRow, dict[Space, Vector]]:
        """Return the image, with colours, and its vectors of the spaces that are wanted."""
        missing = [space for space, vector in wanted.items() if vector is None]
        picture, prepared = await self._decoder.decode_and(thumbnail, partial(prepare, missing))
        kept = {space: vector for space, vector in wanted.items() if vector is not None}
        colours = image.colours or picture.colours
        return replace(image, colours=colours), {**kept, **await embed(prepared)}


async def _lacking(space: Space, images: Sequence[ImageRow]) -> dict[UUID, Vector | None]:
    """Return the images whose row in a table is not as it should be, with the vector to keep."""
    embedded = await space.vectors.embedded([image.id for image in images])
    current = [image.id for image in images if embedded.get(image.id) == image.sha256]
    bare = await space.vectors.without_facets(current)
    return {
        image.id: bare.get(image.id)
        for image in images
        if image.id in bare or embedded.get(image.id) != image.sha256
    }
