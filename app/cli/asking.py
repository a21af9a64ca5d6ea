"""The declarations of the commands that ask: `search` and `compare`."""

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from app.cli.options import INCOMPLETE, json_option


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


@click.command(cls=_SearchCommand)
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
@click.option(
    "--face",
    metavar="FACE",
    help="Search by a face: ID:ORDER of an indexed image, or of the one file its ORDER from the "
    "left or its X,Y,WIDTH,HEIGHT.",
)
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

    Exit code 3 if nothing is found: there is no result, or those by an image merely look alike and
    none is the same image or scene. With a lowest similarity, whatever has it is found.
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


@click.command()
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
