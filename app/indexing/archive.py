"""Export and import of the index, with its vectors, as a Parquet file."""

# pyarrow has no types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from app.encoding.encoder import Vector
from app.indexing.archive_rows import Reader, schema_of, table_of
from app.indexing.places import Place
from app.indexing.thumbnail_keeper import ThumbnailKeeper
from app.problems import InvalidRequest, NotAPicture, NotFound, StorageUnavailable
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.hnsw import is_worth_building
from app.store.images import ImageRow, NewImage
from app.store.index_kinds import begin_bulk, end_bulk
from app.store.spaces import Space, Spaces
from app.store.trash import TrashTable
from app.store.vectors import NewVector

# After archive_rows, which says how to install it.
import pyarrow as pa  # isort: skip
import pyarrow.parquet as pq  # isort: skip

ROWS_AT_ONCE = 1000
# In the metadata of a file: the images have ids greater than the first and up to the second.
AFTER, LAST = b"lookalike.after", b"lookalike.last"


@dataclass(frozen=True, slots=True)
class Imported:
    """The number of images imported so far, and how many came with every vector of this index."""

    images: int
    vectors: int


@dataclass(frozen=True, slots=True)
class Span:
    """The ids of the images to write: greater than `after`, up to `upto`, at most `limit`."""

    after: UUID | None = None
    upto: UUID | None = None
    limit: int | None = None

    def end(self, written: int, last: UUID | None) -> UUID | None:
        """Return the id up to which nothing is left, once `written` images up to `last` are."""
        return last if self.upto is None or written == self.limit else self.upto


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file: its rows, what reads them, and its name in messages."""

    file: Any
    reader: Reader
    name: str

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.file.metadata.num_rows


class Archive:
    """Exports the index, without the trash, to a file and imports such files.

    With `bare`, files have no thumbnails. Imported ones go where `thumbnails` puts new ones, else
    into the database.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        spaces: Spaces,
        *,
        thumbnails: ThumbnailKeeper | None = None,
        bare: bool = False,
    ) -> None:
        self._database = database
        self._thumbnails = thumbnails
        self._bare = bare
        self._trash = TrashTable(database)
        self.catalog = catalog
        self.spaces = spaces
        # The vectors of an index by what serves for both are those of the semantic encoder.
        columns = {"vector": spaces.semantic, "copy_vector": spaces.copy}
        self._columns = dict(list(columns.items())[: len(spaces.all)])
        self.schema = schema_of(self._columns)

    async def write(self, path: Path | str) -> AsyncGenerator[int]:
        """Export every image with its thumbnail and vectors; yields the number written so far.

        The file, which may be in a bucket, appears when it is whole.
        """
        with Place(str(path)).written() as file:
            async with aclosing(self.write_rows(file, Span())) as written:
                async for count, _ in written:
                    yield count

    async def write_rows(
        self, file: BinaryIO, span: Span
    ) -> AsyncGenerator[tuple[int, UUID | None]]:
        """Write the images of a span, by id; yields the number written so far and the last id.

        Images that are indexed or deleted meanwhile may be in the file or not; those whose
        thumbnail is lost are not.
        """
        written, last = 0, span.after
        with pq.ParquetWriter(file, self.schema, compression="zstd") as out:
            while rows := await self._rows(span, written, last):
                last = rows[-1][0].id
                rows = [(image, data) for image, data in rows if data or self._bare]
                ids = [image.id for image, _ in rows]
                vectors = {
                    name: await space.vectors.fetch(ids) for name, space in self._columns.items()
                }
                table = await asyncio.to_thread(table_of, rows, vectors, self.schema)
                await asyncio.to_thread(out.write_table, table)
                written += len(rows)
                yield written, last
            # A file of images that are all gone reaches as far as the next one begins.
            last = span.end(written, last)
            ends = {AFTER: str(span.after or ""), LAST: str(last or "")}
            out.add_key_value_metadata(ends)

    async def _rows(
        self, span: Span, written: int, after: UUID | None
    ) -> Sequence[tuple[ImageRow, bytes | None]]:
        limit = ROWS_AT_ONCE if span.limit is None else min(ROWS_AT_ONCE, span.limit - written)
        if limit < 1:
            return []
        rows: Sequence[tuple[ImageRow, bytes | None]]
        if self._bare:
            rows = [(image, None) for image in await self.catalog.walk(after=after, limit=limit)]
        else:
            rows = await self.catalog.thumbnails(after=after, limit=limit)
        return [row for row in rows if span.upto is None or row[0].id <= span.upto]

    async def read(self, path: Path | str) -> AsyncGenerator[Imported]:
        """Upsert every image of a file, which may be in a bucket; yields the progress.

        Vectors of other encoders are skipped; `Reindexer` makes new ones from the thumbnails. A
        large import drops the vector indexes: call `build_index` afterwards. Raises
        `InvalidRequest` if the file is not an export.
        """
        with opened(Place(str(path)), self.spaces.all) as source:
            await self.expect(source.reader.spaces, source.rows)
            async with aclosing(self.read_rows(source)) as reading:
                async for read in reading:
                    yield read

    async def expect(self, spaces: set[Space], rows: int) -> None:
        """Drop the vector indexes that are worth building anew once so many rows are there."""
        for space in spaces:
            if is_worth_building(existing=await space.vectors.count(), coming=rows):
                await begin_bulk(space.vectors)

    async def read_rows(self, source: Source) -> AsyncGenerator[Imported]:
        """Upsert every image of an opened file, a thousand at a time; yields the progress.

        Raises `InvalidRequest`, which names the file and, if it can, the row; what came before is
        stored.
        """
        images = vectors = 0
        batches = source.file.iter_batches(ROWS_AT_ONCE)
        while (rows := await asyncio.to_thread(_next, batches, source.name)) is not None:
            try:
                read = await asyncio.to_thread(source.reader.read, rows, first=images + 1)
                await self._upsert(read)
            except InvalidRequest as problem:
                raise InvalidRequest(f"{source.name}: {problem.detail}") from problem
            images += len(read)
            vectors += sum(source.reader.has_all(given) for _, given in read)
            yield Imported(images, vectors)

    async def build_index(self) -> AsyncGenerator[float]:
        """Build the vector indexes that are missing; yields the share done, 0 to 1."""
        spaces = self.spaces.all
        for place, space in enumerate(spaces):
            async for share in end_bulk(space.vectors):
                yield (place + share) / len(spaces)

    async def _upsert(self, read: Sequence[tuple[NewImage, dict[Space, Vector]]]) -> None:
        """Write images with the vectors that they came with."""
        new = [image for image, _ in read]
        if self._thumbnails:
            pictures = [(image.entry.id, image.picture.thumbnail) for image in new]
            keys = await self._thumbnails.put_all(pictures)
            new = [replace(i, thumbnail_key=key) for i, key in zip(new, keys, strict=True)]
        async with self._database.begin() as connection:
            # With what the file does not have: the vectors of other encoders.
            await self._trash.restore(connection, ids=[image.entry.id for image in new])
            await self.catalog.upsert(connection, new)
            for space in self.spaces.all:
                vectors = [
                    NewVector(image.entry, image.picture, image.picture.sha256, given[space])
                    for image, given in read
                    if space in given
                ]
                if vectors:
                    await space.vectors.upsert(connection, vectors)


