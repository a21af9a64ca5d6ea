"""The command line: `lookalike` or `python -m app`.

Exit codes: 0 done; 1 it could not be done, for the reason on the last line; 2 wrong usage; 3 done,
but some pictures failed or nothing was found; 130 stopped with Ctrl-C.
"""

import asyncio
import functools
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from app.api import hit_document
from app.download import Fetcher
from app.files import exists
from app.health import stats_document
from app.index_api import job_document
from app.job_items import NewItem, Progress
from app.lookalike import Lookalike, load_encoder, open_lookalike
from app.pictures import SUFFIXES
from app.problems import NotFound, Problem
from app.search import Results
from app.serving import serve as serve_until_stopped
from app.serving import work as work_until_stopped
from app.settings import read_settings
from app.sources import is_web, items_of
from app.terminal import (
    bar,
    encoder_facts,
    err,
    say,
    show_counts,
    show_facts,
    show_job,
    show_json,
    show_outcome,
    show_results,
)
from app.version import VERSION

INCOMPLETE = 3
STOPPED = 130

# Enough that the encoder's batches fill while other pictures are fetched and decoded.
PICTURES_AT_ONCE = 64
# The limit of sitemaps.org, doubled.
LIST_BYTES = 100_000_000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def main() -> None:
    """Run the command line; a problem becomes one line and an exit code."""
    # What the queue has to say about outages is told by ourselves, in a line.
    for name in ("procrastinate", "psycopg.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # As Ctrl-C, so that the embedded database is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except Problem as problem:
        err.print(f"lookalike: {problem.detail}", style="red", markup=False)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        err.print("Stopped.")
        sys.exit(STOPPED)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def cli() -> None:
    """Reverse image search: show it a picture, get the pictures that look alike.

    Settings come from the environment and from `.env`; `.env.example` lists them.

    Exit codes: 0 done, 1 not done (the last line says why), 2 wrong usage, 3 done but some pictures
    failed or nothing was found.
    """


@cli.command()
@click.option("--bind", help="Address to listen on, instead of BIND.")
@click.option("--port", type=int, help="Port to listen on, instead of PORT.")
def serve(bind: str | None, port: int | None) -> None:
    """Serve the page and the API."""
    given = {"bind": bind, "port": port}
    settings = read_settings(**{name: v for name, v in given.items() if v is not None})
    asyncio.run(serve_until_stopped(settings, announce=say))


@cli.command()
def worker() -> None:
    """Work on the jobs of this database, beside its server or on another machine.

    Any number of workers share the work. Stopping one, even with kill -9, loses nothing.
    """
    asyncio.run(work_until_stopped(read_settings(), announce=say))


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCES...")
@click.option("--async", "as_job", is_flag=True, help="Leave the work to a server or worker.")
@click.option("--prune", is_flag=True, help="Take files out of the index that are gone.")
@json_option
def index(sources: tuple[str, ...], as_job: bool, prune: bool, as_json: bool) -> None:
    """Index pictures: URLs, lists of URLs, files, and folders with all that is below them.

    A list is text (one URL per line), CSV with a column `url` and, if wanted, `title`,
    `description` and `tags`, JSON lines with the same names, or a sitemap; the ending tells. Files
    and folders may be anywhere that fsspec reads (s3://bucket/prefix).

    Files stay where they are. Of a folder, only what is new or has changed is read, so the same
    command goes on where it was stopped. With --json, each picture is one line of JSON.
    """
    for source in sources:
        if "://" not in source and not Path(source).exists():
            raise click.UsageError(f"{source} is neither a URL nor a file or folder that exists.")
    if as_job:
        asyncio.run(_make_job(sources, as_json=as_json))
        return
    counts = asyncio.run(_index(sources, prune=prune, as_json=as_json))
    if counts["failed"]:
        sys.exit(INCOMPLETE)


@cli.command()
@click.argument("job", type=int, required=False)
@click.option("--retry", "action", flag_value="retry", help="Try again what failed.")
@click.option("--cancel", "action", flag_value="cancel", help="Leave out what has not ended.")
@click.option("--delete", "action", flag_value="delete", help="Forget the job.")
@json_option
def jobs(job: int | None, action: str | None, as_json: bool) -> None:
    """List the jobs, or follow one until it ends.

    Exit code 3 if pictures of it failed.
    """
    if job is None:
        if action:
            raise click.UsageError(f"--{action} needs the number of a job.")
        asyncio.run(_list_jobs(as_json=as_json))
        return
    progress = asyncio.run(_change_or_follow(job, action))
    if progress is None:
        return
    if as_json:
        show_json(job_document(progress).model_dump(mode="json"))
    else:
        show_job(progress)
    if progress.counts.get("failed"):
        sys.exit(INCOMPLETE)


@cli.command()
@click.argument("query", metavar="PICTURE_OR_TEXT")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True)
@click.option("--min-similarity", type=click.FloatRange(-1, 1), help="Instead of MIN_SIMILARITY.")
@json_option
def search(query: str, limit: int, min_similarity: float | None, as_json: bool) -> None:
    """Find the pictures that look like a file or URL, or that a text describes."""
    path = Path(query)
    if path.suffix.lower() in SUFFIXES and not is_web(query) and not path.is_file():
        raise click.UsageError(f"There is no file {query}.")
    wanted = path if path.is_file() else query
    results = asyncio.run(_search(wanted, limit, min_similarity))
    if as_json:
        hits = [hit_document(hit, hit.image.url) for hit in results.hits]
        show_json([hit.model_dump(mode="json") for hit in hits])
    else:
        show_results(results)
    if not results.hits:
        sys.exit(INCOMPLETE)


