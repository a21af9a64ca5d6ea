"""The application: its routes, middleware, exception handlers and lifespan."""

import errno
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ExceptionHandler

from app.lookalike import Lookalike
from app.problems import (
    InvalidRequest,
    KeyRequired,
    MethodNotAllowed,
    NotFound,
    Problem,
    RequestTimedOut,
    StorageUnavailable,
    Unavailable,
)
from app.settings import Settings
from app.store.keys import ApiKeys
from app.web import (
    adding_pages,
    compare_api,
    compare_pages,
    docs_pages,
    duplicates_api,
    image_pages,
    images_api,
    index_pages,
    indexing_api,
    jobs_api,
    operations_api,
    people_api,
    people_pages,
    search_api,
    search_pages,
    trash_api,
    trash_pages,
)
from app.web.access import Identification, ReadAccess, WriteAccess
from app.web.cors import Cors
from app.web.docs_pages import problem_page
from app.web.keyring import KeyRing
from app.web.load import BodyDeadline, OpenRequests
from app.web.metrics import Metrics, RequestMetrics
from app.web.openapi import openapi_document
from app.web.rate_limits import RateLimits
from app.web.replicas import ReadYourWrites
from app.web.request_log import RequestLog, note_problem, problem_document
from app.web.requests import AppState, Request
from app.web.security import BodyLimit, HostCheck, SecurityHeaders
from app.web.stream_counter import StreamCounter
from app.web.templating import assets

if TYPE_CHECKING:
    from app.web.rate_counters import RateCounters

