"""The command line: `lookalike` or `python -m app`.

Exit codes: 0 done; 1 not done, for the reason on the last line; 2 wrong usage; 3 done, but some
images failed or nothing was found; 130 stopped with Ctrl-C.

This module declares the commands. What they do is in the modules beside it, which are imported when
a command runs, so that `--help` answers at once.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import IO, Any

import click

from app.cli.asking import compare, search
from app.cli.cleaning import duplicates, reindex, trash
from app.cli.face_commands import faces
from app.cli.key_commands import keys
from app.cli.media_commands import media
from app.cli.options import INCOMPLETE, json_option
from app.cli.vector_commands import vectors
from app.problems import Problem

STOPPED = 130


def main() -> None:
    """Run the command line; a problem becomes one line and an exit code."""
    # We report an outage of the database ourselves, in one line.
    for name in ("procrastinate", "psycopg.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Like Ctrl-C, so that the embedded database is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped.", err=True)
        sys.exit(STOPPED)


class _Failed(click.ClickException):
    """A problem as one line."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line to stderr."""
        click.secho(f"lookalike: {self.message}", file, fg="red", err=True)


class _Commands(click.Group):
    """Commands whose problems become one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Problem as problem:
            raise _Failed(problem.detail) from problem


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lookalike")
def cli() -> None:
    """Reverse image search: show it an image, get the images that are the same or look alike.

    Settings come from the environment and from `.env`; `.env.example` lists them.

    Exit codes: 0 done, 1 not done (the last line says why), 2 wrong usage, 3 done but some images
    failed or nothing was found.
    """


@cli.command()
@click.option("--bind", help="Address to listen on, instead of BIND.")
@click.option("--port", type=int, help="Port to listen on, instead of PORT.")
def serve(bind: str | None, port: int | None) -> None:
    """Serve the pages and the API."""
    from app.cli.terminal import say
    from app.logs import set_up_logs
    from app.settings import read_settings
    from app.web.serving import serve as serve_until_stopped

    given = {"bind": bind, "port": port}
    settings = read_settings(**{name: v for name, v in given.items() if v is not None})
    set_up_logs(level=settings.log_level, form=settings.log_format)
    asyncio.run(serve_until_stopped(settings, announce=say))


@cli.command()
def worker() -> None:
    """Work on the jobs of this database, beside its server or on another machine.

    Any number of workers can share the work. Stopping one, even with kill -9, loses nothing. With
    METRICS_PORT, it offers /metrics there.
    """
    from app.cli.jobs import work
    from app.settings import read_settings

    settings = read_settings()
    if settings.metrics_port is None:
        asyncio.run(work(settings))
        return
    # Nothing else of a worker needs the web framework.
    from app.web.serving import serving_metrics

    asyncio.run(work(settings, beside=serving_metrics))


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCES...")
@click.option("--async", "as_job", is_flag=True, help="Leave the work to a server or worker.")
@click.option("--prune", is_flag=True, help="Remove images from the index whose files are gone.")
@json_option
def index(sources: tuple[str, ...], as_job: bool, prune: bool, as_json: bool) -> None:
    """Index images: URLs, lists of URLs, files, and folders with everything below them.

    A list is text (one URL per line), CSV with a column `url` and, if wanted, `title`,
    `description` and `tags`, JSON lines with the same names, or a sitemap; the file's extension
    tells which. Files and folders may be anywhere that fsspec reads (s3://bucket/prefix).

    Files stay where they are. Only new and changed files of a folder are read, so the same command
    continues where it was stopped. With --json, each image is one line of JSON.
    """
    from app.cli.indexing import index_as_job, index_sources
    from app.indexing.files import is_local, local_path

    for source in sources:
        if is_local(source) and not Path(local_path(source)).exists():
            raise click.UsageError(f"{source} is not a URL, and there is no such file or folder.")
    if as_job:
        asyncio.run(index_as_job(sources, as_json=as_json))
        return
    counts = asyncio.run(index_sources(sources, prune=prune, as_json=as_json))
    if counts["failed"]:
        sys.exit(INCOMPLETE)


@cli.command()
@click.argument("job", type=int, required=False)
@click.option("--retry", "action", flag_value="retry", help="Retry what failed.")
@click.option("--cancel", "action", flag_value="cancel", help="Cancel pending items.")
@click.option("--delete", "action", flag_value="delete", help="Delete the job.")
@json_option
def jobs(job: int | None, action: str | None, as_json: bool) -> None:
    """List the jobs, or follow one until it ends.

    Exit code 3 if any of its images failed.
    """
    from app.cli.jobs import change_or_follow, list_jobs

    if job is None:
        if action:
            raise click.UsageError(f"--{action} needs the id of a job.")
        asyncio.run(list_jobs(as_json=as_json))
        return
    progress = asyncio.run(change_or_follow(job, action, as_json=as_json))
    if progress is not None and progress.counts.get("failed"):
        sys.exit(INCOMPLETE)


@cli.command()
@json_option
def stats(as_json: bool) -> None:
    """Show how much is indexed, and with which encoder."""
    from app.cli.facts import show_stats

    asyncio.run(show_stats(as_json=as_json))


@cli.command()
@click.option(
    "--older-than", type=click.FloatRange(0), help="Only those not checked for this many days."
)
@json_option
def refresh(older_than: float | None, as_json: bool) -> None:
    """Create a job that checks the web for images that have changed or are gone.

    Where a server gives versions (ETag, Last-Modified), only what has changed is downloaded again.
    What is gone is marked, and stays until it is deleted.
    """
    from app.cli.jobs import refresh as make_job

    asyncio.run(make_job(older_than, as_json=as_json))


@cli.command()
@json_option
def caption(as_json: bool) -> None:
    """Create a job in which CAPTION_MODEL describes the images that have no description."""
    from app.cli.jobs import caption as make_job

    asyncio.run(make_job(as_json=as_json))


@cli.command("export")
@click.argument("place")
@click.option(
    "--rows-per-file", type=click.IntRange(1), help="Images per file of a folder (100,000)."
)
@click.option("--no-thumbnails", "bare", is_flag=True, help="Leave the thumbnails out.")
def export_index(place: str, rows_per_file: int | None, bare: bool) -> None:
    """Export the index with its vectors to a Parquet file, or to a folder of them.

    PLACE is a file, or a folder if it ends in / or is one; or either in a bucket, or anywhere else
    that fsspec writes (s3://bucket/index.parquet, s3://bucket/folder). A folder is written in
    parts: the same command continues where it was stopped. Files without thumbnails are for other
    programs: they cannot be imported.
    """
    from app.cli.archive import export

    asyncio.run(export(place, rows_per_file, bare=bare))


@cli.command("import")
@click.argument("place")
@click.option("--anew", is_flag=True, help="Also the parts that an interrupted import finished.")
def import_index(place: str, anew: bool) -> None:
    """Import a Parquet file that `export` wrote, or a folder of them, here or in a bucket.

    Files from elsewhere are welcome, too: docs/parquet.md has their columns. Images embedded with
    another encoder are embedded again, from the thumbnails. Originals are not among them. Of a
    folder, the same command continues where it was stopped.

    Exit code 3 if files of a folder cannot be read: they are named, and the others imported.
    """
    from app.cli.archive import import_
    from app.indexing.files import is_local, local_path

    if is_local(place) and not Path(local_path(place)).exists():
        named = click.format_filename(place)
        raise click.UsageError(f"There is no file or folder {named}.")
    if not asyncio.run(import_(place, anew=anew)):
        sys.exit(INCOMPLETE)


@cli.group()
def model() -> None:
    """Show the encoder, fetch one, or drop the vectors of one."""


@model.command("info")
@json_option
def model_info(as_json: bool) -> None:
    """Show which encoder this machine and its index use."""
    from app.cli.facts import show_encoder

    asyncio.run(show_encoder(as_json=as_json))


@model.command("fetch")
@click.argument("encoder", default="clip")
def model_fetch(encoder: str) -> None:
    """Download an encoder (clip, or a hub id) and make its int8 form. Needs no database."""
    from app.cli.facts import fetch_encoder

    fetch_encoder(encoder)


@model.command("drop")
@click.argument("encoder")
def model_drop(encoder: str) -> None:
    """Drop the vectors of an encoder that is no longer in use; the images stay.

    `lookalike stats` shows which encoders have vectors, and their size. Restart servers that still
    use it first.
    """
    from app.cli.facts import drop_encoder

    drop_encoder(encoder)


for command in (search, compare, duplicates, reindex, vectors, media, trash, faces, keys):
    cli.add_command(command)
