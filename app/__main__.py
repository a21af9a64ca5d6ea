"""The command line: `lookalike` or `python -m app`.

Exit codes: 0 done; 1 it could not be done, for the reason on the last line; 2 wrong usage; 3 done,
but some pictures failed or nothing was found; 130 stopped with Ctrl-C.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_origin

import click
from pydantic import BaseModel

from app.api import hit_document, parse
from app.catalog import Selection
from app.commands import (
    change_or_follow,
    embed_missing,
    import_file,
    index_sources,
    list_jobs,
    make_job,
    opened,
    search_for,
    show_new_job,
)
from app.health import stats_document
from app.items import Progress
from app.lookalike import load_encoder, open_lookalike, use_encoder
from app.problems import InvalidRequest, Problem
from app.search_schemas import FilterRequest, SearchRequest
from app.serving import serve as serve_until_stopped
from app.serving import work as work_until_stopped
from app.settings import read_settings
from app.terminal import (
    bar,
    encoder_facts,
    err,
    say,
    show_facts,
    show_job,
    show_json,
    show_results,
)
from app.version import VERSION

INCOMPLETE = 3
STOPPED = 130

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
        show_new_job(asyncio.run(make_job(sources)), as_json=as_json)
        return
    counts = asyncio.run(index_sources(sources, prune=prune, as_json=as_json))
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
        asyncio.run(list_jobs(as_json=as_json))
        return
    progress = asyncio.run(change_or_follow(job, action))
    if progress is None:
        return
    show_job(progress, as_json=as_json)
    if progress.counts.get("failed"):
        sys.exit(INCOMPLETE)


def _filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for every filter; those that take several values may be given again."""
    for name, field in reversed(FilterRequest.model_fields.items()):
        several = get_origin(field.annotation) in (list, dict)
        flag = f"--{name.replace('_', '-')}"
        said = field.description or ""
        if field.annotation == bool | None:
            command = click.option(flag, type=bool, help=said)(command)
        else:
            command = click.option(flag, multiple=several, help=said)(command)
    return command


@cli.command()
@click.argument("query", default="", metavar="QUERY")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True)
@click.option("--min-similarity", type=float, help="Instead of MIN_SIMILARITY.")
@click.option("--crop", metavar="X,Y,WIDTH,HEIGHT", help="The region of a picture that counts.")
@click.option("--like", multiple=True, metavar="ID", help="More like this result.")
@click.option("--unlike", multiple=True, metavar="ID", help="Less like this result.")
@click.option("--diversity", type=float, help="0 to 1: how much results should differ.")
@_filter_options
@json_option
def search(query: str, limit: int, as_json: bool, **options: Any) -> None:
    """Find pictures: by a file, a URL, the id of an indexed one, a text, or a sum of these.

    Terms are added and subtracted, with weights: '2:golden retriever + ./pool.jpg - fruit'. What
    is in double quotes is text. Filters that take several values may be given several times.
    """
    if not (query.strip() or options["like"] or options["unlike"]):
        raise click.UsageError("Say what to look for: a file, a URL, a text.")
    region = {"crop": options.pop("crop")}
    given = {name: value for name, value in options.items() if value not in (None, ())}
    try:
        wanted, crop = parse(SearchRequest, given), parse(SearchRequest, region).crop
    except InvalidRequest as problem:
        raise click.UsageError(problem.detail) from problem
    results = asyncio.run(search_for(query, wanted, crop, limit=limit))
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
        async with opened() as lookalike:
            return await stats_document(lookalike)

    facts = asyncio.run(read()).model_dump(mode="json")
    if not as_json:
        facts |= {f"encoder {key}": value for key, value in facts.pop("encoder").items()}
    show_facts(facts, as_json=as_json)


@cli.command()
@click.option("--encoder", help="The encoder to change to: builtin, clip, a hub id or a folder.")
def reindex(encoder: str | None) -> None:
    """Embed, from the stored thumbnails, what an encoder has not embedded yet.

    Servers go on with the encoder they have. When all is embedded, the new one is what
    ENCODER=auto means: restart them to change over.
    """

    async def run() -> None:
        settings = read_settings(**({"encoder": encoder} if encoder else {}))
        async with open_lookalike(settings, announce=say, in_use=False) as lookalike:
            await embed_missing(lookalike)
            use_encoder(lookalike.database, lookalike.encoder, lookalike.store)

    asyncio.run(run())


@cli.command()
@click.option(
    "--older-than", type=click.FloatRange(0), help="Only those not asked for so many days."
)
@json_option
def refresh(older_than: float | None, as_json: bool) -> None:
    """Make a job that asks the web which pictures have changed or gone.

    Where a server tells versions (ETag, Last-Modified), only what has changed is sent again. What
    is gone is marked, and stays until it is deleted.
    """

    async def run() -> Progress:
        before = None if older_than is None else datetime.now(UTC) - timedelta(days=older_than)
        async with opened() as lookalike:
            job_id = await lookalike.jobs.refresh(Selection(checked_before=before))
            return await lookalike.job_items.find(job_id)

    show_new_job(asyncio.run(run()), as_json=as_json)


@cli.command()
@json_option
def caption(as_json: bool) -> None:
    """Make a job in which CAPTION_MODEL describes the pictures that no one has described."""

    async def run() -> Progress:
        settings = read_settings()
        if not settings.caption_model:
            raise click.UsageError("There is no caption model: set CAPTION_MODEL.")
        async with open_lookalike(settings, announce=say) as lookalike:
            job_id = await lookalike.jobs.caption()
            if job_id is None:
                raise click.UsageError("Every picture has a description, or waits for one.")
            return await lookalike.job_items.find(job_id)

    show_new_job(asyncio.run(run()), as_json=as_json)


@cli.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export_index(file: Path) -> None:
    """Write the index with its vectors to a Parquet file."""

    async def run() -> None:
        async with opened() as lookalike:
            with bar("Writing", await lookalike.catalog.count()) as show:
                async for written in lookalike.archive.write(file):
                    show(written)

    asyncio.run(run())


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_index(file: Path) -> None:
    """Read a Parquet file that `export` wrote into the index.

    What another encoder embedded is embedded again, from the thumbnails. Uploaded originals are not
    in the file.
    """
    asyncio.run(import_file(file))


@cli.group()
def model() -> None:
    """Look at the encoder, or fetch one before it is needed."""


@model.command("info")
@json_option
def model_info(as_json: bool) -> None:
    """Tell which encoder this machine and its index use."""

    async def read() -> dict[str, Any]:
        async with opened() as lookalike:
            return encoder_facts(lookalike.encoder)

    show_facts(asyncio.run(read()), as_json=as_json)


@model.command("fetch")
@click.argument("encoder", default="clip")
def model_fetch(encoder: str) -> None:
    """Download an encoder (clip, or a hub id) and make its int8 form. Needs no database."""
    fetched = load_encoder(read_settings(encoder=encoder), indexed=(), announce=say)
    show_facts(encoder_facts(fetched), as_json=False)
    fetched.close()


if __name__ == "__main__":
    main()
