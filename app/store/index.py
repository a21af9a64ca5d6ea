"""The index: a database, the encoder it is searched with, and the tables of both.

What only counts or describes it opens no more than this.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from app.encoding.encoder import Encoder
from app.encoding.loading import load_encoder
from app.settings import VERSION, Settings
from app.store.catalog import OUTDATED, Catalog
from app.store.database import Database, open_database
from app.store.encoders import indexed_encoders, record_encoder
from app.store.keypoints import KeypointTable
from app.store.sizes import Sizes, TableSize
from app.store.trash import TrashTable
from app.store.vectors import VectorTable


class EncoderStats(BaseModel):
    """The encoder in use, and how many images share how many inference calls."""

    name: str
    precision: str
    dimensions: int
    text: bool = Field(description="Whether it embeds text.")
    provider: str = Field(description="The processor that really embeds images: cpu, cuda, …")
    largest_batch: int = Field(description="The most images that it embeds at once.")
    images_embedded: int
    image_calls: int


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
    """What the server holds, and with which encoder."""

    images: int
    trash: int = Field(description="Images in the trash, which nothing else counts.")
    vectors: int = Field(description="Images embedded with the encoder in use.")
    outdated: int = Field(
        description="Images that an older version read: a refresh or upload reads them better."
    )
    keypoints: KeypointStats
    encoder: EncoderStats
    tables: list[TableStats] = Field(
        description="`lookalike model drop` drops the vectors of an encoder that is not in use."
    )
    database: Literal["embedded", "given"]
    version: str


@dataclass(frozen=True, slots=True)
class Index:
    """The opened parts that all others need."""

    database: Database
    encoder: Encoder
    catalog: Catalog
    vectors: VectorTable
    sizes: Sizes
    keypoints: KeypointTable
    trash: TrashTable

    def use_encoder(self) -> None:
        """Record the encoder as the one in use, which ENCODER=auto then chooses."""
        with self.database.set_up() as connection:
            record_encoder(
                connection,
                source=self.encoder.source,
                name=self.encoder.model.name,
                fingerprint=self.encoder.model.fingerprint,
                dimensions=self.encoder.dimensions,
                vector_table=self.vectors.table.name,
            )

    async def stats(self) -> StatsResponse:
        """Return how much is indexed, and with which encoder."""
        encoder = self.encoder
        keypoints = await self.keypoints.made()
        return StatsResponse(
            images=await self.catalog.count(),
            trash=await self.trash.count(),
            vectors=await self.vectors.count(),
            outdated=await self.catalog.count(OUTDATED),
            keypoints=KeypointStats(made=keypoints.made, of=keypoints.of),
            encoder=EncoderStats(
                name=encoder.model.name,
                precision=encoder.model.precision,
                dimensions=encoder.dimensions,
                text=encoder.has_text,
                provider=encoder.model.provider,
                largest_batch=encoder.model.largest_batch,
                images_embedded=encoder.images.items,
                image_calls=encoder.images.calls,
            ),
            tables=[self._table(size) for size in await self.sizes.tables()],
            database="embedded" if self.database.embedded else "given",
            version=VERSION,
        )

    def _table(self, size: TableSize) -> TableStats:
        return TableStats(
            name=size.name,
            rows=size.rows.number,
            bytes=size.bytes,
            encoder=(size.vectors.name or None) if size.vectors else None,
            in_use=size.vectors is None or size.name == self.vectors.table.name,
        )


@asynccontextmanager
async def open_index(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    encoder: Encoder | None = None,
    in_use: bool = True,
) -> AsyncGenerator[Index]:
    """Open the database, the encoder and their tables; close them on leaving.

    `announce` is called with one line for each slow step and each decision. A given `encoder` is
    not closed. With `in_use=False`, ENCODER=auto keeps choosing the encoder it chose before.

    Opening blocks the event loop, which has no other tasks yet, so that Ctrl-C stops a download.
    Raises a `StartProblem`.
    """
    async with AsyncExitStack() as stack:
        database = open_database(settings, announce=announce)
        stack.push_async_callback(database.close)
        if encoder is None:
            encoder = _open_encoder(settings, database, announce)
            stack.callback(encoder.close)
        index = Index(
            database,
            encoder,
            Catalog(database),
            open_vectors(database, encoder),
            Sizes(database),
            KeypointTable(database),
            TrashTable(database),
        )
        if in_use:
            index.use_encoder()
            await _announce_outdated(index, announce)
        yield index


def open_vectors(database: Database, encoder: Encoder) -> VectorTable:
    """Return the encoder's vector table, created or upgraded if need be."""
    vectors = VectorTable.for_encoder(database, encoder)
    with database.set_up() as connection:
        vectors.set_up(connection)
    return vectors


def _open_encoder(
    settings: Settings, database: Database, announce: Callable[[str], None]
) -> Encoder:
    """Load the encoder that the settings choose; ENCODER=auto depends on the existing indexes."""
    with database.set_up() as connection:
        indexed = indexed_encoders(connection)
    return load_encoder(settings, indexed=indexed, announce=announce)


async def _announce_outdated(index: Index, announce: Callable[[str], None]) -> None:
    """Announce how many images searches miss until `reindex` has run."""
    outdated = await index.catalog.count(OUTDATED)
    if outdated:
        announce(
            f"{outdated} images were read by an older version, which shows some of them in other "
            "colours, or otherwise than viewers do: run `lookalike refresh`, and index or upload "
            "again those that are not on the web"
        )
    bare = await index.vectors.count_without_facets()
    if bare:
        announce(
            f"{bare} images were indexed by an older version and filters do not find them: "
            "run `lookalike reindex`"
        )
    missing = await index.catalog.count() - await index.vectors.count()
    if missing > 0:
        announce(
            f"{missing} images were embedded with another encoder and searches do not find them: "
            "run `lookalike reindex`"
        )
