"""The JSON endpoints of the trash."""

from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.responses import Response

from app.indexing.requests import Commas, RequestModel
from app.problems import InvalidRequest, NotFound
from app.store.trash import ALL_TRASH, Trashed, TrashFilters
from app.web import cursors
from app.web.forms import parse_query
from app.web.operations import IMAGE_ID, Operation
from app.web.requests import Request, json_body, parts, respond
from app.web.schemas import DeleteResponse

# What its cursors are of.
_LIST = "trash"
JPEG = {"type": "string", "format": "binary"}


class TrashRequest(RequestModel):
    """A page of the trash."""

    limit: int = Field(50, ge=1, le=500, description="Most images of a page.")
    cursor: str | None = Field(None, max_length=200, description="`next` of the previous page.")


class TrashSelection(RequestModel):
    """Images in the trash: those with these ids, or all of them."""

    ids: Commas[list[UUID]] = Field([], max_length=1000, description="Image ids.")
    all: bool = Field(False, description="All images in the trash, instead of `ids`.")

    @property
    def chosen(self) -> list[UUID] | None:
        """The ids, None for all; raises `InvalidRequest` unless one of the two is given."""
        if self.all == bool(self.ids):
            raise InvalidRequest("Select images with `ids`, or `all`.")
        return None if self.all else self.ids


class TrashedDocument(BaseModel):
    """An image in the trash."""

    id: UUID
    url: str = Field(description="The URL under which it was indexed.")
    title: str
    width: int
    height: int
    format: str
    bytes: int
    trashed_at: datetime
    deleted_at: datetime = Field(description="When it will be deleted for good.")
    thumbnail: str = Field(description="Path of a JPEG, 256 px on the short side.")


class TrashResponse(BaseModel):
    """A page of the trash, last trashed first."""

    images: list[TrashedDocument]
    total: int
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class RestoreResponse(BaseModel):
    """How many images were restored."""

    restored: int


TRASH_OPERATIONS = [
    Operation(
        "get",
        "/api/trash",
        "List the images in the trash, last trashed first.",
        name="list_trash",
        tag="Trash",
        answer=TrashResponse,
        query=TrashRequest,
        asks={"limit": "10"},
        failures=(422, 503),
    ),
    Operation(
        "post",
        "/api/trash/restore",
        "Restore images from the trash, with all that the index had of them.",
        name="restore",
        tag="Trash",
        answer=RestoreResponse,
        body=TrashSelection,
        example={"ids": [IMAGE_ID]},
        failures=(409, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "delete",
        "/api/trash",
        "Delete images in the trash for good, with their uploads; other files stay where they are.",
        name="empty_trash",
        tag="Trash",
        answer=DeleteResponse,
        query=TrashSelection,
        asks={"ids": IMAGE_ID},
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/trash/{id}/thumbnail",
        "Return the thumbnail of an image in the trash.",
        name="show_trashed_thumbnail",
        tag="Trash",
        answer=JPEG,
        answer_type="image/jpeg",
        failures=(404, 503),
    ),
]


async def list_trash(request: Request) -> Response:
    """List the images in the trash."""
    wanted = parse_query(request, TrashRequest)
    return respond(await trash_page(request, wanted))


async def restore(request: Request) -> Response:
    """Restore images from the trash."""
    wanted = await json_body(request, TrashSelection)
    return respond(RestoreResponse(restored=await parts(request).trash.restore(wanted.chosen)))


async def empty_trash(request: Request) -> Response:
    """Delete images in the trash for good."""
    wanted = parse_query(request, TrashSelection)
    return respond(DeleteResponse(deleted=await parts(request).trash.empty(wanted.chosen)))


async def thumbnail(request: Request) -> Response:
    """Return the thumbnail of an image in the trash."""
    data = await parts(request).index.trash.thumbnail(request.path_params["id"])
    if data is None:
        raise NotFound("There is no such image in the trash.")
    headers = {"Cache-Control": "private, no-cache"}
    return Response(data, media_type="image/jpeg", headers=headers)


async def trash_page(
    request: Request, wanted: TrashRequest, filters: TrashFilters = ALL_TRASH
) -> TrashResponse:
    """Return a page of what the trash has, or of what passes filters."""
    trash = parts(request).trash
    before = _position(wanted.cursor) if wanted.cursor else None
    found = await trash.table.newest(filters, limit=wanted.limit + 1, before=before)
    page = found[: wanted.limit]
    last = page[-1] if len(found) > len(page) else None
    return TrashResponse(
        images=[trashed_document(image, trash.days) for image in page],
        total=await trash.table.count(filters),
        next=last and cursors.written(_LIST, last.trashed_at, last.id),
    )


def _position(cursor: str) -> tuple[datetime, UUID]:
    return cursors.read(cursor, of=_LIST, first=cursors.moment, second=UUID)


def trashed_document(image: Trashed, days: float) -> TrashedDocument:
    """Return the JSON document of an image that is kept in the trash for so many days."""
    return TrashedDocument(
        id=image.id,
        url=image.url,
        title=image.title,
        width=image.width,
        height=image.height,
        format=image.format,
        bytes=image.bytes,
        trashed_at=image.trashed_at,
        deleted_at=image.trashed_at + timedelta(days=days),
        thumbnail=f"/api/trash/{image.id}/thumbnail",
    )
