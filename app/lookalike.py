"""The whole program without a way in: every part, opened in order and closed again.

The server and the commands both stand on it.
"""

import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from app.encoding.encoder import Encoder
from app.encoding.loading import load_encoder
from app.indexing.archive import Archive
from app.indexing.fetcher import Fetcher
from app.indexing.indexer import Indexer
from app.indexing.media import Media
from app.jobs.captions import Captioner
from app.jobs.jobs import Jobs
from app.pictures.decoding import Decoder
from app.search.duplicates import DuplicateFinder
from app.search.resolver import Resolver
from app.search.searcher import Searcher
from app.settings import VERSION, Settings
from app.store.catalog import OUTDATED, Catalog
from app.store.database import Database, open_database
from app.store.encoders import indexed_encoders, record_encoder
from app.store.job_items import JobItems
from app.store.uploads import Uploads
from app.store.vectors import VectorTable


class EncoderStats(BaseModel):
    """The encoder in use, and how well concurrent calls share inference calls."""

    name: str
    precision: str
    dimensions: int
    text: bool = Field(description="Whether it reads text.")
    images_embedded: int
    image_calls: int


class StatsResponse(BaseModel):
    """The server in numbers."""

    images: int
    vectors: int = Field(description="Images that the encoder in use has embedded.")
    outdated: int = Field(
        description="Images that an older version read, and a refresh or upload would read better."
    )
    encoder: EncoderStats
    database: Literal["embedded", "given"]
    version: str


@dataclass(frozen=True, slots=True)
class Lookalike:
    """The parts, ready to use."""

    settings: Settings
    database: Database
    encoder: Encoder
    catalog: Catalog
    vectors: VectorTable
    decoder: Decoder
    fetcher: Fetcher
    indexer: Indexer
    job_items: JobItems
    jobs: Jobs
    searcher: Searcher
    uploads: Uploads
    duplicates: DuplicateFinder
    archive: Archive

    async def stats(self) -> StatsResponse:
        """Return how much is indexed, and with what."""
        encoder = self.encoder
        return StatsResponse(
            images=await self.catalog.count(),
            vectors=await self.vectors.count(),
            outdated=await self.catalog.count(OUTDATED),
            encoder=EncoderStats(
                name=encoder.model.name,
                precision=encoder.model.precision,
                dimensions=encoder.dimensions,
                text=encoder.has_text,
                images_embedded=encoder.images.items,
                image_calls=encoder.images.calls,
            ),
            database="embedded" if self.database.embedded else "given",
            version=VERSION,
        )


@asynccontextmanager
async def open_lookalike(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    encoder: Encoder | None = None,
    in_use: bool = True,
) -> AsyncGenerator[Lookalike]:
    """Open the database and the encoder; `announce` is told what takes time or was decided.

    An `encoder` that is given is the caller's to close. Unless the encoder is `in_use`, it is not
    the one that ENCODER=auto chooses from now on.

    Opening blocks the event loop, on which nothing else runs yet, so that Ctrl-C ends a download.

    Raises a `StartProblem`.
    """
    async with AsyncExitStack() as stack:
        database = open_database(settings)
        stack.push_async_callback(database.close)
        if encoder is None:
            encoder = open_encoder(settings, database, announce)
            stack.callback(encoder.close)
        vectors = open_vectors(database, encoder)
        lookalike = await _open_parts(stack, settings, database, encoder, vectors)
        if in_use:
            use_encoder(database, encoder, vectors)
            await _announce_outdated(lookalike, announce)
        yield lookalike


async def _open_parts(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    encoder: Encoder,
    vectors: VectorTable,
) -> Lookalike:
    """Open what stands on the database and the encoder; the stack closes it."""
    threads = ThreadPoolExecutor(os.cpu_count() or 1, "decode")
    stack.callback(threads.shutdown)
    decoder = Decoder(threads, max_pixels=settings.max_pixels, model_side=encoder.model.side)
    fetcher = Fetcher(
        allow=settings.fetch_allow,
        timeout_s=settings.fetch_timeout_s,
        max_bytes=settings.max_upload_bytes,
    )
    stack.push_async_callback(fetcher.close)
    catalog, job_items = Catalog(database), JobItems(database)
    uploads = Uploads(database, decoder)
    indexer = Indexer(
        database=database,
        catalog=catalog,
        vectors=vectors,
        job_items=job_items,
        encoder=encoder,
        decoder=decoder,
        fetcher=fetcher,
        media=Media(settings.media_url or str(settings.data_dir / "media")),
        max_bytes=settings.max_upload_bytes,
    )
    captioner = Captioner(settings=settings, catalog=catalog, indexer=indexer, job_items=job_items)
    stack.push_async_callback(captioner.close)
    resolver = Resolver(
        catalog=catalog,
        vectors=vectors,
        encoder=encoder,
        decoder=decoder,
        fetcher=fetcher,
        uploads=uploads,
        min_similarity=settings.min_similarity,
    )
    return Lookalike(
        settings=settings,
        database=database,
        encoder=encoder,
        catalog=catalog,
        vectors=vectors,
        decoder=decoder,
        fetcher=fetcher,
        indexer=indexer,
        job_items=job_items,
        jobs=Jobs(
            database=database,
            job_items=job_items,
            indexer=indexer,
            captioner=captioner,
            retry_s=settings.retry_s,
            worker_timeout_s=settings.worker_timeout_s,
        ),
        searcher=Searcher(catalog=catalog, vectors=vectors, encoder=encoder, resolver=resolver),
        uploads=uploads,
        duplicates=DuplicateFinder(catalog=catalog, vectors=vectors),
        archive=Archive(database=database, catalog=catalog, vectors=vectors, encoder=encoder),
    )


async def _announce_outdated(lookalike: Lookalike, announce: Callable[[str], None]) -> None:
    """Say which images searches do not find until `reindex` has run."""
    outdated = await lookalike.catalog.count(OUTDATED)
    if outdated:
        announce(
            f"{outdated} pictures were read by an older version, with other colours or otherwise "
            "than viewers show some of them: run `lookalike refresh`, and index or upload again "
            "those that are not on the web"
        )
    bare = await lookalike.vectors.count_without_facets()
    if bare:
        announce(
            f"{bare} pictures were indexed by an older version, and filters do not find them: "
            "run `lookalike reindex`"
        )
    missing = await lookalike.catalog.count() - await lookalike.vectors.count()
    if missing > 0:
        announce(
            f"{missing} pictures were embedded with another encoder and are not found by this "
            "one: run `lookalike reindex`"
        )


def open_encoder(
    settings: Settings, database: Database, announce: Callable[[str], None]
) -> Encoder:
    """Load the encoder that the settings and the existing index call for."""
    with database.set_up() as connection:
        indexed = indexed_encoders(connection)
    return load_encoder(settings, indexed=indexed, announce=announce)


def open_vectors(database: Database, encoder: Encoder) -> VectorTable:
    """Set up the encoder's vector table."""
    vectors = VectorTable.for_encoder(database, encoder)
    with database.set_up() as connection:
        vectors.set_up(connection)
    return vectors


def use_encoder(database: Database, encoder: Encoder, vectors: VectorTable) -> None:
    """Record that the encoder is in use from now on."""
    with database.set_up() as connection:
        record_encoder(
            connection,
            source=encoder.source,
            name=encoder.model.name,
            fingerprint=encoder.model.fingerprint,
            dimensions=encoder.dimensions,
            vector_table=vectors.table.name,
        )
