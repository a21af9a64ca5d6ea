"""The JSON endpoints."""

import base64
import binascii
import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from app import schemas
from app.catalog import Entry, Image, Selection
from app.duplicates import Groups
from app.exif import camera, location, taken_at
from app.hits import Hit
from app.lookalike import Lookalike
from app.pictures import MEDIA_TYPES
from app.problems import (
    BodyTooLarge,
    EmptyPicture,
    InvalidRequest,
    NoPicture,
    NotFound,
    PictureTooLarge,
)

JSON_BYTES = 4_000_000

# For files of other people's: whatever a browser takes them for, nothing in them runs.
SANDBOX = {"Content-Security-Policy": "default-src 'none'; sandbox"}

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

MODEL = TypeVar("MODEL", bound=BaseModel)


class State(TypedDict):
    """What the lifespan hands to every request."""

    lookalike: Lookalike


Request = HttpRequest[State]


async def list_images(request: Request) -> Response:
    """List what is indexed, the newest first."""
    wanted = parse(schemas.ListRequest, dict(request.query_params))
    selection = selection_of(wanted)
    images, following = await page_of_images(
        request, selection, limit=wanted.limit, cursor=wanted.cursor
    )
    return respond(
        schemas.ListResponse(
            images=[
                schemas.ImageDocument(**_fields(image, original_url(request, image)))
                for image in images
            ],
            total=await parts(request).catalog.count(selection),
            next=following,
        )
    )


async def duplicates(request: Request) -> Response:
    """List groups of images that show the same picture."""
    wanted = parse(schemas.DuplicatesRequest, dict(request.query_params))
    found = await find_duplicates(request, wanted)
    return respond(
        schemas.DuplicatesResponse(
            groups=[
                [hit_document(hit, original_url(request, hit.image)) for hit in group]
                for group in found.groups
            ],
            next=found.next,
        )
    )


async def show_image(request: Request) -> Response:
    """Tell all that is known of one picture."""
    image = await find_image(request)
    place = location(image.exif)
    return respond(
        schemas.ImageDetails(
            **_fields(image, original_url(request, image)),
            colours=[schemas.ColourDocument(**colour) for colour in image.colours],
            taken_at=taken_at(image.exif),
            camera=camera(image.exif),
            location=(
                schemas.LocationDocument(latitude=place[0], longitude=place[1]) if place else None
            ),
            sha256=image.sha256,
            dhash=image.dhash_hex,
            exif=image.exif,
            indexed_at=image.indexed_at,
            updated_at=image.updated_at,
            checked_at=image.checked_at,
            gone_at=image.gone_at,
        )
    )


async def delete_image(request: Request) -> Response:
    """Take a picture out of the index."""
    await parts(request).indexer.delete([await find_image(request)])
    return Response(status_code=204)


async def delete_images(request: Request) -> Response:
    """Take every picture of a selection out of the index."""
    wanted = parse(schemas.DeleteRequest, dict(request.query_params))
    selection = replace(selection_of(wanted), ids=wanted.ids)
    if not selection:
        raise InvalidRequest("Say which: `ids`, `q`, `gone` or `checked_before`.")
    deleted = await parts(request).indexer.delete_all(selection)
    return respond(schemas.DeleteResponse(deleted=deleted))


async def describe_image(request: Request) -> Response:
    """Change the title, the description, the tags or the metadata of a picture."""
    image = await find_image(request)
    said = await json_body(request, schemas.DescribeRequest)
    entry = Entry(image.url, said.title, said.description, said.tags, said.metadata)
    await parts(request).indexer.describe(image, entry)
    return await show_image(request)


async def thumbnail(request: Request) -> Response:
    """Show a picture's thumbnail."""
    found = await parts(request).catalog.thumbnail(_image_id(request))
    if found is None:
        raise NotFound("There is no such picture in the index.")
    etag, data = f'"{found[0]}"', found[1]
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


async def original(request: Request) -> Response:
    """Show an uploaded picture itself, or go to where the original is."""
    image = await find_image(request)
    data = await parts(request).indexer.original(image)
    if data is None:
        return RedirectResponse(image.url)
    return Response(
        data,
        media_type=MEDIA_TYPES[image.format],
        headers=SANDBOX,
    )


def parts(request: Request) -> Lookalike:
    """Return the program's parts."""
    return request.state["lookalike"]


async def find_duplicates(request: Request, wanted: schemas.DuplicatesRequest) -> Groups:
    """Return the groups of copies that a request asks for."""
    return await parts(request).duplicates.find(
        after=wanted.cursor,
        limit=wanted.limit,
        min_similarity=wanted.min_similarity,
        max_bits=wanted.max_bits,
    )


def selection_of(wanted: schemas.SelectionRequest) -> Selection:
    """Return which images a request means."""
    return Selection(text=wanted.q.strip(), gone=wanted.gone, checked_before=wanted.checked_before)


