"""The JSON endpoints for operations: how much there is, and whether all is well."""

from starlette.requests import Request as AnyRequest
from starlette.responses import Response

from app import schemas
from app.api import Request, parts, respond
from app.lookalike import Lookalike
from app.version import VERSION


async def stats(request: Request) -> Response:
    """Tell how much is indexed, and with what."""
    return respond(await stats_document(parts(request)))


async def healthz(_: AnyRequest) -> Response:
    """Say that the process runs, whatever else does."""
    return respond(schemas.HealthResponse())


async def readyz(request: Request) -> Response:
    """Say that the database answers."""
    await parts(request).catalog.count()
    return respond(schemas.HealthResponse())


async def stats_document(lookalike: Lookalike) -> schemas.StatsResponse:
    """Return how much is indexed, and with what."""
    encoder = lookalike.encoder
    return schemas.StatsResponse(
        images=await lookalike.catalog.count(),
        vectors=await lookalike.store.count(),
        encoder=schemas.EncoderStats(
            name=encoder.model.name,
            precision=encoder.model.precision,
            dimensions=encoder.dimensions,
            text=encoder.has_text,
            images_embedded=encoder.images.items,
            image_calls=encoder.images.calls,
        ),
        database="embedded" if lookalike.database.embedded else "given",
        version=VERSION,
    )
