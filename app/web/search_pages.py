"""The HTML pages of search. The state of a search is its URL.

Forms redirect to that URL, so that reload, back and bookmarks work. The server keeps only an
uploaded query image, for a day.
"""

import base64
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from uuid import UUID

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
from app.problems import NoPicture, Problem
from app.search.pages import Results
from app.search.requests import SearchRequest
from app.store.filters import NO_FILTERS, Filters
from app.store.images import ImageRow
from app.web.faces_shown import faces_to_choose
from app.web.forms import chosen_files, form_of
from app.web.lightbox import lightbox_of
from app.web.replicas import searched
from app.web.requests import SANDBOX, Request, parts, uploaded
from app.web.schemas import FacetsResponse
from app.web.search_api import facets_document, run_search, search_fields
from app.web.shown import Shown, submitted
from app.web.templating import accept, page

NEWEST = 12
# Points on the map.
MOST_PLACES = 300
RESULTS = 60
# The room beside the results, in CSS pixels.
PREVIEW = (242, 300)

MARKS = ("like", "unlike")


async def search_form(request: Request) -> Response:
    """Store the uploaded query image, and redirect to the URL of the search."""
    async with form_of(request) as form:
        fields = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
        shown = submitted(fields)
        if chosen_files(form):
            try:
                upload_id = await parts(request).uploads.keep(await uploaded(request, form))
            except Problem as problem:
                return await _search_page(request, shown, problem=problem)
            # An uploaded file replaces the previous query image.
            return RedirectResponse(
                shown.url(upload=str(upload_id), url="", crop="", face="", choose=""), 303
            )
    if not shown.is_asked and not shown.has_filters:
        problem = NoPicture("Upload an image, or enter an image URL or words to search by.")
        return await _search_page(request, shown, problem=problem)
    return RedirectResponse(shown.url(), 303)


async def search_page(request: Request) -> Response:
    """Show the search form and, for a query, its results."""
    shown = Shown(request.query_params.multi_items())
    wanted: SearchRequest | None = None
    results: Results | None = None
    try:
        if shown.is_asked or shown.has_filters:
            wanted = parse(SearchRequest, search_fields(shown.asked))
            most = min(RESULTS, parts(request).settings.top_k)
            wanted = wanted.model_copy(update={"limit": wanted.limit or most})
            # Of a stored upload, the page shows the file itself.
            preview = not shown.value("upload")
            results = await run_search(request, wanted, None, preview=preview)
    except Problem as problem:
        return await _search_page(request, shown, problem=problem)
    return await _search_page(
        request,
        shown,
        filters=wanted.filters if wanted else NO_FILTERS,
        results=results,
        is_weak=await _is_weak(request, shown, results),
    )


async def show_upload(request: Request) -> Response:
    """Return an uploaded query image."""
    upload = await parts(request).uploads.find(request.path_params["id"])
    return Response(upload.data, media_type=upload.media_type, headers=SANDBOX)


async def _search_page(
    request: Request,
    shown: Shown,
    *,
    filters: Filters = NO_FILTERS,
    results: Results | None = None,
    is_weak: bool = False,
    problem: Problem | None = None,
) -> Response:
    lookalike = parts(request)
    facets = await _facets(request, shown, filters)
    marked = await _marked(request, shown)
    idle = not results and not problem
    newest = await lookalike.catalog.newest(limit=NEWEST) if idle else []
    listed = [hit.image for hit in (*results.hits, *results.below)] if results else newest
    return page(
        request,
        "search.html",
        status_code=problem.status if problem else 200,
        shown=shown,
        min_similarity=_lowest(request, shown),
        results=results,
        is_weak=is_weak,
        problem=problem,
        total=await lookalike.sizes.images(),
        newest=newest,
        lightbox=await lightbox_of(request, listed, results=results, compared=shown.image),
        marked=marked,
        named=await _named(request, shown),
        facets=facets,
        places=await _places(request, filters, facets),
        preview=_preview(shown, results),
        faces=await faces_to_choose(request, shown),
        sized=_sized(results),
        accept=accept(),
    )


async def _marked(request: Request, shown: Shown) -> dict[str, list[ImageRow]]:
    """Return the images marked as `like` and as `unlike`."""
    ids = {name: [i for value in shown.values(name) if (i := _uuid(value))] for name in MARKS}
    images = await parts(request).catalog.find_all([i for found in ids.values() for i in found])
    return {name: [images[i] for i in found if i in images] for name, found in ids.items()}


async def _named(request: Request, shown: Shown) -> Mapping[UUID, ImageRow]:
    """Return the images that the terms of the text name by their ids."""
    ids = [term.image for term in shown.terms if term.image is not None]
    return await parts(request).catalog.find_all(ids) if ids else {}


async def _is_weak(request: Request, shown: Shown, results: Results | None) -> bool:
    """Whether words found nothing nearer than words that have nothing to do with each other do."""
    if results is None or not shown.is_phrase or shown.value("cursor"):
        return False
    if any("text" in hit.matched for hit in results.hits):
        return False
    best = max((hit.similarity for hit in results.hits if hit.similarity is not None), default=None)
    chance = await parts(request).chance.similarity() if best is not None else None
    return best is not None and chance is not None and best < chance


async def _facets(request: Request, shown: Shown, filters: Filters) -> FacetsResponse | None:
    """Return the values that the filter panel offers, if it is open."""
    if shown.value("panel") != "filters":
        return None
    count = partial(parts(request).vectors.facets, filters)
    return facets_document(await searched(request, count))


async def _places(
    request: Request, filters: Filters, facets: FacetsResponse | None
) -> list[tuple[float, float]]:
    """Return where images that pass the filters were taken, whatever area is chosen."""
    if facets is None or not (facets.located or filters.box):
        return []
    everywhere = replace(filters, box=None)
    find = partial(parts(request).vectors.places, everywhere, limit=MOST_PLACES)
    return await searched(request, find)


def _lowest(request: Request, shown: Shown) -> float:
    default = parts(request).settings.min_similarity
    try:
        return float(shown.value("min_similarity") or default)
    except ValueError:
        return default


def _preview(shown: Shown, results: Results | None) -> str | None:
    """Return a URL of the query image that the page can show."""
    if upload_id := _uuid(shown.value("upload")):
        return f"/uploads/{upload_id}"
    if results is None or results.picture is None:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(results.picture.thumbnail).decode()}"


def _sized(results: Results | None) -> tuple[int, int] | None:
    """Return the width and height, in CSS pixels, at which the query image is shown."""
    picture = results.picture if results else None
    if picture is None:
        return None
    scale = min(PREVIEW[0] / picture.width, PREVIEW[1] / picture.height)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None