async def page_of_images(
    request: Request, selection: Selection, *, limit: int, cursor: str | None
) -> tuple[list[Image], str | None]:
    """Return a page of images and the cursor of the next one."""
    before = _read_cursor(cursor) if cursor else None
    images = await parts(request).catalog.newest(selection, limit=limit + 1, before=before)
    page = images[:limit]
    return page, _cursor(page[-1]) if len(images) > limit else None


async def find_image(request: Request) -> Image:
    """Return the image that the path names; raises `NotFound`."""
    image = await parts(request).catalog.find(_image_id(request))
    if image is None:
        raise NotFound("There is no such picture in the index.")
    return image


async def uploaded(request: Request, form: FormData) -> bytes:
    """Return the bytes of the form's `file`; raises `NoPicture` or `PictureTooLarge`."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise NoPicture
    max_bytes = parts(request).settings.max_upload_bytes
    if (file.size or 0) > max_bytes:
        raise PictureTooLarge.over(max_bytes)
    data = await file.read()
    if not data and not file.filename:
        raise NoPicture
    if not data:
        raise EmptyPicture
    return data


def original_url(request: Request, image: Image) -> str:
    """Return where anyone can see the original: its own URL, or ours for uploads and files."""
    if image.url.startswith(("http:", "https:")):
        return image.url
    return str(request.url_for("original", id=str(image.id)))


def parse(model: type[MODEL], values: Any) -> MODEL:
    """Validate what a client sent; raises `InvalidRequest`, naming each wrong field."""
    for name, value in cast(dict[str, Any], values if isinstance(values, dict) else {}).items():
        if not _is_text(value):
            raise InvalidRequest(f"{name}: it has characters that are no text.")
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise InvalidRequest("; ".join(dict.fromkeys(_complaints(exc)))) from exc


def _is_text(value: object) -> bool:
    """Return whether Postgres can hold every string in a JSON value: no NUL, no lone surrogate."""
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    if isinstance(value, dict):
        return all(
            _is_text(part) for pair in cast(dict[str, object], value).items() for part in pair
        )
    return not isinstance(value, list) or all(map(_is_text, cast(list[object], value)))


def text_fields(form: FormData) -> dict[str, str]:
    """Return a form's fields that are not files."""
    return {name: value for name, value in form.items() if isinstance(value, str)}


def chosen_files(form: FormData) -> list[UploadFile]:
    """Return the files chosen in the form's `file`s, of which browsers also send empty ones."""
    return [f for f in form.getlist("file") if isinstance(f, UploadFile) and f.filename]


def hit_document(hit: Hit, url: str) -> schemas.HitDocument:
    """Return a hit as JSON shows it; `url` is where the reader finds the original."""
    return schemas.HitDocument(
        **_fields(hit.image, url),
        similarity=None if hit.similarity is None else round(hit.similarity, 4),
        match=hit.match,
        matched=list(hit.matched),
        places=[schemas.PlaceDocument(id=image.id, url=image.url) for image in hit.places],
    )


def _fields(image: Image, url: str) -> dict[str, Any]:
    return {
        "id": image.id,
        "url": url,
        "title": image.title,
        "description": image.description,
        "tags": image.tags,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "bytes": image.bytes,
        "metadata": image.metadata,
        "thumbnail": f"/images/{image.id}/thumbnail",
    }


async def json_body(request: Request, model: type[MODEL]) -> MODEL:
    """Return a JSON body as a model; raises `InvalidRequest` or `BodyTooLarge`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BYTES:
            raise BodyTooLarge(f"The JSON is larger than {JSON_BYTES / 1e6:g} MB.")
    try:
        values = json.loads(bytes(body))
    except ValueError as exc:
        raise InvalidRequest("The body is not JSON.") from exc
    return parse(model, values)


def _complaints(exc: ValidationError) -> list[str]:
    complaints: list[str] = []
    for error in exc.errors(include_url=False):
        # Unions add the name of the member that did not fit; a client knows fields and positions.
        known = [str(part) for part in error["loc"] if part not in ("str", "ImageEntry")]
        message = "unknown field" if error["type"] == "extra_forbidden" else error["msg"]
        complaints.append(f"{'.'.join(known) or 'body'}: {message}")
    return complaints


def refuse_unknown_files(form: FormData) -> None:
    """Raise `InvalidRequest` for a file in a field that no one looks at."""
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name != "file":
            raise InvalidRequest(f"{name}: unknown field; pictures go in `file`.")


def _image_id(request: Request) -> UUID:
    return request.path_params["id"]


def _cursor(image: Image) -> str:
    return base64.urlsafe_b64encode(f"{image.indexed_at.isoformat()} {image.id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        time, _, image_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromisoformat(time), UUID(image_id)
    except (ValueError, binascii.Error) as exc:
        raise InvalidRequest("cursor: not one that this server gave out.") from exc


def respond(model: BaseModel, *, status_code: int = 200) -> Response:
    """Answer with a model as JSON."""
    return Response(model.model_dump_json(), status_code, media_type="application/json")
