"""What the endpoints share: requests, their bodies and forms, and responses."""

from typing import Any, NotRequired, Protocol, TypedDict
from uuid import UUID

from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request as AnyRequest
from starlette.responses import Response

from app.indexing.requests import MODEL, parse, read_json
from app.lookalike import Lookalike
from app.pictures.decoding import MEDIA_TYPES
from app.problems import BodyTooLarge, EmptyPicture, NoPicture, NotFound, PictureTooLarge
from app.store.catalog import Selection
from app.store.images import ImageRow
from app.web import schemas
from app.web.clients import Client, client_of
from app.web.keyring import COMMAND_LINE
from app.web.stream_counter import StreamCounter

# JSON and forms without files.
SMALL_BYTES = 4_000_000

# Originals in these formats, of no more bytes, are shown in place of their thumbnails.
SHOWN_FORMATS = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif")
MOST_SHOWN_BYTES = 20_000_000

# For files from users: whatever type a browser takes them for, nothing in them runs.
SANDBOX = {"Content-Security-Policy": "default-src 'none'; sandbox"}


# Stands for the id in the pattern of the URLs of originals.
_ANY = UUID("a0f8c1d2-5b3e-4c6a-9d7f-e1b2c3d4f5a6")


class AppState(TypedDict):
    """The state of every request: what the lifespan passes, and who sends it."""

    lookalike: Lookalike
    streams: StreamCounter
    client: NotRequired[Client]


Request = AnyRequest[AppState]


def parts(request: Request) -> Lookalike:
    """Return the opened parts of the program."""
    return request.state["lookalike"]


async def find_image(request: Request) -> ImageRow:
    """Return the image that the path names; raises `NotFound`."""
    image = await parts(request).catalog.find(request.path_params["id"])
    if image is None:
        raise NotFound("There is no such image in the index.")
    return image


class Indexed(Protocol):
    """What an image's URL is made of."""

    @property
    def id(self) -> UUID:
        """The id."""
        ...

    @property
    def url(self) -> str:
        """The URL under which it is indexed."""
        ...


def original_url(request: Request, image: Indexed) -> str:
    """Return a URL of the original: its own, or one of this server for uploads and files.

    Commands have files of this machine open to them, and get their URLs.
    """
    is_theirs = client_of(request.scope).key == COMMAND_LINE
    if is_theirs or image.url.startswith(("http:", "https:")):
        return image.url
    # Once per request: looking through the routes takes longer than the search for an image.
    state: dict[str, Any] = request.scope["state"]
    if "original" not in state:
        state["original"] = str(request.url_for("original", id=str(_ANY)))
    return state["original"].replace(str(_ANY), str(image.id))


def shown_original(image: ImageRow) -> str | None:
    """Return a path of the original that a page may show; None if its thumbnail has to do.

    Originals on the web are those of other hosts, which pages of ours do not ask for images.
    """
    is_ours = not image.url.startswith(("http:", "https:"))
    is_shown = MEDIA_TYPES[image.format] in SHOWN_FORMATS and image.bytes <= MOST_SHOWN_BYTES
    return f"/images/{image.id}/original" if is_ours and is_shown else None


async def json_body(request: Request, model: type[MODEL]) -> MODEL:
    """Return a JSON body as a model; raises `InvalidRequest` or `BodyTooLarge`."""
    return parse(model, read_json(await small_body(request)))


async def small_body(request: Request) -> bytes:
    """Return a body that is no file; raises `BodyTooLarge`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > SMALL_BYTES:
            raise BodyTooLarge(f"The body is larger than {SMALL_BYTES / 1e6:g} MB.")
    return bytes(body)


async def uploaded(request: Request, form: FormData, name: str = "file") -> bytes:
    """Return the bytes of a form's file; raises `NoPicture` or `PictureTooLarge`."""
    file = form.get(name)
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


def selection_of(wanted: schemas.SelectionRequest) -> Selection:
    """Return the selection of images that a request describes."""
    return Selection(text=wanted.q.strip(), gone=wanted.gone, checked_before=wanted.checked_before)


def respond(model: BaseModel, *, status_code: int = 200) -> Response:
    """Return a response with a model as JSON."""
    return Response(model.model_dump_json(), status_code, media_type="application/json")
