"""One image of a list, shown large above it, with all that its own page says of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from starlette.datastructures import URL

from app.pictures.exif import camera, location, taken_at
from app.problems import InvalidRequest
from app.search.hits import Hit
from app.search.pages import Results
from app.search.query import Query, Term
from app.store.images import ImageRow
from app.web.faces_shown import FacesShown, faces_shown
from app.web.requests import Request, parts, shown_original

NEIGHBOURS = 24


@dataclass(frozen=True, slots=True)
class Details:
    """An image with what is known of it and the images most similar to it.

    `problem` says why there are none. `finer` is the path of an original that a page may show.
    """

    image: ImageRow
    results: Results | None
    problem: InvalidRequest | None
    taken_at: datetime | None
    camera: str | None
    location: tuple[float, float] | None
    finer: str | None
    faces: FacesShown


@dataclass(frozen=True, slots=True)
class Around:
    """Where the links of a lightbox lead: to the images `before` and `after`, and to the `list`."""

    before: str | None = None
    after: str | None = None
    list: str | None = None


@dataclass(frozen=True, slots=True)
class Lightbox(Details):
    """An image of a list: how it matched the query image `compared`, of this `size`, if it did."""

    hit: Hit | None = None
    size: tuple[int, int] | None = None
    compared: str = ""
    around: Around = field(default_factory=Around)


async def details_of(request: Request, image: ImageRow) -> Details:
    """Return what the page of an image shows."""
    results: Results | None = None
    problem: InvalidRequest | None = None
    try:
        query = Query([Term(image=image.id)], limit=NEIGHBOURS)
        results = await parts(request).searcher.search(query)
    except InvalidRequest as exc:
        problem = exc
    return Details(
        image,
        results,
        problem,
        taken_at(image.exif),
        camera(image.exif),
        location(image.exif),
        shown_original(image),
        await faces_shown(request, image),
    )


async def lightbox_of(
    request: Request,
    listed: Sequence[ImageRow],
    *,
    results: Results | None = None,
    compared: str = "",
) -> Lightbox | None:
    """Return the image that the field `show` of a list's URL names, None if there is none."""
    try:
        image = await parts(request).catalog.find(UUID(request.query_params.get("show", "")))
    except ValueError:
        return None
    if image is None:
        return None
    details = await details_of(request, image)
    hits = [*results.hits, *results.below] if results else []
    return Lightbox(
        **{name: getattr(details, name) for name in Details.__dataclass_fields__},
        hit=next((hit for hit in hits if hit.image.id == image.id), None),
        size=results.size if results else None,
        compared=compared,
        around=_around(request.url, [row.id for row in listed], image.id),
    )


def _around(url: URL, ids: Sequence[UUID], shown: UUID) -> Around:
    def at(place: int) -> str | None:
        return _path(url.include_query_params(show=ids[place])) if 0 <= place < len(ids) else None

    place = ids.index(shown) if shown in ids else len(ids) + 1
    return Around(at(place - 1), at(place + 1), _path(url.remove_query_params("show")))


def _path(url: URL) -> str:
    return f"{url.path}?{url.query}" if url.query else url.path
