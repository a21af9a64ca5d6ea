"""The HTML page of the trash."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
from app.problems import InvalidRequest
from app.store.trash import TrashFilters
from app.web.adding_pages import shown_job
from app.web.forms import form_of, text_fields
from app.web.requests import Request, parts
from app.web.schemas import SelectionRequest
from app.web.templating import page
from app.web.trash_api import TrashRequest, TrashSelection, trash_page

IMAGES_PER_PAGE = 60


async def show_trash(request: Request) -> Response:
    """Show the images in the trash."""
    given = request.query_params
    query = _text(given)
    # Read before the images: if it has ended, they are what it has left there.
    job = await shown_job(request)
    wanted = {"limit": IMAGES_PER_PAGE, "cursor": given.get("cursor") or None}
    found = await trash_page(request, parse(TrashRequest, wanted), TrashFilters(query))
    following = urlencode({"q": query, "cursor": found.next} if query else {"cursor": found.next})
    return page(
        request,
        "trash.html",
        found=found,
        q=query,
        next=found.next and f"/trash?{following}",
        job=job,
        days=parts(request).trash.days,
    )


async def change_trash(request: Request) -> Response:
    """Restore images, many by a job, or delete them for good: what the buttons do."""
    async with form_of(request) as form:
        fields = text_fields(form)
    lookalike = parts(request)
    if "moved" in fields:
        job = await lookalike.jobs.undo_trash(moment_of(fields["moved"]))
        return _shown("/index", job)
    action = fields.pop("action", "")
    filters = TrashFilters(_text(fields))
    fields.pop("q", None)
    chosen = parse(TrashSelection, {name: value for name, value in fields.items() if value}).chosen
    if action == "delete":
        if filters.conditions:
            raise InvalidRequest("Only the whole trash is emptied, or single images are deleted.")
        await lookalike.trash.empty(chosen)
        return RedirectResponse("/trash", 303)
    if chosen is None:
        return _shown("/trash", await lookalike.jobs.restore(filters))
    await lookalike.trash.restore(chosen)
    return RedirectResponse("/trash", 303)


def _text(fields: Mapping[str, str]) -> str:
    return parse(SelectionRequest, {"q": fields.get("q", "")}).q


def _shown(path: str, job: int | None) -> Response:
    """Return a redirect to a page that shows a job, if there is one."""
    return RedirectResponse(f"{path}?job={job}" if job else path, 303)


def moment_of(written: str) -> datetime:
    """Return the time at which images were moved to the trash together; raises `InvalidRequest`."""
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidRequest("moved: it is no time at which images were moved.") from exc
