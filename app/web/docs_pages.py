"""The API documentation and problems, as HTML pages."""

from starlette.responses import Response

from app.indexing.sources import LIST_MEDIA_TYPES
from app.problems import Problem
from app.web.openapi import openapi_document, problems_of
from app.web.requests import Request
from app.web.templating import page


async def docs_page(request: Request) -> Response:
    """Show the operations and problems of the API."""
    return page(
        request,
        "docs.html",
        document=openapi_document(),
        lists=list(LIST_MEDIA_TYPES),
        problems=problems_of(),
    )


def problem_page(request: Request, problem: Problem) -> Response:
    """Show a problem as a page, for browsers."""
    return page(request, "problem.html", status_code=problem.status, problem=problem)
