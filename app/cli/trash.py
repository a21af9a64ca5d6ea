"""The commands `trash list`, `trash restore` and `trash empty`."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from app.cli.terminal import say, show_json, show_line
from app.lookalike import open_lookalike
from app.settings import read_settings
from app.store.trash import Trashed

ROWS_AT_ONCE = 500


async def show_trash(*, as_json: bool) -> None:
    """Print the images in the trash, last trashed first."""
    found: list[Trashed] = []
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        table, days = lookalike.trash.table, lookalike.trash.days
        before = None
        while page := await table.newest(limit=ROWS_AT_ONCE, before=before):
            found += page
            before = (page[-1].trashed_at, page[-1].id)
    if as_json:
        show_json([_document(image, days) for image in found])
        return
    for image in found:
        show_line(f"{image.id}  {image.trashed_at:%Y-%m-%d}  {image.title or image.url}")
    if not found:
        say("The trash is empty.")


async def restore(ids: Sequence[UUID] | None, *, as_json: bool) -> int:
    """Restore images, all if `ids` is None; print and return how many were in the trash."""
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        number = await lookalike.trash.restore(ids)
    _show(number, "restored", as_json=as_json)
    return number


async def empty(ids: Sequence[UUID] | None, *, as_json: bool) -> int:
    """Delete images in the trash for good, all if `ids` is None; print and return how many."""
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        number = await lookalike.trash.empty(ids)
    _show(number, "deleted", as_json=as_json)
    return number


def _show(number: int, done: str, *, as_json: bool) -> None:
    if as_json:
        show_json({done: number})
    else:
        show_line(f"{number} {done}")


def _document(image: Trashed, days: float) -> dict[str, object]:
    return {
        "id": str(image.id),
        "url": image.url,
        "title": image.title,
        "bytes": image.bytes,
        "trashed_at": image.trashed_at.isoformat(),
        "deleted_at": (image.trashed_at + timedelta(days=days)).isoformat(),
    }
