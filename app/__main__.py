"""The command line: `lookalike` or `python -m app`.

Exit codes: 0 done; 1 it could not be done, for the reason on the last line; 2 wrong usage; 3 done,
but some pictures failed or nothing was found; 130 stopped with Ctrl-C.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.api import hit_document, outcome_document, stats_document
from app.catalog import Entry
from app.encoder import Encoder
from app.indexing import Indexer, Outcome, picture_files
from app.lookalike import Lookalike, load_encoder, open_lookalike
from app.pictures import SUFFIXES
from app.problems import Problem
from app.search import Results
from app.serving import serve as serve_until_stopped
from app.settings import read_settings
from app.version import VERSION

INCOMPLETE = 3
STOPPED = 130

# Enough that the encoder's batches fill while other pictures are fetched and decoded.
PICTURES_AT_ONCE = 32

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def main() -> None:
    """Run the command line; a problem becomes one line and an exit code."""
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
    asyncio.run(serve_until_stopped(settings, announce=_say))


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="URLS_OR_FILES_OR_FOLDERS...")
@json_option
def index(sources: tuple[str, ...], as_json: bool) -> None:
    """Index pictures: URLs, files, and folders with all that is below them.

    Files stay where they are. What is indexed already and has not changed is not embedded again, so
    the same command goes on where it was stopped. With --json, each picture is one line of JSON.
    """
    counts = asyncio.run(_index(_expand(sources), as_json=as_json))
    if not as_json:
        out.print(", ".join(f"{count} {status}" for status, count in counts.items()))
    if counts["failed"]:
        sys.exit(INCOMPLETE)


@cli.command()
@click.argument("query", metavar="PICTURE_OR_TEXT")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True)
@click.option("--min-similarity", type=click.FloatRange(-1, 1), help="Instead of MIN_SIMILARITY.")
@json_option
def search(query: str, limit: int, min_similarity: float | None, as_json: bool) -> None:
    """Find the pictures that look like a file or URL, or that a text describes."""
    path = Path(query)
    if path.suffix.lower() in SUFFIXES and not _is_url(query) and not path.is_file():
        raise click.UsageError(f"There is no file {query}.")
    wanted = path if path.is_file() else query
    results = asyncio.run(_search(wanted, limit, min_similarity))
    if as_json:
        hits = [hit_document(hit, hit.image.url) for hit in results.hits]
        click.echo(json.dumps([hit.model_dump(mode="json") for hit in hits], indent=2))
    else:
        _print_results(results)
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
    _print_facts(facts, as_json=as_json)


@cli.command()
def reindex() -> None:
    """Embed, from the stored thumbnails, what the encoder in use has not embedded yet."""

    async def run() -> None:
        async with _opened() as lookalike:
            with _progress("Embedding", await lookalike.catalog.count()) as advance:
                done = 0
                async for looked_at in lookalike.indexer.reindex():
                    advance(looked_at - done)
                    done = looked_at

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
            return _encoder_facts(lookalike.encoder)

    _print_facts(asyncio.run(read()), as_json=as_json)


@model.command("fetch")
@click.argument("encoder", default="clip")
def model_fetch(encoder: str) -> None:
    """Download an encoder (clip, or a hub id) and make its int8 form. Needs no database."""
    fetched = load_encoder(read_settings(encoder=encoder), indexed=(), announce=_say)
    _print_facts(_encoder_facts(fetched), as_json=False)
    fetched.close()


def _say(line: str) -> None:
    err.print(line, markup=False)


def _opened() -> AbstractAsyncContextManager[Lookalike]:
    return open_lookalike(read_settings(), announce=_say)


def _expand(sources: Iterable[str]) -> list[str | Path]:
    """Return URLs as they are and every file of the folders; refuse what is neither."""
    expanded: list[str | Path] = []
    for source in sources:
        path = Path(source)
        if _is_url(source):
            expanded.append(source)
        elif path.is_dir():
            found = picture_files(path)
            if not found:
                raise click.UsageError(f"There are no pictures under {source}.")
            expanded.extend(found)
        elif path.is_file():
            expanded.append(path)
        else:
            raise click.UsageError(f"{source} is neither a URL nor a file or folder that exists.")
    return expanded


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


async def _index(pictures: list[str | Path], *, as_json: bool) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(("indexed", "updated", "unchanged", "failed"), 0)
    queue = iter(pictures)
    async with _opened() as lookalike:
        with _progress("Indexing", len(pictures)) as advance:

            async def work() -> None:
                for picture in queue:
                    outcome = await _index_one(lookalike.indexer, picture)
                    counts[outcome.status] += 1
                    _print_outcome(outcome, as_json=as_json)
                    advance(1)

            async with asyncio.TaskGroup() as workers:
                for _ in range(min(PICTURES_AT_ONCE, len(pictures))):
                    workers.create_task(work())
    return counts


async def _index_one(indexer: Indexer, picture: str | Path) -> Outcome:
    if isinstance(picture, Path):
        return await indexer.upsert_file(picture)
    return await indexer.upsert_url(Entry(picture))


async def _search(query: str | Path, limit: int, min_similarity: float | None) -> Results:
    async with _opened() as lookalike:
        if isinstance(query, Path):
            data = await asyncio.to_thread(query.read_bytes)
        elif _is_url(query):
            data = await lookalike.fetcher.fetch(query)
        else:
            return await lookalike.searcher.by_text(
                query, limit=limit, min_similarity=min_similarity
            )
        lowest = lookalike.settings.min_similarity if min_similarity is None else min_similarity
        return await lookalike.searcher.by_picture(data, limit=limit, min_similarity=lowest)


@contextmanager
def _progress(doing: str, total: int) -> Generator[Callable[[int], None]]:
    """Show a bar, on a terminal only; the yielded function moves it on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda steps: progress.advance(task, steps)


def _print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        click.echo(outcome_document(outcome).model_dump_json())
    elif outcome.status == "failed":
        err.print(f"failed: {outcome.url}: {outcome.reason}", markup=False)


def _print_results(results: Results) -> None:
    if not results.hits:
        closest = results.below[0] if results.below else None
        said = f" The closest, at {closest.similarity:.3f}: {closest.image.url}" if closest else ""
        err.print(f"Nothing is similar enough.{said}", markup=False)
        return
    for hit in results.hits:
        image, match = hit.image, hit.match or ""
        size = f"{image.width} x {image.height}"
        out.print(f"{hit.similarity:.3f}  {match:7}  {size:>13}  {image.url}", markup=False)


def _encoder_facts(encoder: Encoder) -> dict[str, Any]:
    model = encoder.model
    return {
        "name": model.name,
        "source": encoder.source,
        "precision": model.precision,
        "dimensions": model.dimensions,
        "text": model.has_text,
        "fingerprint": model.fingerprint,
    }


def _print_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        out.print(f"{name.replace('_', ' ')}: {value}", markup=False)


if __name__ == "__main__":
    main()
