"""The HTML page of the trash."""

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
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
    action, undoes = fields.pop("action", ""), fields.pop("undo", "")
    chosen = parse(TrashSelection, {name: value for name, value in fields.items() if value}).chosen
    trash = parts(request).trash
    await (trash.empty(chosen) if action == "delete" else trash.restore(chosen))
    return RedirectResponse("/index" if undoes else "/trash", 303)
