"""The JSON endpoints of search; the search page uses the same functions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response

from app.indexing.requests import parse
from app.problems import InvalidRequest
from app.search.documents import hit_document
from app.search.duplicates import Groups
from app.search.face_requests import face_query_of
from app.search.face_search import is_of_faces
from app.search.listing import is_of_list
from app.search.pages import Results
from app.search.query import Query, Term
from app.search.requests import FilterRequest, SearchRequest, query_of
from app.search.resolution import best_of
from app.search.resolver import Timings
from app.store.facet_counts import FacetCounts
from app.web import schemas
from app.web.access import require
from app.web.clients import client_of
from app.web.forms import (
    FILE,
    chosen_files,
    form_of,
    is_form,
    parse_query,
    query_fields,
    refuse_unknown_files,
    text_fields,
    values_of,
)
from app.web.replicas import searched
from app.web.requests import Indexed, Request, json_body, original_url, parts, respond, uploaded
from app.web.schemas import (
    FacetsResponse,
    FacetValue,
    FacetValuesRequest,
    FacetValuesResponse,
    SearchResponse,
)

# The contract of /api/query, which no setting changes. Similarities must be above this one, whereas
# they only have to reach MIN_SIMILARITY.
QUERY_SIMILARITY = 0.90
QUERY_LIMIT = 100

# The kinds of labels by their filters. Faces have few values, and a scope of their own.
FACET_KINDS: Mapping[schemas.FacetName, str] = {
    "formats": "format",
    "orientations": "orientation",
    "colours": "colour",
    "hosts": "host",
    "cameras": "camera",
    "tags": "tag",
    "metadata": "metadata",
}


async def query(request: Request) -> Response:
    """Return the URLs of the images whose similarity to `file` is above 0.90, best match first.

    With `verified`, those of the images that are proved to be copies, whatever their similarity.
    """
    async with form_of(request) as form:
        data = await uploaded(request, form)
        given = {name: text for name, text in text_fields(form).items() if name == "verified"}
    lookalike = parts(request)
    if not parse(schemas.QueryRequest, given).verified:
        look_up = partial(lookalike.lookup.find, data, above=QUERY_SIMILARITY, limit=QUERY_LIMIT)
        near = await searched(request, look_up)
        return _urls(request, near.images, near.took_ms)
    copies = Query([Term(data)], min_similarity=QUERY_SIMILARITY, limit=QUERY_LIMIT, match="copy")
    results = await searched(request, partial(lookalike.searcher.search, copies))
    images = [image for hit in results.hits for image in (hit.image, *hit.places)]
    return _urls(request, images, results.took_ms)


def _urls(request: Request, images: Sequence[Indexed], took_ms: Timings) -> Response:
    """Return the URLs of images; how long the stages took is in `Server-Timing`."""
    urls = [original_url(request, image) for image in images[:QUERY_LIMIT]]
    stages = ", ".join(f"{stage};dur={ms}" for stage, ms in took_ms.items())
    return JSONResponse(urls, headers={"Server-Timing": stages})


async def search(request: Request) -> Response:
    """Return the images that match a query."""
    data = None
    if is_form(request):
        async with form_of(request) as form:
            refuse_unknown_files(form)
            wanted = parse(SearchRequest, search_fields(form.multi_items()))
            # Browsers send an empty file where none was chosen.
            has_file = bool(chosen_files(form) or text_fields(form).get(FILE))
            data = await uploaded(request, form) if has_file else None
    else:
        wanted = await json_body(request, SearchRequest)
    if "faces" in wanted.include:
        require(client_of(request.scope), "faces")
    results = await run_search(request, wanted, data)
    return respond(
        SearchResponse(
            results=[
                hit_document(hit, original_url(request, hit.image), include=wanted.include)
                for hit in results.hits
            ],
            next=results.cursor,
            min_similarity=results.min_similarity,
            notes=list(results.notes),
            unknown_words=list(results.unknown_words),
            encoder=parts(request).encoder.model.name,
            took_ms=Timings(**results.took_ms),
        )
    )


async def facets(request: Request) -> Response:
    """Return the values to filter by, with counts."""
    wanted = parse(FilterRequest, search_fields(query_fields(request)))
    check_faces(request, wanted)
    count = partial(parts(request).vectors.facets, wanted.filters)
    counts = await searched(request, count)
    return respond(facets_document(counts, faces=_sees_faces(request)))


async def facet_values(request: Request) -> Response:
    """Return the values of one facet that contain a text, with counts."""
    wanted = parse(
        FacetValuesRequest, search_fields(query_fields(request), model=FacetValuesRequest)
    )
    check_faces(request, wanted)
    find = partial(
        parts(request).vectors.facet_values,
        wanted.filters,
        FACET_KINDS[wanted.facet],
        key=wanted.key,
        containing=wanted.q,
        limit=wanted.limit,
    )
    found = await searched(request, find)
    values = [FacetValue(value=value, count=count) for value, count in found.items()]
    return respond(FacetValuesResponse(values=values))


async def duplicates(request: Request) -> Response:
    """List groups of duplicates."""
    wanted = parse_query(request, schemas.DuplicatesRequest)
    found = await find_duplicates(request, wanted)
    return respond(
        schemas.DuplicatesResponse(
            groups=[
                [hit_document(hit, original_url(request, hit.image)) for hit in group]
                for group in found.groups
            ],
            best=[best_of([hit.image for hit in group]).id for group in found.groups],
            next=found.next,
        )
    )


async def find_duplicates(request: Request, wanted: schemas.DuplicatesRequest) -> Groups:
    """Return the groups of duplicates that a request asks for."""
    return await parts(request).duplicates.find(
        cursor=wanted.cursor,
        limit=wanted.limit,
        min_similarity=wanted.min_similarity,
        max_bits=wanted.max_bits,
    )


async def run_search(
    request: Request, wanted: SearchRequest, data: bytes | None, *, preview: bool = False
) -> Results:
    """Run the search of a form, a query string or a JSON body; raises `InvalidRequest`."""
    return await searched(request, partial(_run_search, request, wanted, data, preview=preview))


async def _run_search(
    request: Request, wanted: SearchRequest, data: bytes | None, *, preview: bool
) -> Results:
    check_faces(request, wanted)
    lookalike = parts(request)
    limit = wanted.limit or lookalike.settings.top_k
    if limit > lookalike.settings.top_k:
        raise InvalidRequest(
            f"limit: this server returns at most {lookalike.settings.top_k} results (TOP_K)."
        )
    if wanted.cursor and is_of_faces(wanted.cursor):
        require(client_of(request.scope), "faces")
        return await lookalike.face_searcher.next_page(
            wanted.cursor, limit=limit, beside=wanted.beside
        )
    if wanted.cursor:
        pages = lookalike.lister if is_of_list(wanted.cursor) else lookalike.searcher
        return await pages.next_page(
            wanted.cursor, limit=limit, sees_faces=_sees_faces(request), beside=wanted.beside
        )
    if wanted.face is not None:
        require(client_of(request.scope), "faces")
        by_face = face_query_of(wanted, wanted.face, data, limit=limit)
        return await lookalike.face_searcher.search(by_face)
    query = replace(query_of(wanted, data, limit=limit), preview=preview)
    if query.is_empty and query.filters:
        return await lookalike.lister.first_page(query)
    return await lookalike.searcher.search(query)


def _sees_faces(request: Request) -> bool:
    return "faces" in client_of(request.scope).scopes


def check_faces(request: Request, wanted: FilterRequest) -> None:
    """Raise a problem if a request filters by faces that its client may not see."""
    if wanted.faces:
        require(client_of(request.scope), "faces")


def search_fields(
    items: Sequence[tuple[str, Any]], model: type[FilterRequest] = SearchRequest
) -> dict[str, Any]:
    """Return the fields of a form or a query string, without empty ones.

    Fields that may be given several times become lists.
    """
    known = model.model_fields
    texts = [(name, value.strip()) for name, value in items if isinstance(value, str)]
    return values_of([(name, text) for name, text in texts if text or name not in known], model)


def facets_document(counts: FacetCounts, *, faces: bool = False) -> FacetsResponse:
    """Return facet counts as a JSON document, those of `faces` only if the client may see them."""

    def values(kind: str) -> list[FacetValue]:
        return [
            FacetValue(value=value, count=count)
            for value, count in counts.values.get(kind, {}).items()
        ]

    return FacetsResponse(
        total=counts.total,
        approximate=counts.approximate,
        formats=values("format"),
        orientations=values("orientation"),
        colours=values("colour"),
        hosts=values("host"),
        cameras=values("camera"),
        faces=values("faces") if faces else [],
        tags=values("tag"),
        metadata=values("metadata"),
        taken=counts.taken,
        located=counts.located,
    )
