"""Which pages of other sites may use the API from a browser."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.access import ANY_ORIGIN, is_allowed
from app.web.security import add_header

# What programs call. Pages have nothing that another page could use.
PATHS = ("/api/", "/images/", "/openapi.json", "/healthz", "/readyz")
METHODS = "GET, POST, PATCH, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, Prefer, If-None-Match, Last-Event-ID"
RESPONSE_HEADERS = (
    "ETag, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate"
)
PREFLIGHT_S = 600


class Cors:
    """Lets pages of CORS_ORIGINS read responses of the API, and answers their preflights.

    Credentials that a browser keeps, such as the password of Basic, are never allowed: a page has
    to send a key that it was given, as a bearer token. `WriteAccess` demands one for writes.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self.app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http" or not scope["path"].startswith(PATHS):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        any_origin = ANY_ORIGIN in self._origins
        if not any_origin:
            # A cache must not give the response for one page to another.
            add_header(scope, "Vary", "Origin")
        if not is_allowed(origin, self._origins):
            await self.app(scope, receive, send)
            return
        add_header(
            scope,
            "Access-Control-Allow-Origin",
            ANY_ORIGIN if any_origin else origin,
        )
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            allowed = {
                "Access-Control-Allow-Methods": METHODS,
                "Access-Control-Allow-Headers": REQUEST_HEADERS,
                "Access-Control-Max-Age": str(PREFLIGHT_S),
            }
            await Response(status_code=204, headers=allowed)(scope, receive, send)
            return
        add_header(scope, "Access-Control-Expose-Headers", RESPONSE_HEADERS)
        await self.app(scope, receive, send)