FORM_OVERHEAD_BYTES = 64_000
# For a list of URLs; JSON of at most 1,000 images stays far below.
LIST_BYTES = 1_000_000_000
# Without JavaScript, a form sends all chosen files at once.
IMAGES_PER_FORM = 50
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class _JobId(Convertor[int]):
    """Matches the id of a job; longer numbers are the URLs of nothing."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("job", _JobId())


def create_app(
    lookalike: Lookalike,
    *,
    routes: Sequence[BaseRoute] = (),
    command_secret: str | None = None,
) -> Starlette:
    """Return the application for opened parts; `routes` come before its own.

    Whoever sends `command_secret` as a key may read.
    """
    settings = lookalike.settings
    keyring = KeyRing(
        ApiKeys(lookalike.database), configured=settings.api_keys, command_secret=command_secret
    )
    counters = _rate_counters(settings)
    metrics = Metrics(lookalike)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[AppState]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(keyring.close)
            if counters:
                stack.push_async_callback(counters.close)
            # So that those known answer for the keys whenever the database is away.
            with suppress(Unavailable):
                await keyring.has_keys()
            if replica := lookalike.database.replica:
                await stack.enter_async_context(replica.watched(lookalike.database.engine))
            if settings.worker:
                await stack.enter_async_context(lookalike.jobs.working())
            yield {"lookalike": lookalike, "streams": StreamCounter()}

    return Starlette(
        routes=[*routes, *_routes(settings), Route("/metrics", metrics.show)],
        middleware=_middleware(metrics, keyring, lookalike, counters),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )


def _rate_counters(settings: Settings) -> "RateCounters | None":
    if not settings.rate_limit:
        return None
    # Imported here because most servers have no limits, and need no package for them.
    from app.web.rate_counters import RateCounters

    return RateCounters(settings)


def create_worker_app(lookalike: Lookalike) -> Starlette:
    """Return the application of a worker, which has nothing but its health and its metrics."""
    settings = lookalike.settings
    keyring = KeyRing(ApiKeys(lookalike.database), configured=settings.api_keys)
    metrics = Metrics(lookalike)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[AppState]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(keyring.close)
            yield {"lookalike": lookalike, "streams": StreamCounter()}

    return Starlette(
        routes=[Route("/healthz", operations_api.healthz), Route("/metrics", metrics.show)],
        middleware=_middleware(metrics, keyring, lookalike, None),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )


def _middleware(
    metrics: Metrics, keyring: KeyRing, lookalike: Lookalike, counters: "RateCounters | None"
) -> list[Middleware]:
    settings = lookalike.settings
    origins = settings.cors_origins
    return [
        Middleware(SecurityHeaders, images_from=lookalike.thumbnails.files.origin),
        *([Middleware(Cors, origins=origins)] if origins else []),
        Middleware(RequestMetrics, metrics=metrics),
        # Unexpected exceptions end here, so that their 500s have the headers, too.
        Middleware(RequestLog, render=_unexpected),
        # What those below it raise. Starlette's own is inside of them.
        Middleware(ExceptionMiddleware, handlers={Problem: _problem}),
        Middleware(HostCheck, trusted=settings.trusted_hosts),
        Middleware(Identification, keyring=keyring, settings=settings),
        *([Middleware(RateLimits, counters=counters)] if counters else []),
        Middleware(ReadAccess),
        *([Middleware(ReadYourWrites)] if lookalike.database.replica else []),
        Middleware(
            OpenRequests,
            most=settings.max_requests,
            most_per_client=settings.max_requests_per_client,
        ),
        Middleware(BodyDeadline, timeout_s=settings.request_timeout_s),
    ]


def _routes(settings: Settings) -> list[BaseRoute]:
    image = settings.max_upload_bytes + FORM_OVERHEAD_BYTES
    one = [Middleware(BodyLimit, max_bytes=image)]
    two = [Middleware(BodyLimit, max_bytes=2 * image)]
    writes = [Middleware(WriteAccess, origins=settings.cors_origins)]
    urls = [*writes, Middleware(BodyLimit, max_bytes=LIST_BYTES)]
    words = [*writes, Middleware(BodyLimit, max_bytes=FORM_OVERHEAD_BYTES)]
    many = [*writes, Middleware(BodyLimit, max_bytes=image * IMAGES_PER_FORM)]
    return [
        Route("/", search_pages.search_page),
        Route("/", search_pages.search_form, methods=["POST"], middleware=one),
        Route("/uploads/{id:uuid}", search_pages.show_upload),
        Route("/index", index_pages.index_page),
        Route("/index", adding_pages.adding_form, methods=["POST"], middleware=many),
        Route("/index/images", index_pages.change_chosen, methods=["POST"], middleware=words),
        Route("/add", adding_pages.adding_page),
        Route("/index/events", adding_pages.job_events),
        Route("/index/jobs/clear", adding_pages.clear_jobs, methods=["POST"], middleware=words),
        Route(
            "/index/jobs/{id:job}/{action}",
            adding_pages.change_job,
            methods=["POST"],
            middleware=words,
        ),
        Route("/duplicates", image_pages.duplicates_page),
        Route("/duplicates", image_pages.resolve_duplicates, methods=["POST"], middleware=words),
        Route("/compare", compare_pages.compare_page),
        Route("/trash", trash_pages.show_trash),
        Route("/trash", trash_pages.change_trash, methods=["POST"], middleware=words),
        Route("/docs", docs_pages.docs_page),
        Route("/help", docs_pages.help_page),
        Route("/images/{id:uuid}", image_pages.image_page),
        Route("/images/{id:uuid}", image_pages.edit_image, methods=["POST"], middleware=words),
        Route("/images/{id:uuid}/thumbnail", images_api.thumbnail),
        Route("/images/{id:uuid}/original", images_api.original, name="original"),
        Route("/api/upsert", indexing_api.upsert, methods=["POST"], middleware=urls),
        Route("/api/query", search_api.query, methods=["POST"], middleware=one),
        Route("/api/search", search_api.search, methods=["POST"], middleware=one),
        Route("/api/compare", compare_api.compare, methods=["POST"], middleware=two),
        Route("/api/facets", search_api.facets),
        Route("/api/facets/values", search_api.facet_values),
        Route("/api/images", images_api.list_images),
        Route("/api/images", indexing_api.upload_images, methods=["POST"], middleware=many),
        Route("/api/images", images_api.delete_images, methods=["DELETE"], middleware=writes),
        Route("/api/images/{id:uuid}", images_api.show_image),
        Route(
            "/api/images/{id:uuid}", images_api.describe_image, methods=["PATCH"], middleware=writes
        ),
        Route(
            "/api/images/{id:uuid}", images_api.delete_image, methods=["DELETE"], middleware=writes
        ),
        Route("/api/trash", trash_api.list_trash),
        Route("/api/trash", trash_api.empty_trash, methods=["DELETE"], middleware=writes),
        Route("/api/trash/restore", trash_api.restore, methods=["POST"], middleware=writes),
        Route("/api/trash/{id:uuid}/thumbnail", trash_api.thumbnail),
        Route("/api/refresh", indexing_api.refresh, methods=["POST"], middleware=writes),
        Route("/api/captions", indexing_api.caption, methods=["POST"], middleware=writes),
        Route("/api/jobs", jobs_api.list_jobs),
        Route("/api/jobs/{id:job}", jobs_api.show_job),
        Route("/api/jobs/{id:job}", jobs_api.delete_job, methods=["DELETE"], middleware=writes),
        Route("/api/jobs/{id:job}/items", jobs_api.list_items),
        Route("/api/jobs/{id:job}/events", jobs_api.job_events),
        Route("/api/jobs/{id:job}/retry", jobs_api.retry_job, methods=["POST"], middleware=writes),
        Route(
            "/api/jobs/{id:job}/cancel", jobs_api.cancel_job, methods=["POST"], middleware=writes
        ),
        Route("/api/duplicates", search_api.duplicates),
        Route("/api/duplicates/keep", duplicates_api.keep, methods=["POST"], middleware=writes),
        Route("/api/duplicates/denied", duplicates_api.denied),
        Route("/api/duplicates/deny", duplicates_api.deny, methods=["POST"], middleware=writes),
        *_people(writes, words),
        Route("/api/stats", operations_api.stats),
        Route("/healthz", operations_api.healthz),
        Route("/readyz", operations_api.readyz),
        Route("/openapi.json", _openapi),
        Mount("/static", StaticFiles(directory=assets("static"))),
    ]


def _people(writes: list[Middleware], words: list[Middleware]) -> list[BaseRoute]:
    one = "/api/people/{id:uuid}"
    return [
        Route("/people", people_pages.show_people),
        Route("/people/{id:uuid}", people_pages.show_person),
        Route("/people", people_pages.change_people, methods=["POST"], middleware=words),
        Route("/people/{id:uuid}", people_pages.change_person, methods=["POST"], middleware=words),
        Route("/api/people", people_api.list_people),
        Route(one, people_api.show_person),
        Route(one, people_api.rename_person, methods=["PATCH"], middleware=writes),
        Route(one, people_api.forget_person, methods=["DELETE"], middleware=writes),
        Route(f"{one}/merge", people_api.merge_people, methods=["POST"], middleware=writes),
        Route(f"{one}/split", people_api.split_person, methods=["POST"], middleware=writes),
        Route(f"{one}/remove", people_api.remove_faces, methods=["POST"], middleware=writes),
    ]


async def _openapi(_: HttpRequest) -> Response:
    return JSONResponse(openapi_document())


async def _problem(request: HttpRequest, problem: Exception) -> Response:
    assert isinstance(problem, Problem)  # noqa: S101 - Starlette's handlers take any exception
    response = _render(request, problem)
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(problem.retry_after_s)
    if isinstance(problem, RequestTimedOut):
        # The rest of the body may still come, and is no request.
        response.headers["Connection"] = "close"
    if isinstance(problem, KeyRequired):
        # A browser then asks for the key as a password.
        response.headers.append("WWW-Authenticate", 'Bearer realm="Lookalike"')
        response.headers.append("WWW-Authenticate", 'Basic realm="Lookalike", charset="UTF-8"')
    return response


async def _http_exception(request: HttpRequest, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101
    problem: Problem = InvalidRequest(exc.detail)
    if exc.status_code == 404:
        problem = NotFound()
    elif exc.status_code == 405:
        problem = MethodNotAllowed()
    else:
        problem.status = exc.status_code
    response = await _problem(request, problem)
    response.headers.update(exc.headers or {})
    if exc.status_code == 405:
        response.headers["Allow"] = ", ".join(_methods_at(request))
    return response


def _methods_at(request: HttpRequest) -> list[str]:
    """Return the methods that any route has at the URL of a request."""
    # As it was before something mounted took its part of the path.
    scope = {**request.scope, "root_path": request.scope.get("app_root_path", "")}
    methods: set[str] = set()
    for route in request.app.routes:
        matched, _ = route.matches(scope)
        if matched is not Match.NONE:
            # What is mounted are static files.
            methods |= getattr(route, "methods", None) or {"GET", "HEAD"}
    return sorted(methods)


async def _unexpected(request: HttpRequest, _: Exception) -> Response:
    return _render(request, Problem())


def _render(request: HttpRequest, problem: Problem) -> Response:
    note_problem(request.scope, problem)
    wants_html = "text/html" in request.headers.get("accept", "")
    if wants_html and not request.scope["path"].startswith("/api/"):
        return problem_page(cast(Request, request), problem)
    return JSONResponse(
        problem_document(problem),
        status_code=problem.status,
        media_type="application/problem+json",
    )


async def _os_error(request: HttpRequest, exc: Exception) -> Response:
    """Answer a request for whose body the disk has no room; other errors are unexpected."""
    if not isinstance(exc, OSError) or exc.errno not in DISK_ERRORS:
        raise exc
    problem = StorageUnavailable()
    problem.__cause__ = exc
    return await _problem(request, problem)


HANDLERS: Mapping[Any, ExceptionHandler] = {
    Problem: _problem,
    HTTPException: _http_exception,
    OSError: _os_error,
}
"""What makes the response of an exception that an endpoint or a middleware of a route raises."""
