"""The JSON endpoints that resolve groups of duplicates."""

from uuid import UUID

from pydantic import BaseModel, Field
from starlette.responses import Response

from app.indexing.requests import RequestModel
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


DUPLICATE_OPERATIONS = [
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
