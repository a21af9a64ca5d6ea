"""The command `media`, with its arguments."""

import asyncio

import click


@click.group()
def media() -> None:
    """Change where thumbnails are stored, and clean up there."""


@media.command("move")
@click.option(
    "--to",
    type=click.Choice(["database", "media"]),
    help="The database, or files in MEDIA_URL; by default where new ones go (THUMBNAILS).",
)
def move_media(to: str | None) -> None:
    """Move all thumbnails into MEDIA_URL, or back into the database.

    Servers and workers go on meanwhile. Each thumbnail is read again at its new place before it is
    removed from the old one. If the command is interrupted, the same command goes on. At the end,
    THUMBNAILS=auto becomes this place, in servers and workers from their next start on.
    """
    from app.cli.media import move

    asyncio.run(move(to))


@media.command("clean")
def clean_media() -> None:
    """Remove the thumbnails in MEDIA_URL that no image needs any more.

    Workers do so, too, every few minutes.
    """
    from app.cli.media import clean

    asyncio.run(clean())
