"""What the commands do between their arguments and what they print."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import click

from app.archive import Imported, count_images
from app.download import Fetcher
from app.files import exists
from app.index_api import job_document
from app.indexing import Indexer, Outcome
from app.items import NewItem, Progress
from app.lookalike import Lookalike, open_lookalike
from app.pictures import SUFFIXES
from app.query import Term, read_terms
from app.search import Results
from app.search_api import query_of, with_crop
from app.search_schemas import CropRequest, SearchRequest
from app.settings import read_settings
from app.sources import is_web, items_of
from app.terminal import bar, say, show_counts, show_job, show_json, show_outcome

# Enough that the encoder's batches fill while other pictures are fetched and decoded.
PICTURES_AT_ONCE = 64
# The limit of sitemaps.org, doubled.
LIST_BYTES = 100_000_000


def opened() -> AbstractAsyncContextManager[Lookalike]:
    """Open the program's parts as the environment says."""
    return open_lookalike(read_settings(), announce=say)


def _items(sources: tuple[str, ...], fetch: Callable[[str], bytes]) -> Iterator[NewItem]:
    return chain.from_iterable(items_of(source, fetch=fetch) for source in sources)


def _list_fetcher(lookalike: Lookalike) -> Callable[[str], bytes]:
    """Return what fetches lists in a thread, each once."""
    settings, loop = lookalike.settings, asyncio.get_running_loop()

    async def fetch(url: str) -> bytes:
        fetcher = Fetcher(
            allow=settings.fetch_allow, timeout_s=settings.fetch_timeout_s, max_bytes=LIST_BYTES
        )
        try:
            return await fetcher.fetch(url)
        finally:
            await fetcher.close()

    @functools.cache
    def fetch_in_thread(url: str) -> bytes:
        return asyncio.run_coroutine_threadsafe(fetch(url), loop).result()

    return fetch_in_thread


async def index_sources(sources: tuple[str, ...], *, prune: bool, as_json: bool) -> dict[str, int]:
    """Index everything that the sources name; return how many pictures ended which way."""
    counts: dict[str, int] = dict.fromkeys(("indexed", "updated", "unchanged", "failed"), 0)
    async with opened() as lookalike:
        fetch = _list_fetcher(lookalike)
        total = await asyncio.to_thread(lambda: sum(1 for _ in _items(sources, fetch)))
        if not total:
            raise click.UsageError(f"There are no pictures under {', '.join(sources)}.")
        outcomes = _outcomes(lookalike.indexer, _items(sources, fetch))
        try:
            with bar("Indexing", total) as show:
                async with aclosing(outcomes):
                    async for outcome in outcomes:
                        counts[outcome.status] += 1
                        show_outcome(outcome, as_json=as_json)
                        show(sum(counts.values()))
        finally:
            if not as_json:
                show_counts(counts)
        await _prune(lookalike, sources, prune=prune)
        captions = await lookalike.jobs.caption()
        if captions is not None:
            say(f"Job {captions} describes them: a server or `lookalike worker` does it.")
    return counts


async def _outcomes(indexer: Indexer, items: Iterator[NewItem]) -> AsyncGenerator[Outcome]:
    """Index items, a bounded number at once, and yield what became of each as it is known."""
    running: set[asyncio.Task[Outcome]] = set()
    try:
        while True:
            room = PICTURES_AT_ONCE - len(running)
            new = await asyncio.to_thread(list, islice(items, room))
            running |= {asyncio.create_task(indexer.upsert(i.source, i.entry)) for i in new}
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _folder_urls(sources: tuple[str, ...]) -> Iterator[str]:
    """Yield what the URLs of the folders' files begin with."""
    for source in sources:
        if "://" in source and not is_web(source):
            yield source.rstrip("/") + "/"
        elif Path(source).is_dir():
            yield Path(source).resolve().as_uri().rstrip("/") + "/"


async def _prune(lookalike: Lookalike, sources: tuple[str, ...], *, prune: bool) -> None:
    """Tell which files of the folders are gone, and take them out of the index if asked to."""
    gone = 0
    for prefix in _folder_urls(sources):
        async for image in lookalike.catalog.under(prefix):
            if not await asyncio.to_thread(exists, image.url):
                gone += 1
                say(f"{'removed' if prune else 'gone'}: {image.url}")
                if prune:
                    await lookalike.indexer.delete([image])
    if gone and not prune:
        say(f"{gone} files are gone; --prune takes them out of the index.")


async def embed_missing(lookalike: Lookalike) -> None:
    """Embed, from the thumbnails, what the encoder has not embedded yet."""
    with bar("Embedding", await lookalike.catalog.count()) as show:
        async for looked_at in lookalike.indexer.reindex():
            show(looked_at)


async def import_file(file: Path) -> None:
    """Read an export into the index, and embed what came without a vector."""
    async with opened() as lookalike:
        read = Imported(0, 0)
        with bar("Reading", count_images(file)) as show:
            async for read in lookalike.archive.read(file):
                show(read.images)
        with bar("Indexing the vectors", 100) as show:
            async for share in lookalike.archive.build_index():
                show(round(100 * share))
        if read.vectors < read.images:
            await embed_missing(lookalike)
    say(f"{read.images} pictures were read, {read.vectors} of them with their vectors.")


def show_new_job(job: Progress, *, as_json: bool) -> None:
    """Print a job that was made just now."""
    show_job(job, as_json=as_json)
    if not as_json:
        say(f"A server or `lookalike worker` does it; `lookalike jobs {job.id}` follows it.")


async def make_job(sources: tuple[str, ...]) -> Progress:
    """Make a job of everything that the sources name."""
    async with opened() as lookalike:
        items = _items(sources, _list_fetcher(lookalike))
        job_id = await lookalike.jobs.create(", ".join(sources)[:200], items)
        return await lookalike.job_items.find(job_id)


async def list_jobs(*, as_json: bool) -> None:
    """Print the jobs, the last made first."""
    async with opened() as lookalike:
        found = await lookalike.job_items.newest(limit=100)
    if as_json:
        show_json([job_document(job).model_dump(mode="json") for job in found])
        return
    for job in found:
        show_job(job, as_json=False)
    if not found:
        say("There are no jobs.")


async def change_or_follow(job_id: int, action: str | None) -> Progress | None:
    """Do something to a job, or follow it to its end; None if it was deleted."""
    async with opened() as lookalike:
        job = await lookalike.job_items.find(job_id)
        if action == "delete":
            await lookalike.job_items.delete(job_id)
            return None
        if action == "retry":
            await lookalike.jobs.retry(job_id)
        elif action == "cancel":
            await lookalike.job_items.cancel(job_id)
        else:
            with bar(job.title, job.total) as show:
                async for progress in lookalike.jobs.watch(job_id):
                    show(progress.ended)
        return await lookalike.job_items.progress(job_id)


async def search_for(
    expression: str, wanted: SearchRequest, region: CropRequest | None, *, limit: int
) -> Results:
    """Find the pictures that an expression and the options ask for; its files are read here.

    The region is that of each picture of the expression.
    """
    terms = with_crop([_with_file(term) for term in read_terms(expression)], region)
    async with opened() as lookalike:
        asked = query_of(wanted, None, limit=limit)
        return await lookalike.searcher.search(replace(asked, terms=terms))


def _with_file(term: Term) -> Term:
    """Return a term that names a file as the picture in it."""
    if term.text is None:
        return term
    path = Path(term.text)
    if path.is_file():
        return replace(term, text=None, data=path.read_bytes())
    if path.suffix.lower() in SUFFIXES:
        raise click.UsageError(f"There is no file {path}.")
    return term
