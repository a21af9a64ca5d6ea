"""Rate limits: what a request costs, and what is said of what is left."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import RateLimited
from app.web.access import HEALTH, METRICS, STATIC
from app.web.clients import client_of
from app.web.security import add_header

if TYPE_CHECKING:
    from app.web.rate_counters import RateCounters, Use

DECODING_COST = 5
# What decodes images, or fetches them to do so.
DECODING = frozenset(
    {
        ("POST", "/"),
        ("POST", "/index"),
        ("POST", "/api/compare"),
        ("POST", "/api/images"),
        ("POST", "/api/query"),
        ("POST", "/api/search"),
        ("POST", "/api/upsert"),
    }
)


class RateLimits:
    """Refuses clients that ask more than RATE_LIMIT allows, by key or else by network.

    Every answer that counts has the headers of draft-ietf-httpapi-ratelimit-headers. Raises
    `RateLimited`.
    """

    def __init__(self, app: ASGIApp, *, counters: "RateCounters") -> None:
        self.app = app
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        cost = cost_of(scope) if scope["type"] == "http" else 0
        if cost:
            uses = await self._counters.take(client_of(scope).counted_as, cost)
            add_header(scope, "RateLimit-Policy", _policy(uses))
            add_header(scope, "RateLimit", _left(uses))
            if not all(use.granted for use in uses):
                raise _refusal(uses)
        await self.app(scope, receive, send)


def cost_of(scope: Scope) -> int:
    """Return what a request takes from the limits: 5 if it decodes, nothing if it is static."""
    method, path = scope["method"], scope["path"]
    if path in (*HEALTH, METRICS) or path.startswith(STATIC) or _is_thumbnail(path):
        return 0
    # A page of results is the answer to its URL, which may name images to fetch.
    searches = path in ("/", "/compare") and bool(scope["query_string"])
    return DECODING_COST if searches or (method, path) in DECODING else 1


def _is_thumbnail(path: str) -> bool:
    """Return whether a path is that of a thumbnail, of which a page of results has a hundred."""
    return path.startswith(("/images/", "/api/trash/")) and path.endswith("/thumbnail")


def _refusal(uses: Sequence["Use"]) -> RateLimited:
    # Once the longest of the windows that have too little left is over, all of them have enough.
    wait_s = max(use.reset_s for use in uses if not use.granted)
    limits = " and ".join(f"{use.amount} per {use.window_s} s" for use in uses if not use.granted)
    problem = RateLimited(f"This client has used up {limits}; try again in {wait_s} s.")
    problem.retry_after_s = wait_s
    return problem


def _policy(uses: Sequence["Use"]) -> str:
    return ", ".join(f"{_name(use)};q={use.amount};w={use.window_s}" for use in uses)


def _left(uses: Sequence["Use"]) -> str:
    return ", ".join(f"{_name(use)};r={use.remaining};t={use.reset_s}" for use in uses)


def _name(use: "Use") -> str:
    return f'"{use.amount}-in-{use.window_s}s"'
