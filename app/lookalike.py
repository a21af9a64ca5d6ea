"""The parts of the program, opened in order and closed in reverse order.

The server and the commands both use them.
"""

import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass

from app.encoding.encoder import Encoder
from app.encoding.loading import Encoders
from app.faces.face import Finder
from app.indexing.changes import Changer
from app.indexing.face_maker import FaceMaker
from app.indexing.fetcher import MOST_FETCHES, Fetcher
from app.indexing.indexer import Indexer
from app.indexing.keypoint_maker import KeypointMaker
from app.indexing.media import Media
from app.indexing.originals import Originals
from app.indexing.people_maker import PeopleMaker
from app.indexing.reindexer import Reindexer
from app.indexing.thumbnail_files import MediaThumbnails
from app.indexing.thumbnail_keeper import ThumbnailKeeper
from app.indexing.trash import Trash
from app.jobs.captions import Captioner
from app.jobs.jobs import Jobs
from app.pictures.decoding import Decoder
from app.pictures.pool import DecodingPool, Memory
from app.problems import MissingPackage
from app.search.chance import Chance
from app.search.comparer import Comparer
from app.search.duplicates import DuplicateFinder
from app.search.face_search import FaceSearcher
from app.search.listing import Lister
from app.search.lookup import Lookup
from app.search.pair_proofs import PairProofs
from app.search.parts import PartFinder
from app.search.resolution import Resolution
from app.search.resolver import Resolver
from app.search.searcher import MOST_FETCHING, Searcher
from app.search.spreads import Spreads
from app.search.verifier import Verifier
from app.settings import Settings
from app.store.catalog import Catalog
from app.store.claims import Claims
from app.store.database import Database
from app.store.faces import FaceTable
from app.store.fingerprints import Fingerprints
from app.store.index import Index, open_index
from app.store.job_items import JobItems
from app.store.loose_thumbnails import LooseThumbnails
from app.store.near_faces import NearFaces
from app.store.pairs import PairTable
from app.store.people import PeopleTable
from app.store.sizes import Sizes
from app.store.spaces import Spaces
from app.store.thumbnail_place import place_of
from app.store.uploads import Uploads
from app.store.vectors import VectorTable
from app.store.workers import Workers


@dataclass(frozen=True, slots=True)
class Lookalike:
    """The opened parts of the program."""

    settings: Settings
    index: Index
    decoder: Decoder
    fetcher: Fetcher
    indexer: Indexer
    reindexer: Reindexer
    keypoint_maker: KeypointMaker
    faces: FaceTable
    face_maker: FaceMaker | None
    face_searcher: FaceSearcher
    people: PeopleTable
    people_maker: PeopleMaker
    media: Media
    thumbnails: ThumbnailKeeper
    trash: Trash
    job_items: JobItems
    workers: Workers
    jobs: Jobs
    searcher: Searcher
    chance: Chance
    lookup: Lookup
    lister: Lister
    comparer: Comparer
    uploads: Uploads
    duplicates: DuplicateFinder
    pairs: PairTable
    resolution: Resolution

    @property
    def database(self) -> Database:
        """The index's database."""
        return self.index.database

    @property
    def encoder(self) -> Encoder:
        """The encoder that sees what an image shows, and embeds texts."""
        return self.index.spaces.semantic.encoder

    @property
    def catalog(self) -> Catalog:
        """The table of images."""
        return self.index.catalog

    @property
    def sizes(self) -> Sizes:
        """The sizes of the tables."""
        return self.index.sizes

    @property
    def vectors(self) -> VectorTable:
        """The table of this encoder's vectors."""
        return self.index.spaces.semantic.vectors