@cli.command()
@json_option
def stats(as_json: bool) -> None:
    """Tell how much is indexed, and with what."""

    async def read() -> BaseModel:
        async with _opened() as lookalike:
            return await stats_document(lookalike)

    facts = asyncio.run(read()).model_dump(mode="json")
    if not as_json:
        facts |= {f"encoder {key}": value for key, value in facts.pop("encoder").items()}
    show_facts(facts, as_json=as_json)


@cli.command()
def reindex() -> None:
    """Embed, from the stored thumbnails, what the encoder in use has not embedded yet."""

    async def run() -> None:
        async with _opened() as lookalike:
            with bar("Embedding", await lookalike.catalog.count()) as show:
                async for looked_at in lookalike.indexer.reindex():
                    show(looked_at)

    asyncio.run(run())


@cli.group()
def model() -> None:
    """Look at the encoder, or fetch one before it is needed."""


@model.command("info")
@json_option
def model_info(as_json: bool) -> None:
    """Tell which encoder this machine and its index use."""

    async def read() -> dict[str, Any]:
        async with _opened() as lookalike:
            return encoder_facts(lookalike.encoder)

    show_facts(asyncio.run(read()), as_json=as_json)


@model.command("fetch")
@click.argument("encoder", default="clip")
def model_fetch(encoder: str) -> None:
    """Download an encoder (clip, or a hub id) and make its int8 form. Needs no database."""
    fetched = load_encoder(read_settings(encoder=encoder), indexed=(), announce=say)
    show_facts(encoder_facts(fetched), as_json=False)
    fetched.close()


def _opened() -> AbstractAsyncContextManager[Lookalike]:
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


async def _index(sources: tuple[str, ...], *, prune: bool, as_json: bool) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(("indexed", "updated", "unchanged", "failed"), 0)
    async with _opened() as lookalike:
        fetch = _list_fetcher(lookalike)
        total = await asyncio.to_thread(lambda: sum(1 for _ in _items(sources, fetch)))
        if not total:
            raise click.UsageError(f"There are no pictures under {', '.join(sources)}.")
        queue = _items(sources, fetch)
        reading = asyncio.Lock()
        try:
            with bar("Indexing", total) as show:

                async def work() -> None:
                    while True:
                        async with reading:
                            items = await asyncio.to_thread(lambda: list(islice(queue, 1)))
                        for item in items:
                            outcome = await lookalike.indexer.upsert(item.source, item.entry)
                            counts[outcome.status] += 1
                            show_outcome(outcome, as_json=as_json)
                            show(sum(counts.values()))
                        if not items:
                            return

                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(PICTURES_AT_ONCE, total)):
                        workers.create_task(work())
        finally:
            if not as_json:
                show_counts(counts)
        await _prune(lookalike, sources, prune=prune)
    return counts


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


async def _make_job(sources: tuple[str, ...], *, as_json: bool) -> None:
    async with _opened() as lookalike:
        items = _items(sources, _list_fetcher(lookalike))
        job_id = await lookalike.jobs.create(", ".join(sources)[:200], items)
        job = await lookalike.job_items.progress(job_id)
        assert job is not None  # noqa: S101 - it was made just now
    if as_json:
        show_json(job_document(job).model_dump(mode="json"))
    else:
        show_job(job)
        say(f"A server or `lookalike worker` does it; `lookalike jobs {job_id}` follows it.")


async def _list_jobs(*, as_json: bool) -> None:
    async with _opened() as lookalike:
        found = await lookalike.job_items.newest(limit=100)
    if as_json:
        show_json([job_document(job).model_dump(mode="json") for job in found])
        return
    for job in found:
        show_job(job)
    if not found:
        say("There are no jobs.")


async def _change_or_follow(job_id: int, action: str | None) -> Progress | None:
    async with _opened() as lookalike:
        job = await lookalike.job_items.progress(job_id)
        if job is None:
            raise NotFound("There is no such job.")
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


async def _search(query: str | Path, limit: int, min_similarity: float | None) -> Results:
    async with _opened() as lookalike:
        if isinstance(query, Path):
            data = await asyncio.to_thread(query.read_bytes)
        elif is_web(query):
            data = await lookalike.fetcher.fetch(query)
        else:
            return await lookalike.searcher.by_text(
                query, limit=limit, min_similarity=min_similarity
            )
        lowest = lookalike.settings.min_similarity if min_similarity is None else min_similarity
        return await lookalike.searcher.by_picture(data, limit=limit, min_similarity=lowest)


if __name__ == "__main__":
    main()
