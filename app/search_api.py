"""The JSON endpoints of searching; the page asks through the same functions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_origin

from starlette.responses import JSONResponse, Response

from app.api import (
    Request,
    hit_document,
    json_body,
    original_url,
    parse,
    parts,
    refuse_unknown_files,
    respond,
    uploaded,
)
from app.facet_counts import FacetCounts
from app.pictures import Crop
from app.problems import InvalidRequest
from app.query import Query, Term, read_terms
from app.search import Results
from app.search_schemas import (
    CropRequest,
    FacetsResponse,
    FacetValue,
    FilterRequest,
    SearchRequest,
    SearchResponse,
    TermRequest,
    Timings,
)

# The guide's threshold and size (design.md: "The HTTP contract"), which settings do not move.
QUERY_SIMILARITY = 0.90
QUERY_LIMIT = 100


async def query(request: Request) -> Response:
    """Find the URLs of pictures whose similarity to `file` is above 0.90."""
    async with request.form() as form:
        data = await uploaded(request, form)
    results = await parts(request).searcher.search(
        Query([Term(data)], min_similarity=QUERY_SIMILARITY, limit=QUERY_LIMIT)
    )
    images = [image for hit in results.hits for image in (hit.image, *hit.places)]
    return JSONResponse([original_url(request, image) for image in images[:QUERY_LIMIT]])


async def search(request: Request) -> Response:
    """Find the pictures that a query asks for."""
    data = None
    if _is_form(request):
        async with request.form() as form:
            wanted = parse(SearchRequest, search_fields(form.multi_items()))
            refuse_unknown_files(form)
            data = await uploaded(request, form) if "file" in form else None
    else:
        wanted = await json_body(request, SearchRequest)
    results = await run_search(request, wanted, data)
    return respond(
        SearchResponse(
            results=[hit_document(hit, original_url(request, hit.image)) for hit in results.hits],
            next=results.cursor,
            min_similarity=results.min_similarity,
            notes=list(results.notes),
            unknown_words=list(results.unknown_words),
            encoder=parts(request).encoder.model.name,
            took_ms=Timings(**results.took_ms),
        )
    )


async def facets(request: Request) -> Response:
    """Tell what there is to filter by."""
    wanted = parse(FilterRequest, search_fields(request.query_params.multi_items()))
    return respond(facets_document(await parts(request).store.facets(wanted.filters)))


async def run_search(request: Request, wanted: SearchRequest, data: bytes | None) -> Results:
    """Run the search that a form, an address or a JSON body asks for; raises `InvalidRequest`."""
    lookalike = parts(request)
    limit = wanted.limit or lookalike.settings.top_k
    if limit > lookalike.settings.top_k:
        raise InvalidRequest(
            f"limit: this server answers with at most {lookalike.settings.top_k} results."
        )
    if wanted.cursor:
        return await lookalike.searcher.next_page(wanted.cursor, limit=limit)
    return await lookalike.searcher.search(query_of(wanted, data, limit=limit))


def query_of(wanted: SearchRequest, data: bytes | None, *, limit: int) -> Query:
    """Return a request, and the file that came with it, as a query."""
    terms = [Term(data)] if data is not None else []
    if wanted.upload is not None:
        terms.append(Term(upload=wanted.upload))
    if wanted.url:
        terms.append(Term(url=wanted.url))
    terms += [_term(term) for term in wanted.query]
    terms += read_terms(wanted.text or "")
    return Query(
        with_crop(terms, wanted.crop),
        like=wanted.like,
        unlike=wanted.unlike,
        filters=wanted.filters,
        min_similarity=wanted.min_similarity,
        diversity=wanted.diversity,
        limit=limit,
    )


def crop_of(crop: CropRequest | None) -> Crop | None:
    """Return the region of a request."""
    return None if crop is None else Crop(crop.x, crop.y, crop.width, crop.height)


def with_crop(terms: Sequence[Term], region: CropRequest | None) -> list[Term]:
    """Return the terms with a region for those pictures that have none of their own.

    Raises `InvalidRequest` if there is no picture.
    """
    crop = crop_of(region)
    if crop and all(term.text is not None for term in terms):
        raise InvalidRequest("crop: there is no picture that it could be a region of.")
    return [replace(t, crop=t.crop or crop) if t.text is None else t for t in terms]


def search_fields(
    items: Sequence[tuple[str, Any]], model: type[FilterRequest] = SearchRequest
) -> dict[str, Any]:
    """Return the fields of a form or an address without those that were left empty.

    What may be given several times becomes a list.
    """
    known = model.model_fields
    fields: dict[str, Any] = {}
    for name, value in items:
        if not isinstance(value, str) or (name in known and not value.strip()):
            continue
        if name in known and get_origin(known[name].annotation) in (list, dict):
            fields.setdefault(name, []).append(value.strip())
        else:
            fields[name] = value.strip()
    return fields


def facets_document(counts: FacetCounts) -> FacetsResponse:
    """Return counts as JSON shows them."""

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
        tags=values("tag"),
        metadata=values("metadata"),
        taken=counts.taken,
        located=counts.located,
    )


def _term(term: TermRequest) -> Term:
    return Term(
        url=term.url,
        image=term.id,
        upload=term.upload,
        text=term.text,
        weight=term.weight,
        crop=crop_of(term.crop),
    )


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("multipart/form-data", "application/x-www-form-urlencoded")