@asynccontextmanager
async def open_lookalike(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    encoders: Encoders | None = None,
    in_use: bool = True,
) -> AsyncGenerator[Lookalike]:
    """Open the database, the encoders and all that depends on them; close them on leaving.

    Takes what `open_index` does.

    Opening blocks the event loop, which has no other tasks yet, so that Ctrl-C stops a download.
    Raises a `StartProblem`.
    """
    media = Media(settings.media_url or str(settings.data_dir / "media"))
    with closing(MediaThumbnails(media, signs=settings.thumbnail_redirects)) as files:
        opening = open_index(
            settings, announce=announce, encoders=encoders, in_use=in_use, files=files
        )
        async with opening as index, AsyncExitStack() as stack:
            thumbnails = _thumbnails(settings, index.database, media, files)
            yield _open_parts(stack, settings, index, announce, media, thumbnails)


def _thumbnails(
    settings: Settings, database: Database, media: Media, files: MediaThumbnails
) -> ThumbnailKeeper:
    with database.set_up() as connection:
        place = place_of(connection, settings.thumbnails, is_bucket=media.is_bucket)
    return ThumbnailKeeper(files, LooseThumbnails(database), place)


def _open_parts(
    stack: AsyncExitStack,
    settings: Settings,
    index: Index,
    announce: Callable[[str], None],
    media: Media,
    thumbnails: ThumbnailKeeper,
) -> Lookalike:
    """Open the parts that need the index; the stack closes them."""
    database, catalog, spaces = index.database, index.catalog, index.spaces
    # Of their own: indexing keeps those that decode busy.
    verifying = ThreadPoolExecutor(os.cpu_count() or 1, "verify")
    stack.callback(verifying.shutdown)
    pool = DecodingPool(os.cpu_count() or 1, memory=Memory(settings.max_decoded_bytes))
    stack.callback(pool.close)
    decoder = Decoder(pool, max_pixels=settings.max_pixels, model_side=spaces.side)
    fetcher = _fetcher(stack, settings, most=MOST_FETCHES)
    job_items, workers = JobItems(database), Workers(database)
    uploads = Uploads(database, decoder)
    max_bytes = settings.max_upload_bytes
    originals = Originals(media, Claims(database), thumbnails, max_bytes=max_bytes)
    faces, face_finder = FaceTable(database, catalog), _face_finder(settings, announce)
    indexer = Indexer(
        database=database,
        catalog=catalog,
        spaces=spaces,
        trash=index.trash,
        job_items=job_items,
        decoder=decoder,
        fetcher=fetcher,
        originals=originals,
        max_bytes=settings.max_upload_bytes,
        faces=face_finder,
    )
    face_maker, people_maker = None, PeopleMaker(database, catalog)
    if face_finder is not None:
        face_maker = FaceMaker(
            database=database,
            catalog=catalog,
            table=faces,
            finder=face_finder,
            indexer=indexer,
            decoder=decoder,
            people=people_maker,
        )
    trash = Trash(
        database=database,
        catalog=catalog,
        table=index.trash,
        originals=originals,
        faces=faces,
        days=settings.trash_days,
    )
    captioner = Captioner(settings=settings, catalog=catalog, indexer=indexer, job_items=job_items)
    stack.push_async_callback(captioner.close)
    keypoint_maker = KeypointMaker(
        index.keypoints,
        index.hashes,
        work_done=lambda: sum(space.encoder.images.items for space in spaces.all),
    )
    stack.callback(keypoint_maker.close)
    fingerprints, pairs = Fingerprints(database), PairTable(database)
    verifier = Verifier(index.keypoints, verifying, budget_ms=settings.verify_ms)
    resolver = Resolver(
        catalog=catalog,
        spaces=spaces,
        spreads=Spreads(spaces.semantic, index.sizes),
        decoder=decoder,
        # With slots of its own: indexing does not wait for the URLs of searches, nor they for it.
        fetcher=_fetcher(stack, settings, most=MOST_FETCHING, outcomes=fetcher.outcomes),
        uploads=uploads,
        verifier=verifier,
        min_similarity=_lowest(settings, spaces),
    )
    searcher = Searcher(
        catalog=catalog,
        fingerprints=fingerprints,
        spaces=spaces,
        resolver=resolver,
        verifier=verifier,
        part_finder=PartFinder(catalog=catalog, copy=spaces.copy, verifier=verifier),
        timeout_s=settings.search_timeout_s,
    )
    return Lookalike(
        settings=settings,
        index=index,
        decoder=decoder,
        fetcher=fetcher,
        indexer=indexer,
        reindexer=Reindexer(database=database, catalog=catalog, decoder=decoder),
        keypoint_maker=keypoint_maker,
        faces=faces,
        face_maker=face_maker,
        face_searcher=FaceSearcher(
            catalog=catalog,
            faces=faces,
            near=NearFaces(spaces.semantic.vectors),
            uploads=uploads,
            decoder=decoder,
            finder=face_finder,
            timeout_s=settings.search_timeout_s,
        ),
        people=PeopleTable(database, catalog),
        people_maker=people_maker,
        media=media,
        thumbnails=thumbnails,
        trash=trash,
        job_items=job_items,
        workers=workers,
        jobs=Jobs(
            database=database,
            job_items=job_items,
            workers=workers,
            indexer=indexer,
            trash=trash,
            captioner=captioner,
            keypoint_maker=keypoint_maker,
            changer=Changer(
                database=database,
                catalog=catalog,
                indexer=indexer,
                trash=trash,
                job_items=job_items,
            ),
            retry_s=settings.retry_s,
            worker_timeout_s=settings.worker_timeout_s,
            job_days=settings.job_days,
        ),
        searcher=searcher,
        chance=Chance(encoder=spaces.semantic.encoder, vectors=spaces.semantic.vectors),
        lookup=Lookup(searcher=searcher, space=spaces.of(spaces.calibrated), decoder=decoder),
        lister=Lister(catalog=catalog, vectors=spaces.semantic.vectors),
        comparer=Comparer(
            searcher=searcher,
            catalog=catalog,
            keypoints=index.keypoints,
            spaces=spaces,
            decoder=decoder,
            uploads=uploads,
        ),
        uploads=uploads,
        duplicates=DuplicateFinder(
            catalog=catalog,
            fingerprints=fingerprints,
            vectors=spaces.copy.vectors,
            hashes=index.hashes,
            proofs=PairProofs(catalog=catalog, keypoints=index.keypoints, pairs=pairs),
        ),
        pairs=pairs,
        resolution=Resolution(catalog=catalog, indexer=indexer, trash=trash, pairs=pairs),
    )


