"""Jinja's templates and what all of them are given."""

from pathlib import Path
from typing import Any, cast

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from app.api import Request, original_url, parts
from app.catalog import Image
from app.pictures import MEDIA_TYPES, SUFFIXES


def duration(seconds: float) -> str:
    """Return a time to wait as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


templates = Jinja2Templates(Path(__file__).parent / "templates")
templates.env.filters["duration"] = duration


def page(request: Request, name: str, *, status_code: int = 200, **context: Any) -> Response:
    """Answer with a template."""

    def original(image: Image) -> str:
        return original_url(request, image)

    encoder = parts(request).encoder
    return templates.TemplateResponse(
        cast(HttpRequest, request),
        name,
        {**context, "encoder": encoder, "original": original},
        status_code=status_code,
    )


def accept() -> str:
    """Return the picture formats as a file input's `accept`."""
    return ",".join(sorted({*MEDIA_TYPES.values(), *SUFFIXES}))
