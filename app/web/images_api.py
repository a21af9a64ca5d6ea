"""The JSON endpoints of indexed images, their thumbnails and their originals."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import UUID

from starlette.responses import RedirectResponse, Response

from app.indexing.documents import colour_fields, exif_fields, hash_fields, image_fields
from app.indexing.face_documents import FaceDocument, face_documents
from app.indexing.requests import MAX_INTEGER
from app.pictures.decoding import MEDIA_TYPES
from app.problems import InvalidRequest, NotFound
from app.store.catalog import Selection
from app.store.images import Entry, ImageRow
from app.store.orders import CatalogOrder, Position
from app.web import cursors, schemas
from app.web.clients import client_of
from app.web.forms import parse_query
from app.web.requests import (
    SANDBOX,
    Request,
    find_image,
    json_body,
    original_url,
    parts,
    respond,
    selection_of,
)

# How long whoever gets the URL of a thumbnail in a bucket may use it.
SIGNED_FOR_S = 3600

BY_TIME: Sequence[CatalogOrder] = ("newest", "oldest")


async def list_images(request: Request) -> Response:
    """List indexed images."""
    wanted = parse_query(request, schemas.ListRequest)
    selection = selection_of(wanted)
    images, following = await page_of_images(
        request, selection, limit=wanted.limit, cursor=wanted.cursor, order=wanted.sort
    )
    return respond(
        schemas.ListResponse(
            images=[
                schemas.ImageDocument(**image_fields(image, original_url(request, image)))
                for image in images
            ],
            total=await parts(request).catalog.count(selection),
            next=following,
        )
    )


async def show_image(request: Request) -> Response:
    """Return all details of an image."""
    image = await find_image(request)
    return respond(
        schemas.ImageDetails(
            **image_fields(image, original_url(request, image)),
            **exif_fields(image),
            **hash_fields(image),
            **colour_fields(image),
            indexed_at=image.indexed_at,
            updated_at=image.updated_at,
            checked_at=image.checked_at,
            gone_at=image.gone_at,
            faces=await _faces(request, image),
        )
    )


async def _faces(request: Request, image: ImageRow) -> list[FaceDocument] | None:
    if image.face_count is None or "faces" not in client_of(request.scope).scopes:
        return None
    found = await parts(request).faces.of([image.id])
    return face_documents(found.get(image.id, ()))


async def delete_image(request: Request) -> Response:
    """Delete an image from the index, or move it to the trash."""
    wanted = parse_query(request, schemas.DeleteOneRequest)
    image = await find_image(request)
    if wanted.trash:
        await parts(request).trash.put([image.id])
    else:
        await parts(request).indexer.delete([image])
    return Response(status_code=204)


async def delete_images(request: Request) -> Response:
    """Delete a selection of images from the index, or move them to the trash."""
    wanted = parse_query(request, schemas.DeleteRequest)
    selection = replace(selection_of(wanted), ids=wanted.ids)
    if not selection:
        raise InvalidRequest("Select images with `ids`, `q`, `gone` or `checked_before`.")
    lookalike = parts(request)
    if wanted.trash:
        deleted = (await lookalike.trash.put_all(selection)).number
    else:
        deleted = await lookalike.indexer.delete_all(selection)
    return respond(schemas.DeleteResponse(deleted=deleted))


async def describe_image(request: Request) -> Response:
    """Update the title, description, tags or metadata of an image."""
    image = await find_image(request)
    wanted = await json_body(request, schemas.DescribeRequest)
    entry = Entry(image.url, wanted.title, wanted.description, wanted.tags, wanted.metadata)
    await parts(request).indexer.describe(image, entry)
    return await show_image(request)


async def thumbnail(request: Request) -> Response:
    """Return an image's thumbnail, or redirect to it in the bucket."""
    lookalike = parts(request)
    kept = await lookalike.catalog.kept_thumbnail(request.path_params["id"])
    if kept is None:
        raise NotFound("There is no such image in the index.")
    etag = f'"{kept.sha256}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if kept.key and lookalike.thumbnails.files.origin:
        signed = await lookalike.thumbnails.files.signed(kept.key, for_s=SIGNED_FOR_S)
        return RedirectResponse(signed, headers={"Cache-Control": "private, no-store"})
    data = await lookalike.index.thumbnails.open(kept)
    return Response(data, media_type="image/jpeg", headers=headers)


async def original(request: Request) -> Response:
    """Return the original of an uploaded image, or redirect to the URL of any other."""
    image = await find_image(request)
    data = await parts(request).indexer.originals.read(image)
    if data is None:
        return RedirectResponse(image.url)
    return Response(
        data,
        media_type=MEDIA_TYPES[image.format],
        headers=SANDBOX,
    )


async def page_of_images(
    request: Request,
    selection: Selection,
    *,
    limit: int,
    cursor: str | None,
    order: CatalogOrder = "newest",
) -> tuple[list[ImageRow], str | None]:
    """Return a page of images in an order, and the cursor of the next page."""
    after = _position(cursor, order) if cursor else None
    images = await parts(request).catalog.listed(
        selection, order=order, limit=limit + 1, after=after
    )
    page = images[:limit]
    if len(images) <= limit:
        return page, None
    last = page[-1]
    return page, cursors.written(f"images-{order}", _value_of(last, order), last.id)


def _value_of(image: ImageRow, order: CatalogOrder) -> datetime | int:
    if order in BY_TIME:
        return image.indexed_at
    return image.bytes if order == "heaviest" else image.width * image.height


def _position(cursor: str, order: CatalogOrder) -> Position:
    """Return the position of a cursor in a list of this order; raises `InvalidRequest`."""
    read = cursors.moment if order in BY_TIME else partial(cursors.number, most=MAX_INTEGER)
    return Position(*cursors.read(cursor, of=f"images-{order}", first=read, second=UUID))
