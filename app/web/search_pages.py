"""The HTML pages of search. The state of a search is its URL.

Forms redirect to that URL, so that reload, back and bookmarks work. The server keeps only an
uploaded query image, for a day.
"""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
from app.problems import InvalidRequest, NoPicture, Problem
from app.search.pages import Results
from app.search.query import Term, read_terms
from app.search.requests import FilterRequest, SearchRequest
from app.store.filters import NO_FILTERS, Filters
from app.store.images import ImageRow
from app.web.forms import chosen_files, form_of
from app.web.requests import SANDBOX, Request, parts, uploaded
from app.web.schemas import FacetsResponse
from app.web.search_api import facets_document, run_search, search_fields
from app.web.templating import accept, page

NEWEST = 12
RESULTS = 60

# The fields that make a query; without any of them there are no results to show.
ASKED = ("url", "text", "upload", "like", "unlike", "cursor")
MARKS = ("like", "unlike")
# Fields that only a query by one whole image has.
_WHOLE = ("min_similarity", "match", "thorough")
# Fields that do not belong in the URL of a search.
_PASSING = ("cursor", "panel", "file")


@dataclass(frozen=True, slots=True)
class Shown:
    """A search as its form shows it: the fields of its URL."""

    fields: Sequence[tuple[str, str]]

    def value(self, name: str) -> str:
        """Return the last value of a field, or an empty string."""
        return self.values(name)[-1] if self.values(name) else ""

    def values(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for key, value in self.fields if key == name and value.strip()]

    def url(self, **changed: str) -> str:
        """Return the URL of the same search with some fields changed; an empty one is removed."""
        kept = [pair for pair in self.fields if pair[0] not in (*changed, *_PASSING)]
        return _url([*kept, *changed.items()])

    def url_without(self, name: str, value: str) -> str:
        """Return the URL of the same search without one value of a field."""
        return _url([p for p in self.fields if p != (name, value) and p[0] not in _PASSING])

    def url_without_filters(self) -> str:
        """Return the URL of the same search without filters."""
        filters = (*FilterRequest.model_fields, *_PASSING)
        return _url([pair for pair in self.fields if pair[0] not in filters])

    @property
    def asked(self) -> list[tuple[str, str]]:
        """The fields of the query, without those that only a query by one whole image has."""
        left_out = ("panel", *(_WHOLE if self.is_ranked else ()))
        pairs = [pair for pair in self.fields if pair[0] not in left_out]
        is_sorted = not (
            self.value("diversity") or (self.is_ranked and self.value("sort") == "changed")
        )
        return [pair for pair in pairs if is_sorted or pair[0] != "sort"]

    @property
    def narrowed(self) -> list[tuple[str, str]]:
        """The fields that are filters."""
        return [pair for pair in self.fields if pair[0] in FilterRequest.model_fields]

    @property
    def image(self) -> str:
        """The query image as the page that compares it with a result names it, if it is alone."""
        with suppress(InvalidRequest):
            terms = [Term(url=url) for url in self.values("url")]
            terms += read_terms(self.value("text"))
            uploads = self.values("upload")
            if len(terms) + len(uploads) == 1:
                return uploads[0] if uploads else terms[0].url or str(terms[0].image or "")
        return ""

    @property
    def is_asked(self) -> bool:
        """Whether there is a query."""
        return any(self.values(name) for name in ASKED)

    @property
    def has_filters(self) -> bool:
        """Whether any filter is set."""
        return any(value.strip() for _, value in self.narrowed)

    @property
    def is_ranked(self) -> bool:
        """Whether results are only ranked, because the query is not one whole image."""
        return any(self.values(name) for name in ("text", "like", "unlike", "crop"))


async def search_form(request: Request) -> Response:
    """Store the uploaded query image, and redirect to the URL of the search."""
    async with form_of(request) as form:
        fields = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
        shown = Shown(fields)
        if chosen_files(form):
            try:
                upload_id = await parts(request).uploads.keep(await uploaded(request, form))
            except Problem as problem:
                return await _search_page(request, shown, problem=problem)
            # An uploaded file replaces the previous query image.
            return RedirectResponse(shown.url(upload=str(upload_id), url="", crop=""), 303)
    if not shown.is_asked and not shown.has_filters:
        problem = NoPicture("Upload an image, or enter an image URL or words to search by.")
        return await _search_page(request, shown, problem=problem)
    return RedirectResponse(shown.url(), 303)


async def search_page(request: Request) -> Response:
    """Show the search form and, for a query, its results."""
    shown = Shown(request.query_params.multi_items())
    results: Results | None = None
    try:
        if shown.is_asked:
            wanted = parse(SearchRequest, search_fields(shown.asked))
            most = min(RESULTS, parts(request).settings.top_k)
            wanted = wanted.model_copy(update={"limit": wanted.limit or most})
            # Of a stored upload, the page shows the file itself.
            preview = not shown.value("upload")
            results = await run_search(request, wanted, None, preview=preview)
        else:
            wanted = parse(FilterRequest, search_fields(shown.narrowed))
    except Problem as problem:
        return await _search_page(request, shown, problem=problem)
    return await _search_page(request, shown, filters=wanted.filters, results=results)


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
    problem: Problem | None = None,
) -> Response:
    lookalike = parts(request)
    marked = await _marked(request, shown)
    return page(
        request,
        "search.html",
        status_code=problem.status if problem else 200,
        shown=shown,
        min_similarity=_lowest(request, shown),
        results=results,
        problem=problem,
        total=await lookalike.sizes.images(),
        newest=[] if results or problem else await _newest(request, filters),
        marked=marked,
        facets=await _facets(request, shown, filters),
        preview=_preview(shown, results),
        accept=accept(),
    )


async def _marked(request: Request, shown: Shown) -> dict[str, list[ImageRow]]:
    """Return the images marked as `like` and as `unlike`."""
    ids = {name: [i for value in shown.values(name) if (i := _uuid(value))] for name in MARKS}
    images = await parts(request).catalog.find_all([i for found in ids.values() for i in found])
    return {name: [images[i] for i in found if i in images] for name, found in ids.items()}


async def _facets(request: Request, shown: Shown, filters: Filters) -> FacetsResponse | None:
    """Return the values that the filter panel offers, if it is open."""
    if not (shown.has_filters or shown.value("panel")):
        return None
    return facets_document(await parts(request).vectors.facets(filters))


async def _newest(request: Request, filters: Filters) -> list[ImageRow]:
    """Return the images to show without a query: the newest that match the filters."""
    lookalike = parts(request)
    if not filters:
        return await lookalike.catalog.newest(limit=NEWEST)
    ids = await lookalike.vectors.newest(filters, limit=RESULTS)
    images = await lookalike.catalog.find_all(ids)
    return [images[image_id] for image_id in ids if image_id in images]


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


def _url(fields: Sequence[tuple[str, Any]]) -> str:
    given = [(name, value) for name, value in fields if str(value).strip()]
    return f"/?{urlencode(given)}" if given else "/"


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None
