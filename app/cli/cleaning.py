"""The declarations of the commands that clean the index up: `trash`."""

import asyncio
import sys
from uuid import UUID

import click

from app.cli.options import INCOMPLETE, json_option


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
