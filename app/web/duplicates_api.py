"""The JSON endpoints that resolve groups of duplicates."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.responses import Response

from app.indexing.requests import RequestModel, parse
from app.web.operations import IMAGE_ID, OTHER_ID, Operation
from app.web.requests import Request, json_body, parts, respond


class KeepRequest(RequestModel):
    """The image to keep of a group of duplicates."""

    keep: UUID = Field(description="The id of the image to keep.")
    others: list[UUID] = Field(
        min_length=1, max_length=1000, description="Ids of the images that go to the trash."
    )
    merge: bool = Field(
        False, description="Keep what the others say, where the kept one is silent."
    )


class KeepResponse(BaseModel):
    """How many images went to the trash."""

    trashed: int


class NotDuplicatesRequest(RequestModel):
    """Images of which no two are duplicates."""

    ids: list[UUID] = Field(min_length=2, max_length=500, description="Ids of the images.")
    undo: bool = Field(False, description="Forget it again.")


class NotDuplicatesResponse(BaseModel):
    """How many of the images there are."""

    images: int


class DeniedImage(BaseModel):
    """One of two images that are not duplicates."""

    id: UUID
    url: str


class DeniedPair(BaseModel):
    """Two images that someone said are not duplicates."""

    images: list[DeniedImage]
    denied_at: datetime


class DeniedRequest(RequestModel):
    """How many pairs to list."""

    limit: int = Field(100, ge=1, le=1000, description="Most pairs.")


class DeniedResponse(BaseModel):
    """The pairs of images that were said not to be duplicates, the last one first."""

    pairs: list[DeniedPair]


DUPLICATE_OPERATIONS = [
    Operation(
        "get",
        "/api/duplicates/denied",
        "List the images that were said not to be duplicates. What `deny` is told with `undo` is "
        "forgotten.",
        name="list_denied_duplicates",
        tag="Duplicates",
        answer=DeniedResponse,
        query=DeniedRequest,
        failures=(422, 503),
    ),
    Operation(
        "post",
        "/api/duplicates/keep",
        "Keep one of a group of duplicates, and move the others to the trash.",
        name="keep_duplicate",
        tag="Duplicates",
        answer=KeepResponse,
        body=KeepRequest,
        example={"keep": IMAGE_ID, "others": [OTHER_ID]},
        failures=(404, 409, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/duplicates/deny",
        "Remember for ever that images are not duplicates of each other, by their files.",
        name="deny_duplicates",
        tag="Duplicates",
        answer=NotDuplicatesResponse,
        body=NotDuplicatesRequest,
        example={"ids": [IMAGE_ID, OTHER_ID]},
        failures=(413, 422, 503),
        writes=True,
    ),
]


async def keep(request: Request) -> Response:
    """Keep one image, and move the others to the trash."""
    wanted = await json_body(request, KeepRequest)
    trashed = await parts(request).resolution.keep(wanted.keep, wanted.others, merge=wanted.merge)
    return respond(KeepResponse(trashed=trashed))


async def deny(request: Request) -> Response:
    """Remember that images are not duplicates, or forget it."""
    wanted = await json_body(request, NotDuplicatesRequest)
    resolution = parts(request).resolution
    change = resolution.allow if wanted.undo else resolution.deny
    return respond(NotDuplicatesResponse(images=await change(wanted.ids)))


async def denied(request: Request) -> Response:
    """List pairs of images that are not duplicates."""
    wanted = parse(DeniedRequest, dict(request.query_params))
    found = await parts(request).resolution.denied(wanted.limit)
    pairs = [
        DeniedPair(
            images=[DeniedImage(id=image.id, url=image.url) for image in pair.images],
            denied_at=pair.denied_at,
        )
        for pair in found
    ]
    return respond(DeniedResponse(pairs=pairs))
