"""The commands `media move` and `media clean`."""

from contextlib import aclosing
from typing import cast

from app.cli.terminal import bar, say
from app.indexing.thumbnail_mover import Moving, ThumbnailMover
from app.lookalike import open_lookalike
from app.settings import read_settings
from app.store.loose_thumbnails import Place

NAMES: dict[Place, str] = {"database": "the database", "media": "MEDIA_URL"}


async def move(to: str | None) -> None:
    """Move all thumbnails to a place, by default to that of new ones."""
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        target = cast(Place, to or lookalike.thumbnails.place)
        mover = ThumbnailMover(lookalike.database, lookalike.thumbnails, target)
        total, moving = await mover.count(), Moving(0, 0)
        with bar("Moving", total) as show:
            async with aclosing(mover.run()) as moves:
                async for moving in moves:
                    show(moving.moved + moving.lost)
        say(f"Moved {moving.moved} thumbnails into {NAMES[target]}.")
        if moving.lost:
            say(f"{moving.lost} others are no longer in MEDIA_URL: index their images again.")
        # Of the lost ones, some may have been indexed again by now.
        if (left := await mover.count() - moving.lost) > 0:
            say(f"{left} came or changed meanwhile: run it again.")
        if lookalike.settings.thumbnails not in ("auto", target):
            say(f"New ones still go elsewhere: set THUMBNAILS={target}, or auto.")


async def clean() -> None:
    """Remove files that nothing needs."""
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        removed = await lookalike.thumbnails.sweep()
        say(f"Removed {removed} thumbnails from MEDIA_URL that no image needs any more.")
