"""The whole program without a way in: every part, opened in order and closed again.

The server and the commands both stand on it.
"""

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.archive import Archive
from app.captions import Captioner
from app.catalog import Catalog
from app.clip import ClipModel
from app.database import Database, open_database
from app.download import Fetcher
from app.duplicates import DuplicateFinder
from app.encoder import Encoder
from app.encoders import indexed_encoders, record_encoder
from app.indexing import Indexer
from app.job_items import JobItems
from app.jobs import Jobs
from app.media import Media
from app.pictures import Decoder
from app.quantization import load
from app.resolver import Resolver
from app.search import Searcher
from app.settings import Settings
from app.store import ImageVectorStore
from app.uploads import Uploads
from app.weights import BUILTIN, find_weights

LLAMAINDEX = "llamaindex:"


@dataclass(frozen=True, slots=True)
class Lookalike:
    """The parts, ready to use."""

    settings: Settings
    database: Database
    encoder: Encoder
    catalog: Catalog
    store: ImageVectorStore
    decoder: Decoder
    fetcher: Fetcher
    indexer: Indexer
    job_items: JobItems
    jobs: Jobs
    searcher: Searcher
    uploads: Uploads
    duplicates: DuplicateFinder
    archive: Archive


@asynccontextmanager
async def open_lookalike(
    settings: Settings, *, announce: Callable[[str], None], in_use: bool = True
) -> AsyncGenerator[Lookalike]:
    """Open the database and the encoder; `announce` is told what takes time or was decided.

    Unless it is `in_use`, the encoder is not the one that ENCODER=auto chooses from now on.

    Opening blocks the event loop, on which nothing else runs yet, so that Ctrl-C ends a download.

    Raises a `StartProblem`.
    """
    async with AsyncExitStack() as stack:
        database = open_database(settings)
        stack.push_async_callback(database.close)
        encoder = open_encoder(settings, database, announce)
        stack.callback(encoder.close)
        threads = ThreadPoolExecutor(os.cpu_count() or 1, "decode")
        stack.callback(threads.shutdown)
        fetcher = Fetcher(
            allow=settings.fetch_allow,
            timeout_s=settings.fetch_timeout_s,
            max_bytes=settings.max_upload_bytes,
        )
        stack.push_async_callback(fetcher.close)
        store = open_store(database, encoder)
        if in_use:
            use_encoder(database, encoder, store)
        catalog = Catalog(database)
        decoder = Decoder(threads, max_pixels=settings.max_pixels, model_side=encoder.model.side)
        job_items = JobItems(database)
        uploads = Uploads(database, decoder)
        indexer = Indexer(
            database=database,
            catalog=catalog,
            store=store,
            job_items=job_items,
            encoder=encoder,
            decoder=decoder,
            fetcher=fetcher,
            media=Media(settings.media_url or str(settings.data_dir / "media")),
            max_bytes=settings.max_upload_bytes,
        )
        captioner = Captioner(
            settings=settings, catalog=catalog, indexer=indexer, job_items=job_items
        )
        stack.push_async_callback(captioner.close)
        lookalike = Lookalike(
            settings=settings,
            database=database,
            encoder=encoder,
            catalog=catalog,
            store=store,
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
            searcher=Searcher(
                catalog=catalog,
                store=store,
                encoder=encoder,
                resolver=Resolver(
                    catalog=catalog,
                    store=store,
                    encoder=encoder,
                    decoder=decoder,
                    fetcher=fetcher,
                    uploads=uploads,
                    min_similarity=settings.min_similarity,
                ),
            ),
            uploads=uploads,
            duplicates=DuplicateFinder(catalog=catalog, store=store),
            archive=Archive(database=database, catalog=catalog, store=store, encoder=encoder),
        )
        bare = await store.count_without_facets()
        if bare and in_use:
            announce(
                f"{bare} pictures were indexed by an older version, and filters do not find them: "
                "run `lookalike reindex`"
            )
        missing = await catalog.count() - await store.count()
        if missing > 0 and in_use:
            announce(
                f"{missing} pictures were embedded with another encoder and are not found by this "
                "one: run `lookalike reindex`"
            )
        yield lookalike


def open_encoder(
    settings: Settings, database: Database, announce: Callable[[str], None]
) -> Encoder:
    """Load the encoder that the settings and the existing index call for."""
    with database.set_up() as connection:
        indexed = indexed_encoders(connection)
    return load_encoder(settings, indexed=indexed, announce=announce)


def load_encoder(
    settings: Settings, *, indexed: Sequence[str], announce: Callable[[str], None]
) -> Encoder:
    """Load the encoder that the settings call for; raises `UnusableEncoder`."""
    choice = indexed[0] if settings.encoder == "auto" and indexed else settings.encoder
    if choice.startswith(LLAMAINDEX):
        return Encoder(ClipModel(choice.removeprefix(LLAMAINDEX)), source=choice)
    weights = find_weights(settings.encoder, indexed=indexed, announce=announce)
    precision = settings.precision
    if weights.name == BUILTIN and precision == "auto":
        # Convolutions gain nothing from int8 (design.md, decision 2).
        precision = "fp32"
    model = load(
        weights.directory,
        name=weights.name,
        precision=precision,
        data_dir=settings.data_dir,
        announce=announce,
    )
    return Encoder(model, source=weights.source)


def open_store(database: Database, encoder: Encoder) -> ImageVectorStore:
    """Set up the encoder's vector table."""
    store = ImageVectorStore.for_encoder(database, encoder)
    # The store sets up on connections of its own; the lock keeps other servers out meanwhile.
    with database.set_up():
        store.set_up()
    return store


def use_encoder(database: Database, encoder: Encoder, store: ImageVectorStore) -> None:
    """Write down that the encoder is in use from now on."""
    with database.set_up() as connection:
        record_encoder(
            connection,
            source=encoder.source,
            name=encoder.model.name,
            fingerprint=encoder.model.fingerprint,
            dimensions=encoder.dimensions,
            vector_table=store.table.name,
        )
