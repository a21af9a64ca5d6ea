"""The Jinja templates and the context that all of them share."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.templating import Jinja2Templates

import app
from app.pictures.decoding import MEDIA_TYPES, SUFFIXES
from app.search.explained import differences_of, outline_of
from app.store.filters import PLAIN_NUMBER
from app.store.images import ImageRow
from app.web.requests import Request, original_url, parts
from app.web.schemas import FacetsResponse, FacetValue


def duration(seconds: float) -> str:
    """Return a duration for people: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def by_key(facets: FacetsResponse) -> list[tuple[str, list[FacetValue]]]:
    """Return the values of metadata by key; those of numbers in their order."""
    found: dict[str, list[FacetValue]] = {}
    for value in facets.metadata:
        found.setdefault(value.value.partition("=")[0], []).append(value)
    plain = {
        key: _plain(key, values) if _are_numbers(key, values) else values
        for key, values in found.items()
    }
    return sorted(plain.items())


def numeric(values: Sequence[FacetValue]) -> bool:
    """Return whether values, without their key, are several numbers, with a range to choose."""
    return len(values) > 1 and all(re.fullmatch(PLAIN_NUMBER, value.value) for value in values)


def _are_numbers(key: str, values: Sequence[FacetValue]) -> bool:
    return numeric([_without(key, value) for value in values])


def _plain(key: str, values: Sequence[FacetValue]) -> list[FacetValue]:
    numbers = [_without(key, value) for value in values]
    return sorted(numbers, key=lambda number: float(number.value))


def _without(key: str, value: FacetValue) -> FacetValue:
    return FacetValue(value=value.value.removeprefix(f"{key}="), count=value.count)


def assets(name: str) -> Path:
    """Return a folder of assets: inside the package, as in a wheel, or else beside it."""
    packaged = Path(app.__file__).parent / name
    return packaged if packaged.is_dir() else packaged.parent.parent / name


templates = Jinja2Templates(assets("templates"))
# Lines that are only tags leave none behind.
templates.env.trim_blocks = templates.env.lstrip_blocks = True
# Jinja's own filters have types that ours need not have.
cast(dict[str, Any], templates.env.filters).update(
    duration=duration,
    by_key=by_key,
    numeric=numeric,
    differences=differences_of,
    outline=outline_of,
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
        },
        status_code=status_code,
    )


def accept() -> str:
    """Return the supported image formats for a file input's `accept`."""
    return ",".join(sorted({*MEDIA_TYPES.values(), *SUFFIXES}))
