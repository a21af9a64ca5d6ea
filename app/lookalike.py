"""The parts of the program, opened in order and closed in reverse order.

The server and the commands both use them.
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
from app.store.catalog import Catalog
from app.store.database import Database, open_database
from app.store.encoders import indexed_encoders, record_encoder
from app.store.job_items import JobItems
from app.store.uploads import Uploads
from app.store.vectors import VectorTable


class EncoderStats(BaseModel):
    """The encoder in use, and how many images share how many inference calls."""

    name: str
    precision: str
    dimensions: int
    text: bool = Field(description="Whether it embeds text.")
    images_embedded: int
    image_calls: int


class StatsResponse(BaseModel):
    """What the server holds, and with which encoder."""

    images: int
    vectors: int = Field(description="Images embedded with the encoder in use.")
    encoder: EncoderStats
    database: Literal["embedded", "given"]
    version: str


@dataclass(frozen=True, slots=True)
class Lookalike:
    """The opened parts of the program."""

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
        """Return how much is indexed, with which encoder and database."""
        encoder = self.encoder
        return StatsResponse(
            images=await self.catalog.count(),
            vectors=await self.vectors.count(),
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
    """Open the database, the encoder and all that depends on them; close them on leaving.

    `announce` is called with one line for each slow step and each decision. A given `encoder` is
    not closed. With `in_use=False`, ENCODER=auto keeps choosing the encoder it chose before.

    Opening blocks the event loop, which has no other tasks yet, so that Ctrl-C stops a download.
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
    """Open the parts that need the database and the encoder; the stack closes them."""
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
    """Announce how many images searches miss until `reindex` has run."""
    without_facets = await lookalike.vectors.count_without_facets()
    if without_facets:
        announce(
            f"{without_facets} images were indexed by an older version and filters do not find "
            "them: run `lookalike reindex`"
        )
    missing = await lookalike.catalog.count() - await lookalike.vectors.count()
    if missing > 0:
        announce(
            f"{missing} images were embedded with another encoder and searches do not find them: "
            "run `lookalike reindex`"
        )


def open_encoder(
    settings: Settings, database: Database, announce: Callable[[str], None]
) -> Encoder:
    """Load the encoder that the settings choose; ENCODER=auto depends on the existing indexes."""
    with database.set_up() as connection:
        indexed = indexed_encoders(connection)
    return load_encoder(settings, indexed=indexed, announce=announce)


def open_vectors(database: Database, encoder: Encoder) -> VectorTable:
    """Return the encoder's vector table, created or upgraded if need be."""
    vectors = VectorTable.for_encoder(database, encoder)
    with database.set_up() as connection:
        vectors.set_up(connection)
    return vectors


def use_encoder(database: Database, encoder: Encoder, vectors: VectorTable) -> None:
    """Record the encoder as the one in use, which ENCODER=auto then chooses."""
    with database.set_up() as connection:
        record_encoder(
            connection,
            source=encoder.source,
            name=encoder.model.name,
            fingerprint=encoder.model.fingerprint,
            dimensions=encoder.dimensions,
            vector_table=vectors.table.name,
        )
