"""The HTML page of the indexed images: to look through, to describe and to delete them.

All of it works without JavaScript.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlencode
from uuid import UUID

from pydantic import Field
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from app.indexing.changes import Change
from app.indexing.coalescer import gather
from app.indexing.edits import Edit
from app.indexing.requests import MAX_TAG, RequestModel, parse
from app.jobs.jobs import MANY
from app.problems import InvalidRequest, NotFound
from app.store.catalog import Selection
from app.store.images import Entry, ImageRow
from app.store.orders import CatalogOrder
from app.store.sizes import Size
from app.store.trash import TrashFilters
from app.web import schemas
from app.web.adding_pages import shown_job
from app.web.forms import form_of, text_fields
from app.web.images_api import page_of_images
from app.web.lightbox import lightbox_of
from app.web.requests import Request, parts, selection_of
from app.web.templating import page
from app.web.trash_pages import moment_of

IMAGES_PER_PAGE = 60
KEPT = ("q", "gone", "sort")
ORDER_NAMES: Mapping[CatalogOrder, str] = {
    "newest": "Newest first",
    "oldest": "Oldest first",
    "biggest": "Most pixels first",
    "smallest": "Fewest pixels first",
    "heaviest": "Largest files first",
}
ORDERS: Mapping[str, CatalogOrder] = {order: order for order in ORDER_NAMES}


class ChosenRequest(RequestModel):
    """Images chosen on the page, and what to do with them.

    With `matching`, these are all that the page's search finds, on other pages too.
    """

    ids: list[UUID] = Field([], max_length=1000)
    matching: bool = False
    action: Literal["trash", "tag", "edit"]
    tag: str = Field("", max_length=MAX_TAG)
    field: str = ""
    how: str = ""
    text: str = ""

    @property
    def edit(self) -> Edit:
        """The edit of the chosen images; raises `InvalidRequest`."""
        if self.action == "tag":
            return parse(Edit, {"field": "tags", "how": "add", "text": self.tag})
        return parse(Edit, {"field": self.field, "how": self.how, "text": self.text})


async def index_page(request: Request) -> Response:
    """Show the indexed images or a selection of them."""
    lookalike = parts(request)
    given = request.query_params
    wanted, selection = _selection(given)
    order = ORDERS.get(given.get("sort", ""), "newest")
    # Read before the images: if it has ended, they are what it made of them.
    job = await shown_job(request)
    images, following = await page_of_images(
        request, selection, limit=IMAGES_PER_PAGE, cursor=given.get("cursor"), order=order
    )
    jobs = await lookalike.job_items.newest(limit=20)
    moved = given.get("moved", "")
    return page(
        request,
        "index.html",
        images=images,
        lightbox=await lightbox_of(request, images),
        next=following and _url(given, cursor=following),
        running=sum(job.state == "running" for job in jobs),
        total=await _total(request, selection),
        wanted=wanted,
        order=order,
        orders=ORDER_NAMES,
        selected=bool(selection),
        moved=moved,
        moved_number=await _number_moved(request, moved),
        job=job,
        edited=_number(given.get("edited")),
        unedited=_number(given.get("unedited")),
        days=lookalike.trash.days,
    )


async def change_chosen(request: Request) -> Response:
    """Move the chosen images to the trash, or edit what is said of them; many by a job."""
    async with form_of(request) as form:
        given = text_fields(form)
        wanted = parse(ChosenRequest, {**_known(given), "ids": _values(form, "ids")})
    lookalike = parts(request)
    ids = wanted.ids
    if wanted.matching:
        _, selection = _selection(given)
        found = await lookalike.catalog.newest(selection, limit=MANY + 1)
        if len(found) > MANY:
            return await _change_by_job(request, given, wanted, selection)
        ids = [image.id for image in found]
    if not ids:
        raise InvalidRequest("Select images first: tick the box below each.")
    if wanted.action == "trash":
        moved = await lookalike.trash.put(ids)
        return RedirectResponse(_url(given, moved=moved.at.isoformat()), 303)
    edited, unedited = await _edit(request, ids, wanted.edit)
    numbers = {"edited": edited, "unedited": unedited}
    return RedirectResponse(_url(given, **{name: str(n) for name, n in numbers.items() if n}), 303)


async def _change_by_job(
    request: Request, given: Mapping[str, str], wanted: ChosenRequest, selection: Selection
) -> Response:
    lookalike = parts(request)
    if wanted.action == "trash":
        at = await lookalike.trash.table.now()
        job = await lookalike.jobs.change(Change(do="trash", at=at), selection)
        return RedirectResponse(_url(given, moved=at.isoformat(), job=str(job)), 303)
    job = await lookalike.jobs.change(Change(do="edit", edit=wanted.edit), selection)
    return RedirectResponse(_url(given, job=str(job)), 303)


async def _edit(request: Request, ids: Sequence[UUID], edit: Edit) -> tuple[int, int]:
    """Edit images; return how many were, and how many could not be."""
    lookalike = parts(request)
    images = (await lookalike.catalog.find_all(ids)).values()

    async def one(image: ImageRow) -> bool:
        try:
            await lookalike.indexer.describe(image, Entry(image.url), edit=edit.of)
        except (NotFound, InvalidRequest):  # It was deleted meanwhile, or would be too long.
            return False
        return True

    done = await gather([one(image) for image in images])
    return sum(done), len(ids) - sum(done)


async def _total(request: Request, selection: Selection) -> Size:
    lookalike = parts(request)
    if not selection:
        return await lookalike.sizes.images()
    return Size(await lookalike.catalog.count(selection), approximate=False)


def _selection(
    fields: Mapping[str, str],
) -> tuple[schemas.SelectionRequest, Selection]:
    known = {name: fields[name] for name in ("q", "gone") if fields.get(name)}
    wanted = parse(schemas.SelectionRequest, known)
    return wanted, selection_of(wanted)


async def _number_moved(request: Request, moved: str) -> int:
    """Return how many of the images that were moved to the trash together are still there."""
    try:
        return await parts(request).trash.table.count(TrashFilters(at=moment_of(moved)))
    except InvalidRequest:
        return 0


def _number(given: str | None) -> int:
    return int(given) if given and re.fullmatch("[0-9]{1,6}", given, re.ASCII) else 0


def _known(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name in ChosenRequest.model_fields}


def _values(form: FormData, name: str) -> list[str]:
    return [value for value in form.getlist(name) if isinstance(value, str)]


def _url(given: Mapping[str, Any], **more: str) -> str:
    fields = {name: given[name] for name in KEPT if given.get(name)} | more
    return f"/index?{urlencode(fields)}" if fields else "/index"
