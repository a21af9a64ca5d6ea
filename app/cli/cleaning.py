"""The commands that clean the index up and renew it: `duplicates`, `trash` and `reindex`."""

import asyncio
import sys
from uuid import UUID

import click

from app.cli.options import INCOMPLETE, json_option


@click.command()
@click.option(
    "--min-similarity",
    type=click.FloatRange(-1, 1),
    default=0.85,
    show_default=True,
    help="Compare images that are at least so similar.",
)
@click.option(
    "--keep",
    type=click.Choice(["largest", "oldest"]),
    default="largest",
    show_default=True,
    help="The image to keep of each group.",
)
@click.option("--delete", is_flag=True, help="Move the others to the trash, after a preview.")
@click.option("--merge", is_flag=True, help="Keep the titles, tags and metadata of the others.")
@click.option("--yes", is_flag=True, help="Do not ask before moving them.")
@json_option
def duplicates(
    min_similarity: float, keep: str, delete: bool, merge: bool, yes: bool, as_json: bool
) -> None:
    """List groups of duplicates: the same bytes, or copies that are proved.

    With --delete, all but one of each group go to the trash, from which `lookalike trash restore`
    brings them back. Files in folders and on the web are only taken out of the index.
    """
    from app.cli.duplicates import resolve

    if as_json and delete and not yes:
        raise click.UsageError("--json does not ask: give --yes, too.")
    found = asyncio.run(
        resolve(
            min_similarity=min_similarity,
            keep=keep,
            delete=delete,
            merge=merge,
            ask=not yes,
            as_json=as_json,
        )
    )
    if not found:
        sys.exit(INCOMPLETE)


@click.group()
def trash() -> None:
    """List the images in the trash, restore them, or delete them for good."""


@trash.command("list")
@json_option
def list_trash(as_json: bool) -> None:
    """List the images in the trash, last trashed first."""
    from app.cli.trash import show_trash

    asyncio.run(show_trash(as_json=as_json))


_chosen = click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
_all = click.option("--all", "everything", is_flag=True, help="All images in the trash.")


@trash.command("restore")
@_chosen
@_all
@json_option
def restore_trash(ids: tuple[UUID, ...], everything: bool, as_json: bool) -> None:
    """Restore images with all that the index had of them."""
    from app.cli.trash import restore

    if not asyncio.run(restore(_selected(ids, everything=everything), as_json=as_json)):
        sys.exit(INCOMPLETE)


@trash.command("empty")
@_chosen
@_all
@json_option
def empty_trash(ids: tuple[UUID, ...], everything: bool, as_json: bool) -> None:
    """Delete images in the trash for good, with their uploads; other files stay where they are."""
    from app.cli.trash import empty

    if not asyncio.run(empty(_selected(ids, everything=everything), as_json=as_json)):
        sys.exit(INCOMPLETE)


def _selected(ids: tuple[UUID, ...], *, everything: bool) -> tuple[UUID, ...] | None:
    if everything == bool(ids):
        raise click.UsageError("Name images by their ids, or give --all.")
    return None if everything else ids


@click.command()
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