def count_images(path: Path | str) -> int:
    """Return the number of images in an export; raises `InvalidRequest`."""
    with opened(Place(str(path)), ()) as source:
        return source.rows


@contextmanager
def opened(
    place: Place, spaces: Sequence[Space], name: str = "", *, shown: str = ""
) -> Generator[Source]:
    """Open a file, or one of a folder, whose columns are as they should be.

    `shown` is its name in messages. Raises `InvalidRequest`.
    """
    shown = shown or place.shown
    try:
        stream = place.open(name)
    except (NotAPicture, NotFound, FileNotFoundError, StorageUnavailable) as exc:
        raise InvalidRequest(f"{shown} cannot be opened: {exc}") from exc
    with stream:
        try:
            file = pq.ParquetFile(stream)
        except (OSError, pa.ArrowException) as exc:
            raise InvalidRequest(f"{shown} is not a Parquet file, or is damaged: {exc}") from exc
        try:
            reader = Reader(file.schema_arrow, spaces)
        except InvalidRequest as problem:
            raise InvalidRequest(
                f"{shown} is not an export of Lookalike: {problem.detail}."
            ) from problem
        yield Source(file, reader, shown)


def _next(batches: Any, name: str) -> list[dict[str, Any]] | None:
    """Return the next rows of a file, or None at its end."""
    try:
        batch = next(batches, None)
        return None if batch is None else batch.to_pylist()
    except (OSError, pa.ArrowException) as exc:
        raise InvalidRequest(f"{name} is damaged, or cannot be read: {exc}") from exc
