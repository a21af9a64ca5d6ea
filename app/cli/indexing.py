"""The commands that fill the index from images: `index` and `reindex`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from app.cli.jobs import show_new_job
from app.cli.terminal import bar, say, show_counts
from app.indexing.documents import outcome_document
from app.indexing.files import exists, is_local, local_path, local_url
from app.indexing.indexer import Indexer
from app.indexing.list_fetcher import list_fetcher
from app.indexing.outcomes import Outcome
from app.indexing.passed_over import PassedOver
from app.indexing.sources import items_of
from app.lookalike import Lookalike, open_lookalike
from app.problems import InvalidRequest, Problem
from app.settings import read_settings
from app.store.images import Entry
from app.store.items import NewItem
from app.store.spaces import Space
from app.store.urls import is_web, without_credentials

# Enough to fill the encoder's batches while other images are fetched and decoded.
IMAGES_AT_ONCE = 64


async def index_sources(sources: tuple[str, ...], *, prune: bool, as_json: bool) -> dict[str, int]:
    """Index the images of the sources; return their number by status."""
    counts: dict[str, int] = dict.fromkeys(("indexed", "updated", "unchanged", "failed"), 0)
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        with TemporaryDirectory() as folder:
            fetch = list_fetcher(lookalike.fetcher, kept_in=Path(folder))
            passed_over = PassedOver()
            items = _items(sources, fetch, passed_over)
            total = await asyncio.to_thread(lambda: sum(1 for _ in items))
            _say_passed_over(passed_over)
            if not total:
                named = without_credentials(", ".join(sources))
                raise click.UsageError(f"No images were found in {named}.")
            await _index(lookalike, _items(sources, fetch), counts, total, as_json=as_json)
        await _prune(lookalike, sources, prune=prune)
        job_id = await lookalike.jobs.caption()
        if job_id is not None:
            say(f"Job {job_id} captions them; a server or `lookalike worker` runs it.")
    return counts


async def _index(
    lookalike: Lookalike,
    items: Iterator[NewItem],
    counts: dict[str, int],
    total: int,
    *,
    as_json: bool,
) -> None:
    """Index items, count how they end and print it."""
    outcomes = _outcomes(lookalike.indexer, items)
    try:
        with bar("Indexing", total) as show:
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    counts[outcome.status] += 1
                    _show_outcome(outcome, as_json=as_json)
                    show(sum(counts.values()))
    finally:
        if not as_json:
            show_counts(counts)


async def index_as_job(sources: tuple[str, ...], *, as_json: bool) -> None:
    """Create a job that indexes the images of the sources, and print it."""
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        passed_over = PassedOver()
        items = _items(sources, list_fetcher(lookalike.fetcher), passed_over)
        title = without_credentials(", ".join(sources))[:200]
        job_id = await lookalike.jobs.create(title.encode("utf-8", "replace").decode(), items)
        _say_passed_over(passed_over)
        show_new_job(await lookalike.job_items.find(job_id), as_json=as_json)


async def reindex(encoder: str | None, *, copy: bool = True, semantic: bool = True) -> None:
    """Make the vectors that images lack: their copy vectors, their semantic ones, or both.

    The semantic ones are those of an encoder that is used from now on; None is the one that the
    settings choose. Raises `InvalidRequest` if the settings have no copy vectors of their own.
    """
    settings = read_settings(**({"encoder": encoder} if encoder else {}))
    async with open_lookalike(settings, announce=say, in_use=False) as lookalike:
        spaces = lookalike.index.spaces
        if spaces.are_one and not semantic:
            raise InvalidRequest(
                f"The encoder {spaces.semantic.name} serves for both: there are no copy vectors "
                "of their own to make."
            )
        wanted = {spaces.copy: copy, spaces.semantic: semantic}
        chosen = [space for space in spaces.all if wanted[space]]
        looked_at = await lookalike.catalog.count()
        before = [await space.vectors.count() for space in chosen]
        await embed_missing(lookalike, chosen)
        lookalike.index.use_encoder()
        say(f"Looked at {looked_at} images.")
        for space, earlier in zip(chosen, before, strict=True):
            embedded, now = space.encoder.images.items, await space.vectors.count()
            say(
                f"Embedded {embedded} with {space.name}: {now} have vectors now, "
                f"{earlier} had before."
            )


def _items(
    sources: tuple[str, ...],
    fetch: Callable[[str], bytes],
    passed_over: PassedOver | None = None,
) -> Iterator[NewItem]:
    """Yield what the sources name; a list from the web that cannot be read is one that failed."""
    for source in sources:
        try:
            yield from items_of(source, fetch=fetch, passed_over=passed_over)
        except Problem as problem:
            if not is_web(source):
                raise
            yield NewItem("web", Entry(source), f"The list cannot be read: {problem.detail}")


async def _outcomes(indexer: Indexer, items: Iterator[NewItem]) -> AsyncGenerator[Outcome]:
    """Index items, up to 64 at once, and yield the outcomes as they come."""
    running: set[asyncio.Task[Outcome]] = set()
    try:
        while True:
            room = IMAGES_AT_ONCE - len(running)
            new = await asyncio.to_thread(list, islice(items, room))
            running |= {asyncio.create_task(_outcome(indexer, item)) for item in new}
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _outcome(indexer: Indexer, item: NewItem) -> Outcome:
    if item.reason is not None:
        return Outcome(item.entry.url, "failed", problem=InvalidRequest(item.reason))
    return await indexer.upsert(item.source, item.entry)


def _show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Print an outcome as JSON, or, without `as_json`, only if it is a failure."""
    if as_json:
        click.echo(outcome_document(outcome).model_dump_json())
    elif outcome.status == "failed":
        say(f"failed: {outcome.url}: {outcome.reason}")


def _say_passed_over(passed_over: PassedOver) -> None:
    if sentence := passed_over.sentence():
        say(f"{sentence}.")


def _folder_urls(sources: tuple[str, ...]) -> Iterator[str]:
    """Yield the URL prefix of the files of each source that is a folder."""
    for source in sources:
        if is_local(source):
            path = local_path(source)
            if Path(path).is_dir():
                yield local_url(path).rstrip("/") + "/"
        elif not is_web(source):
            yield source.rstrip("/") + "/"


async def _prune(lookalike: Lookalike, sources: tuple[str, ...], *, prune: bool) -> None:
    """Print which indexed files no longer exist; with `prune`, remove them from the index."""
    gone = 0
    for prefix in _folder_urls(sources):
        async for image in lookalike.catalog.under(prefix):
            if not await asyncio.to_thread(exists, image.url):
                gone += 1
                say(f"{'removed' if prune else 'gone'}: {image.url}")
                if prune:
                    await lookalike.indexer.delete([image])
    if gone and not prune:
        say(f"{gone} files no longer exist; --prune removes them from the index.")


async def embed_missing(lookalike: Lookalike, spaces: Sequence[Space]) -> None:
    """Embed the thumbnails of the images that lack a vector of these spaces."""
    with bar("Embedding", await lookalike.catalog.count()) as show:
        async for looked_at in lookalike.reindexer.run(spaces):
            show(looked_at)
