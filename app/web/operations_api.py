"""The JSON endpoints for operations: how much there is, and whether all is well."""

from starlette.requests import Request as AnyRequest
from starlette.responses import Response

from app.web import schemas
from app.web.requests import Request, parts, respond


async def stats(request: Request) -> Response:
    """Tell how much is indexed, and with what."""
    return respond(await parts(request).index.stats())


async def healthz(_: AnyRequest) -> Response:
    """Say that the process runs, whatever else does."""
    return respond(schemas.HealthResponse())


async def readyz(request: Request) -> Response:
    """Say that the database answers."""
    await parts(request).catalog.count()
    return respond(schemas.HealthResponse())
