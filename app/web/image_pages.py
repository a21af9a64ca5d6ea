"""The HTML endpoints of one image, and of the duplicates in the index."""

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
from app.pictures.exif import camera, location, taken_at
from app.problems import InvalidRequest, Problem
from app.search.query import Query, Term
from app.search.searcher import Results
from app.store.catalog import Entry
from app.web import schemas
from app.web.requests import Request, find_image, parts, text_fields
from app.web.search_api import find_duplicates
from app.web.templating import page

NEIGHBOURS = 24


async def picture_page(request: Request) -> Response:
    """Show one picture, what is known of it, and the pictures most like it."""
    image = await find_image(request)
    results: Results | None = None
    problem: Problem | None = None
    try:
        results = await parts(request).searcher.search(
            Query([Term(image=image.id)], limit=NEIGHBOURS)
        )
    except InvalidRequest as exc:
        problem = exc
    return page(
        request,
        "picture.html",
        image=image,
        results=results,
        problem=problem,
        taken_at=taken_at(image.exif),
        camera=camera(image.exif),
        location=location(image.exif),
    )


async def change_picture(request: Request) -> Response:
    """Change what is said of a picture, or take it out of the index."""
    image = await find_image(request)
    indexer = parts(request).indexer
    async with request.form() as form:
        fields = text_fields(form)
    if fields.pop("delete", None):
        await indexer.delete([image])
        return RedirectResponse("/index", 303)
    tags = [tag.strip() for tag in fields.pop("tags", "").split(",")]
    said = parse(schemas.DescribeRequest, {**fields, "tags": [tag for tag in tags if tag]})
    await indexer.describe(image, Entry(image.url, said.title, said.description, said.tags))
    return RedirectResponse(f"/images/{image.id}", 303)


async def duplicates_page(request: Request) -> Response:
    """Show groups of copies."""
    fields = {name: value for name, value in request.query_params.items() if value}
    wanted, found, problem = schemas.DuplicatesRequest.model_validate({}), None, None
    try:
        wanted = parse(schemas.DuplicatesRequest, fields)
        found = await find_duplicates(request, wanted)
    except InvalidRequest as exc:
        problem = exc
    return page(
        request,
        "duplicates.html",
        status_code=problem.status if problem else 200,
        wanted=wanted,
        found=found,
        problem=problem,
    )
