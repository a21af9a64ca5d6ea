"""The HTML page of the indexed images: to look through, to describe and to delete them.

All of it works without JavaScript.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from pydantic import Field
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from app.indexing.requests import MAX_TAG, RequestModel, parse
from app.problems import InvalidRequest, NotFound
from app.store.catalog import Selection
from app.store.images import Entry
from app.store.sizes import Size
from app.web import schemas
from app.web.forms import form_of, text_fields
from app.web.images_api import page_of_images
from app.web.lightbox import lightbox_of
from app.web.requests import Request, parts, selection_of
from app.web.templating import page

IMAGES_PER_PAGE = 60
# Of a list of ids that a URL holds, for which it can be undone.
MOST_UNDONE = 100
KEPT = ("q", "gone", "sort")


class ChosenRequest(RequestModel):
    """Images chosen on the page, and what to do with them."""

    ids: list[UUID] = Field([], max_length=1000)
    action: str = ""
    tag: str = Field("", max_length=MAX_TAG)


async def index_page(request: Request) -> Response:
    """Show the indexed images or a selection of them."""
    lookalike = parts(request)
    given = request.query_params
    wanted, selection = _selection(given)
    oldest = given.get("sort") == "oldest"
    images, following = await page_of_images(
        request, selection, limit=IMAGES_PER_PAGE, cursor=given.get("cursor"), oldest=oldest
    )
    jobs = await lookalike.job_items.newest(limit=20)
    moved, number = _moved(given.get("moved", ""))
    return page(
        request,
        "index.html",
        images=images,
        lightbox=await lightbox_of(request, images),
        next=following and _url(given, cursor=following),
        running=sum(job.state == "running" for job in jobs),
        total=await _total(request, selection),
        wanted=wanted,
        oldest=oldest,
        selected=bool(selection),
        moved=moved,
        moved_number=number,
        days=lookalike.trash.days,
    )


async def change_chosen(request: Request) -> Response:
    """Move the chosen images to the trash, or add a tag to each of them."""
    async with form_of(request) as form:
        given = text_fields(form)
        wanted = parse(ChosenRequest, {**_known(given), "ids": _values(form, "ids")})
    lookalike = parts(request)
    if not wanted.ids:
        raise InvalidRequest("Choose images first: each has a box to tick.")
    if wanted.action == "trash":
        moved = await lookalike.trash.put(wanted.ids)
        named = ",".join(map(str, moved)) if len(moved) <= MOST_UNDONE else str(len(moved))
        return RedirectResponse(_url(given, moved=named), 303)
    tag = wanted.tag.strip()
    if not tag:
        raise InvalidRequest("Enter the tag to add.")
    await _tag(request, wanted.ids, tag)
    return RedirectResponse(_url(given), 303)


async def delete_selection(request: Request) -> Response:
    """Move the images that the list's search selects to the trash."""
    async with form_of(request) as form:
        _, selection = _selection(text_fields(form))
    if not selection:
        raise InvalidRequest("Select images first: search the list, then delete what it shows.")
    moved = await parts(request).trash.put_all(selection)
    return RedirectResponse(_url({}, moved=str(moved)), 303)


async def _tag(request: Request, ids: Sequence[UUID], tag: str) -> None:
    images = await parts(request).catalog.find_all(ids)
    for image in images.values():
        if tag not in image.tags:
            entry = Entry(image.url, tags=[*image.tags, tag])
            try:
                await parts(request).indexer.describe(image, entry)
            except NotFound:  # It was deleted meanwhile.
                continue


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


def _moved(given: str) -> tuple[list[UUID], int]:
    """Return the images that were just moved to the trash, if they are few, and their number."""
    if given.isascii() and given.isdecimal() and len(given) < 10:
        return [], int(given)
    try:
        ids = [UUID(value) for value in given.split(",")[:MOST_UNDONE]]
    except ValueError:
        return [], 0
    return ids, len(ids)


def _known(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name in ChosenRequest.model_fields}


def _values(form: FormData, name: str) -> list[str]:
    return [value for value in form.getlist(name) if isinstance(value, str)]


def _url(given: Mapping[str, Any], **more: str) -> str:
    fields = {name: given[name] for name in KEPT if given.get(name)} | more
    return f"/index?{urlencode(fields)}" if fields else "/index"
