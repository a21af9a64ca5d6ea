"""The API documentation and problems, as HTML pages."""

from typing import get_args

from starlette.responses import Response

from app.indexing.sources import LIST_MEDIA_TYPES
from app.problems import Problem
from app.web.openapi import OPERATIONS, openapi_document, problems_of
from app.web.operations import Tag
from app.web.requests import Request
from app.web.templating import page


async def docs_page(request: Request) -> Response:
    """Show the operations and problems of the API."""
    return page(
        request,
        "docs.html",
        document=openapi_document(),
        tags={tag: [op for op in OPERATIONS if op.tag == tag] for tag in get_args(Tag)},
        lists=list(LIST_MEDIA_TYPES),
        problems=problems_of(),
    )


def problem_page(request: Request, problem: Problem) -> Response:
    """Show a problem as a page, for browsers."""
    return page(request, "problem.html", status_code=problem.status, problem=problem)
