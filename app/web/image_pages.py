"""The HTML pages of an image and of duplicates."""

from dataclasses import fields
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
from app.pictures.exif import taken_at
from app.problems import InvalidRequest
from app.search.resolution import best_of
from app.store.images import Entry
from app.web import schemas
from app.web.duplicates_api import KeepRequest, NotDuplicatesRequest
from app.web.forms import form_of, text_fields
from app.web.lightbox import Around, details_of
from app.web.requests import Request, find_image, parts
from app.web.search_api import find_duplicates
from app.web.templating import page

# Pairs that are not duplicates, on the page of duplicates.
DENIED_SHOWN = 20


async def image_page(request: Request) -> Response:
    """Show an image, its details and the images most similar to it.

    With `part=lightbox`, only what the lightbox shows of them.
    """
    details = await details_of(request, await find_image(request))
    shown = {field.name: getattr(details, field.name) for field in fields(details)}
    if request.query_params.get("part") == "lightbox":
        return page(request, "_lightbox.html", hit=None, around=Around(), **shown)
    return page(request, "image.html", **shown)


async def edit_image(request: Request) -> Response:
    """Save an image's new details, or delete it."""
    image = await find_image(request)
    indexer = parts(request).indexer
    async with form_of(request) as form:
        given = text_fields(form)
    how = given.pop("delete", None)
    if how == "trash":
        moved = await parts(request).trash.put([image.id])
        return RedirectResponse(f"/index?{urlencode({'moved': moved.at.isoformat()})}", 303)
    if how:
        await indexer.delete([image])
        return RedirectResponse("/index", 303)
    tags = [tag.strip() for tag in given.pop("tags", "").split(",")]
    wanted = parse(schemas.DescribeRequest, {**given, "tags": [tag for tag in tags if tag]})
    await indexer.describe(image, Entry(image.url, wanted.title, wanted.description, wanted.tags))
    return RedirectResponse(f"/images/{image.id}", 303)


async def duplicates_page(request: Request) -> Response:
    """Show groups of duplicates."""
    given = {name: value for name, value in request.query_params.items() if value}
    just_denied = given.pop("denied", "")
    wanted, found, problem = schemas.DuplicatesRequest.model_validate({}), None, None
    try:
        wanted = parse(schemas.DuplicatesRequest, given)
        found = await find_duplicates(request, wanted)
    except InvalidRequest as exc:
        problem = exc
    return page(
        request,
        "duplicates.html",
        status_code=problem.status if problem else 200,
        wanted=wanted,
        found=found,
        best=[best_of([hit.image for hit in group]).id for group in found.groups] if found else [],
        taken_at=taken_at,
        denied=await parts(request).resolution.denied(DENIED_SHOWN),
        just_denied=just_denied,
        problem=problem,
    )


async def resolve_duplicates(request: Request) -> Response:
    """Keep one image of a group, or say that they are not duplicates, or unsay it: the buttons."""
    async with form_of(request) as form:
        given = text_fields(form)
    resolution, ids = parts(request).resolution, given.get("ids", "").split(",")
    action = given.get("action")
    if action in ("deny", "allow"):
        wanted = parse(NotDuplicatesRequest, {"ids": ids})
        if action == "allow":
            await resolution.allow(wanted.ids)
            return RedirectResponse("/duplicates", 303)
        await resolution.deny(wanted.ids)
        denied = ",".join(str(image_id) for image_id in wanted.ids)
        return RedirectResponse(f"/duplicates?{urlencode({'denied': denied})}", 303)
    chosen = parse(
        KeepRequest, {"keep": given.get("keep"), "others": ids, "merge": "merge" in given}
    )
    await resolution.keep(chosen.keep, chosen.others, merge=chosen.merge)
    return RedirectResponse("/trash", 303)
