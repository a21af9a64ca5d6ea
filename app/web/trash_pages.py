"""The HTML page of the trash."""

from datetime import UTC, datetime

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
from app.problems import InvalidRequest
from app.web.forms import form_of, text_fields
from app.web.requests import Request, parts
from app.web.templating import page
from app.web.trash_api import TrashRequest, TrashSelection, trash_page

IMAGES_PER_PAGE = 60


async def show_trash(request: Request) -> Response:
    """Show the images in the trash."""
    given = {"limit": IMAGES_PER_PAGE, "cursor": request.query_params.get("cursor") or None}
    found = await trash_page(request, parse(TrashRequest, given))
    return page(request, "trash.html", found=found, days=parts(request).trash.days)


async def change_trash(request: Request) -> Response:
    """Restore images, or delete them for good: what the buttons do."""
    async with form_of(request) as form:
        fields = text_fields(form)
    if "moved" in fields:
        await parts(request).trash.restore_together(moment_of(fields["moved"]))
        return RedirectResponse("/index", 303)
    action = fields.pop("action", "")
    chosen = parse(TrashSelection, {name: value for name, value in fields.items() if value}).chosen
    trash = parts(request).trash
    await (trash.empty(chosen) if action == "delete" else trash.restore(chosen))
    return RedirectResponse("/trash", 303)


def moment_of(written: str) -> datetime:
    """Return the time at which images were moved to the trash together; raises `InvalidRequest`."""
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidRequest("moved: it is no time at which images were moved.") from exc
