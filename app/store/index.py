"""The index: a database, the encoders it is searched with, and the tables of all.

What only counts or describes it opens no more than this.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from app.encoding.encoder import Encoder
from app.encoding.loading import Encoders, load_encoders
from app.settings import VERSION, Settings
from app.store.catalog import OUTDATED, Catalog
from app.store.database import Database, open_database
from app.store.encoders import indexed_encoders, record_encoder
from app.store.hashes import HashTable
from app.store.keypoints import KeypointTable
from app.store.milvus.applying import applying
from app.store.milvus.client import Milvus
from app.store.milvus.stats import MilvusStats, milvus_stats
from app.store.sizes import Sizes, TableSize
from app.store.spaces import Space, Spaces, open_spaces
from app.store.thumbnails import ThumbnailFiles, Thumbnails
from app.store.trash import TrashTable


class EncoderStats(BaseModel):
    """An encoder in use, and how many images share how many inference calls."""

    name: str
    precision: str
    dimensions: int
    text: bool = Field(description="Whether it embeds text.")
    provider: str = Field(description="The processor that really embeds images: cpu, cuda, …")
    largest_batch: int = Field(description="The most images that it embeds at once.")
    images_embedded: int
    image_calls: int

    @classmethod
    def of(cls, encoder: Encoder) -> "EncoderStats":
        """Return what there is to say of an encoder."""
        return cls(
            name=encoder.model.name,
            precision=encoder.model.precision,
            dimensions=encoder.dimensions,
            text=encoder.has_text,
            provider=encoder.model.provider,
            largest_batch=encoder.model.largest_batch,
            images_embedded=encoder.images.items,
            image_calls=encoder.images.calls,
        )


class TableStats(BaseModel):
    """A table: the images, their keypoints, the trash, or the vectors of one encoder."""

    name: str
    rows: int = Field(description="Counted up to 10,000, estimated beyond.")
    bytes: int = Field(description="Its size on disk, with its indexes.")
    encoder: str | None = Field(
        description="The encoder of its vectors; null for tables of other things, and if its first "
        "`reindex` did not finish."
    )
    in_use: bool = Field(description="Whether this server reads it.")


class KeypointStats(BaseModel):
    """How far the keypoints are, which workers make in the background after indexing."""

    made: int = Field(description="Images whose keypoints are made; searches make what they need.")
    of: int


class StatsResponse(BaseModel):
    """What the server holds, and with which encoders."""

    images: int
    trash: int = Field(description="Images in the trash, which nothing else counts.")
    vectors: int = Field(description="Images embedded with the encoder in use.")
    copy_vectors: int | None = Field(
        description="Images embedded with the copy encoder; null where `encoder` serves for both."
    )
    outdated: int = Field(
        description="Images that an older version read: a refresh or upload reads them better."
    )
    keypoints: KeypointStats
    unhashed: int = Field(
        description="Images whose hashes workers are still to make, as older versions had none: "
        "until then, mirrored and turned duplicates of them may be missed."
    )
    encoder: EncoderStats = Field(description="The encoder that sees what an image shows.")
    copy_encoder: EncoderStats | None = Field(
        description="The encoder that knows the same image again; null where `encoder` does both."
    )
    tables: list[TableStats] = Field(
        description="`lookalike model drop` drops the vectors of an encoder that is not in use."
    )
    database: Literal["embedded", "given"]
    milvus: MilvusStats | None = Field(
        description="The Milvus that has the index of vectors; null where Postgres has it."
    )
    version: str


@dataclass(frozen=True, slots=True)
class Index:
    """The opened parts that all others need."""

    database: Database
    spaces: Spaces
    catalog: Catalog
    sizes: Sizes
    keypoints: KeypointTable
    hashes: HashTable
    trash: TrashTable
    thumbnails: Thumbnails
    milvus: Milvus | None = None

    def use_encoder(self) -> None:
        """Record the encoders as those in use; ENCODER=auto then chooses the last, the semantic."""
        with self.database.set_up() as connection:
            for space in self.spaces.all:
                record_encoder(
                    connection,
                    source=space.encoder.source,
                    name=space.name,
                    fingerprint=space.encoder.model.fingerprint,
                    dimensions=space.encoder.dimensions,
                    vector_table=space.vectors.table.name,
                )

    async def stats(self) -> StatsResponse:
        """Return how much is indexed, and with which encoders."""
        copy, semantic = self.spaces.copy, self.spaces.semantic
        are_one = self.spaces.are_one
        keypoints = await self.keypoints.made()
        return StatsResponse(
            images=await self.catalog.count(),
            trash=await self.trash.count(),
            vectors=await semantic.vectors.count(),
            copy_vectors=None if are_one else await copy.vectors.count(),
            outdated=await self.catalog.count(OUTDATED),
            keypoints=KeypointStats(made=keypoints.made, of=keypoints.of),
            unhashed=await self.hashes.count_missing(),
            encoder=EncoderStats.of(semantic.encoder),
            copy_encoder=None if are_one else EncoderStats.of(copy.encoder),
            tables=[self._table(size) for size in await self.sizes.tables()],
            database="embedded" if self.database.embedded else "given",
            milvus=await self.milvus_stats(),
            version=VERSION,
        )

    async def milvus_stats(self) -> MilvusStats | None:
        """Return whether Milvus answers, and what it is to be told; None if it is not used."""
        indexes = [space.vectors.outside for space in self.spaces.all]
        return await milvus_stats(self.database, self.milvus, indexes)

    def _table(self, size: TableSize) -> TableStats:
        return TableStats(
            name=size.name,
            rows=size.rows.number,
            bytes=size.bytes,
            encoder=(size.vectors.name or None) if size.vectors else None,
            in_use=size.vectors is None
            or any(size.name == space.vectors.table.name for space in self.spaces.all),
        )


@asynccontextmanager
async def open_index(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    encoders: Encoders | None = None,
    in_use: bool = True,
    files: ThumbnailFiles | None = None,
) -> AsyncGenerator[Index]:
    """Open the database, the encoders and their tables; close them on leaving.

    `announce` is called with one line for each slow step and each decision. Given `encoders` are
    not closed. With `in_use=False`, for a reindex, ENCODER=auto keeps choosing the encoder it chose
    before, and the copy encoder is there even if the index has no vectors of it. Without `files`,
    thumbnails in MEDIA_URL cannot be read.

    Opening blocks the event loop, which has no other tasks yet, so that Ctrl-C stops a download.
    Raises a `StartProblem`.
    """
    milvus = Milvus.of(settings)
    async with AsyncExitStack() as stack:
        database = open_database(settings, announce=announce)
        stack.push_async_callback(database.close)
        if encoders is None:
            encoders = _open_encoders(settings, database, announce, completing=not in_use)
            stack.callback(encoders.close)
        thumbnails = Thumbnails(files)
        index = Index(
            database,
            open_spaces(
                database,
                encoders,
                wanted=settings.vector_index,
                milvus=milvus,
                announce=announce,
            ),
            Catalog(database, thumbnails),
            Sizes(database),
            KeypointTable(database, thumbnails),
            HashTable(database, thumbnails),
            TrashTable(database, thumbnails),
            thumbnails,
            milvus,
        )
        if milvus is not None:
            await stack.enter_async_context(applying(database, milvus))
        if in_use:
            index.use_encoder()
            await _announce_outdated(index, announce)
        yield index


def _open_encoders(
    settings: Settings,
    database: Database,
    announce: Callable[[str], None],
    *,
    completing: bool,
) -> Encoders:
    """Load the encoders that the settings and the existing vectors call for."""
    with database.set_up() as connection:
        indexed = indexed_encoders(connection)
    return load_encoders(settings, indexed=indexed, announce=announce, completing=completing)


async def _announce_outdated(index: Index, announce: Callable[[str], None]) -> None:
    """Announce how many images searches miss until `reindex` has run."""
    outdated = await index.catalog.count(OUTDATED)
    if outdated:
        announce(
            f"{outdated} images were read by an older version, which shows some of them in other "
            "colours, or otherwise than viewers do: run `lookalike refresh`, and index or upload "
            "again those that are not on the web"
        )
    images = await index.catalog.count()
    for space in index.spaces.all:
        await _announce_missing(space, images, announce, spaces=index.spaces)


async def _announce_missing(
    space: Space, images: int, announce: Callable[[str], None], *, spaces: Spaces
) -> None:
    bare = await space.vectors.count_without_facets()
    if bare:
        announce(
            f"{bare} images were indexed by an older version and filters do not find them: "
            "run `lookalike reindex`"
        )
    missing = images - await space.vectors.count()
    if missing <= 0:
        return
    if space is spaces.semantic:
        announce(
            f"{missing} images were embedded with another encoder, or another version of it, and "
            "searches do not find them: run `lookalike reindex`"
        )
    else:
        announce(
            f"{missing} images have no copy vector, so their altered copies are found less well: "
            "run `lookalike reindex --copy`"
        )
