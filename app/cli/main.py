"""The command line: `lookalike` or `python -m app`.

Exit codes: 0 done; 1 not done, for the reason on the last line; 2 wrong usage; 3 done, but some
images failed or nothing was found; 130 stopped with Ctrl-C.

This module declares the commands. What they do is in the modules beside it, which are imported when
a command runs, so that `--help` answers at once.
"""

import asyncio
import logging
import shlex
import signal
import sys
from pathlib import Path
from typing import IO, Any

import click

from app.cli.cleaning import duplicates, trash
from app.cli.key_commands import keys
from app.cli.options import INCOMPLETE, json_option
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


class _SearchCommand(click.Command):
    """`search`, with an option for every filter of the API.

    They are created when the command runs or shows its help, because the model of the filters takes
    longer to import than the rest of the command line.
    """

    _filters: list[click.Parameter] | None = None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, with those of the filters before `--json` and `--help`."""
        if self._filters is None:
            from app.cli.searching import filter_options

            self._filters = filter_options()
        own = super().get_params(ctx)
        return [*own[:-2], *self._filters, *own[-2:]]


@cli.command(cls=_SearchCommand)
@click.argument("query", nargs=-1, metavar="QUERY")
@click.option("-n", "--limit", type=click.IntRange(1), default=10, show_default=True)
@click.option("--open", "opens", is_flag=True, help="Open the first result.")
@click.option(
    "--thumbnails",
    type=click.Choice(["kitty", "sixel"]),
    help="Show pictures: how this terminal takes them. kitty, Ghostty, WezTerm and Konsole: kitty; "
    "foot, mlterm, iTerm2 and Windows Terminal: sixel.",
)
@click.option(
    "--min-similarity", type=float, help="Lowest similarity of a result, instead of MIN_SIMILARITY."
)
@click.option("--crop", metavar="X,Y,WIDTH,HEIGHT", help="The region of the image to search by.")
@click.option("--like", multiple=True, metavar="ID", help="More like this result.")
@click.option("--unlike", multiple=True, metavar="ID", help="Less like this result.")
@click.option("--diversity", type=float, help="0 to 1: how varied the results are.")
@click.option("--match", help="Only exact, copy (exact ones included) or scene (both included).")
@click.option("--thorough", is_flag=True, default=None, help="Look for parts of the image, too.")
@click.option("--sort", help="best, changed, biggest, newest or oldest, instead of best.")
@json_option
def search(
    query: tuple[str, ...],
    limit: int,
    as_json: bool,
    opens: bool,
    thumbnails: Any,
    **options: Any,
) -> None:
    """Search by a file, a URL, the id of an indexed image, a text, or a sum of these.

    Terms are added and subtracted, with weights: '2:golden retriever + ./pool.jpg - fruit'. What
    is in double quotes is text. Filters that take several values may be given several times; with
    filters only, what passes them is listed.

    Each result is a line: rank, match, similarity, size, in what it differs, path or URL. If a
    server of the same data is running, it does the work.
    """
    from app.cli.searching import search as search_index

    if len(query) > 1:
        raise click.UsageError(_in_quotes(query))
    expression = "".join(query)
    if not (expression.strip() or any(options.values())):
        raise click.UsageError("Nothing to search for: give a file, a URL, an image id or a text.")
    searching = search_index(
        expression, options, limit=limit, as_json=as_json, thumbnails=thumbnails, opens=opens
    )
    found = asyncio.run(searching)
    if not found:
        sys.exit(INCOMPLETE)


def _in_quotes(query: tuple[str, ...]) -> str:
    """Return how several arguments are written as one query."""
    images = [one for one in query if Path(one).is_file() or "://" in one]
    together = (" + " if images else " ").join(query)
    doing = "the sum of these" if images else "a text of several words"
    return f"One query at a time. To search by {doing}: lookalike search {shlex.quote(together)}"


@cli.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@json_option
def compare(a: str, b: str, as_json: bool) -> None:
    """Compare two images: each a file, a URL or the id of an indexed image.

    Says whether they are the same image, how similar they are, and in what they differ. Exit code 3
    if nothing proves that they show the same.
    """
    from app.cli.comparing import compare as compare_images

    proved = asyncio.run(compare_images(a, b, as_json=as_json))
    if not proved:
        sys.exit(INCOMPLETE)


@cli.command()
@json_option
def stats(as_json: bool) -> None:
    """Show how much is indexed, and with which encoder."""
    from app.cli.facts import show_stats

    asyncio.run(show_stats(as_json=as_json))


@cli.command()
@click.option(
    "--encoder", help="The encoder to change to: builtin, lite, clip, a hub id or a folder."
)
@click.option("--copy", is_flag=True, help="Only the copy vectors.")
@click.option("--semantic", is_flag=True, help="Only the vectors of what images show.")
def reindex(encoder: str | None, copy: bool, semantic: bool) -> None:
    """Embed the thumbnails of all images that an encoder has not embedded yet.

    Running servers keep their encoders. When all images are embedded, ENCODER=auto chooses the new
    one: restart the servers to switch.
    """
    from app.cli.indexing import reindex as embed_again

    both = copy == semantic
    asyncio.run(embed_again(encoder, copy=copy or both, semantic=semantic or both))


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
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export_index(file: Path) -> None:
    """Export the index with its vectors to a Parquet file."""
    from app.cli.indexing import export_file

    asyncio.run(export_file(file))


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_index(file: Path) -> None:
    """Import a Parquet file that `export` wrote.

    Images embedded with another encoder are embedded again, from the thumbnails. The file does not
    contain uploaded originals.
    """
    from app.cli.indexing import import_file

    asyncio.run(import_file(file))


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


cli.add_command(keys)
cli.add_command(duplicates)
cli.add_command(trash)