def _face_finder(settings: Settings, announce: Callable[[str], None]) -> Finder | None:
    """Return what looks for faces, None if nothing does; a missing model is one line, no more."""
    if settings.faces == "off":
        return None
    # Imported here: who has not asked for it does not even load it.
    from app.faces.lazy import LazyFinder

    try:
        return LazyFinder(settings.data_dir, settings.faces)
    except MissingPackage as exc:
        announce(f"Faces are not looked for: {exc.detail}")
        return None


def _lowest(settings: Settings, spaces: Spaces) -> float | None:
    """Return the default threshold of searches by one whole image, None for no limit.

    Where what is the same image is proved and what looks alike is ranked by another vector, only a
    threshold that someone has chosen counts.
    """
    is_chosen = "min_similarity" in settings.model_fields_set
    return settings.min_similarity if spaces.are_one or is_chosen else None


def _fetcher(
    stack: AsyncExitStack, settings: Settings, *, most: int, outcomes: Counter[str] | None = None
) -> Fetcher:
    fetcher = Fetcher(
        allow=settings.fetch_allow,
        timeout_s=settings.fetch_timeout_s,
        max_bytes=settings.max_upload_bytes,
        most=most,
        outcomes=outcomes,
    )
    stack.push_async_callback(fetcher.close)
    return fetcher
