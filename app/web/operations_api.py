"""The JSON endpoints for operators: statistics and health checks."""

from dataclasses import asdict

from starlette.requests import Request as AnyRequest
from starlette.responses import Response

from app.web import schemas
from app.web.requests import Request, parts, respond


async def stats(request: Request) -> Response:
    """Return the size of the index and the encoder in use."""
    return respond(await parts(request).index.stats())


async def healthz(_: AnyRequest) -> Response:
    """Check that the process is running, even without its database."""
    return respond(schemas.HealthResponse())


async def readyz(request: Request) -> Response:
    """Check that the database and the storage of uploads respond and can be written.

    Without its Milvus, a server still indexes and answers some searches: it is ready, and says so.
    """
    lookalike = parts(request)
    await lookalike.database.check()
    await lookalike.media.check()
    replica = lookalike.database.replica
    ready = schemas.ReadyResponse(
        provider=lookalike.encoder.model.provider,
        replica=schemas.ReplicaStatus(**asdict(replica.status)) if replica else None,
        milvus=await lookalike.index.milvus_stats(),
    )
    return Response(ready.model_dump_json(exclude_none=True), media_type="application/json")
