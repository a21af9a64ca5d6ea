"""The Jinja templates and the context that all of them share."""

import re
from pathlib import Path
from typing import Any, cast

from jinja2.ext import Extension
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.templating import Jinja2Templates
from typing_extensions import override

import app
from app.pictures.decoding import MEDIA_TYPES, SUFFIXES
from app.search.explained import differences_of, outline_of, similarity_of
from app.store.filters import PLAIN_NUMBER
from app.store.images import ImageRow
from app.web.faces_shown import sees_faces, sees_people, square_around
from app.web.requests import Request, original_url, parts
from app.web.schemas import FacetsResponse, FacetValue


def duration(seconds: float) -> str:
    """Return a duration for people: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def by_key(facets: FacetsResponse) -> list[tuple[str, list[FacetValue], bool]]:
    """Return the values of metadata by key, and whether they are a range of numbers.

    Those of a range are in their order, and without their key.
    """
    found: dict[str, list[FacetValue]] = {}
    for value in facets.metadata:
        found.setdefault(value.value.partition("=")[0], []).append(value)
    return [(key, *_as_range(key, values)) for key, values in sorted(found.items())]


def _as_range(key: str, values: list[FacetValue]) -> tuple[list[FacetValue], bool]:
    bare = [FacetValue(value=v.value.removeprefix(f"{key}="), count=v.count) for v in values]
    if len(bare) < 2 or not all(re.fullmatch(PLAIN_NUMBER, value.value) for value in bare):
        return values, False
    return sorted(bare, key=lambda number: float(number.value)), True


def assets(name: str) -> Path:
    """Return a folder of assets: inside the package, as in a wheel, or else beside it."""
    packaged = Path(app.__file__).parent / name
    return packaged if packaged.is_dir() else packaged.parent.parent / name


class Unindented(Extension):
    """Leaves out the indentation of templates, a sixth of what a page of results would be.

    One blank is kept of it: the line break before it may be left out, too.
    """

    @override
    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the source of a template with one blank where lines begin with several."""
        return re.sub(r"^[ \t]+", " ", source, flags=re.MULTILINE)


templates = Jinja2Templates(assets("templates"))
# Lines that are only tags leave none behind.
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.add_extension(Unindented)
# Jinja's own filters have types that ours need not have.
cast(dict[str, Any], templates.env.filters).update(
    duration=duration,
    by_key=by_key,
    differences=differences_of,
    similarity=similarity_of,
    outline=outline_of,
    square=square_around,
)


def page(request: Request, name: str, *, status_code: int = 200, **context: Any) -> Response:
    """Render a template as a response."""

    def original(image: ImageRow) -> str:
        return original_url(request, image)

    spaces = parts(request).index.spaces
    return templates.TemplateResponse(
        cast(HttpRequest, request),
        name,
        {
            **context,
            "encoder": spaces.semantic.encoder,
            "two_vectors": not spaces.are_one,
            "original": original,
            "sees_faces": sees_faces(request),
            "sees_people": sees_people(request),
        },
        status_code=status_code,
    )


def accept() -> str:
    """Return the supported image formats for a file input's `accept`."""
    return ",".join(sorted({*MEDIA_TYPES.values(), *SUFFIXES}))
