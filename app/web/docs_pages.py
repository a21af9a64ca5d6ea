"""The API documentation and problems, as HTML pages."""

import json
from typing import get_args

from starlette.responses import Response

from app.indexing.sources import LIST_MEDIA_TYPES
from app.problems import Problem
from app.web.openapi import OPERATIONS, openapi_document, problems_of
from app.web.operations import Tag
from app.web.requests import Request
from app.web.templating import page

# Opens the search by the largest image of the page on which it is chosen.
BOOKMARKLET = (
    "javascript:(()=>{const i=[...document.images].sort((a,b)=>b.naturalWidth*b.naturalHeight-"
    "a.naturalWidth*a.naturalHeight)[0];if(i)open(%s+'/?url='+encodeURIComponent(i.currentSrc))})()"
)


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


async def help_page(request: Request) -> Response:
    """Show how to search, and how to do it from other pages, browsers and phones."""
    base = str(request.base_url).rstrip("/")
    return page(request, "help.html", base=base, bookmarklet=BOOKMARKLET % json.dumps(base))


def problem_page(request: Request, problem: Problem) -> Response:
    """Show a problem as a page, for browsers."""
    return page(request, "problem.html", status_code=problem.status, problem=problem)
