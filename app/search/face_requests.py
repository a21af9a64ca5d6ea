"""Searches by a face, as requests ask for them and as they are run."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

from pydantic import BeforeValidator, Field, model_validator

from app.faces.face import Box
from app.indexing.requests import RequestModel
from app.problems import InvalidRequest
from app.search.regions import CropRequest, read_crop
from app.store.beside import Beside
from app.store.filters import NO_FILTERS, Filters

if TYPE_CHECKING:
    from app.search.requests import SearchRequest

_NOT_BY_FACE = (
    *("url", "text", "query", "crop", "like", "unlike"),
    *("weights", "diversity", "match", "thorough"),
)


@dataclass(frozen=True, slots=True)
class WantedFace:
    """A face to search by: of an `image` of the index, an `upload`, or the file `data`.

    It is the `order`-th from the left, from 0 on, or the one in a `box`; an image with a single
    face needs neither.
    """

    image: UUID | None = None
    upload: UUID | None = None
    data: bytes | None = None
    order: int | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class FaceQuery:
    """A search by a face, within filters; `min_similarity` is in place of `SAME_FACE`."""

    face: WantedFace
    limit: int
    filters: Filters = NO_FILTERS
    min_similarity: float | None = None
    beside: frozenset[Beside] = frozenset()


class FaceRequest(RequestModel):
    """A face: of an indexed image by `id`, or else of the file or the `upload` of the request.

    It is the one at `order` or in the `box`; an image with a single face needs neither.
    """

    id: UUID | None = Field(None, description="The id of an indexed image.")
    order: int | None = Field(
        None, ge=0, le=32_767, description="Its place from the left, from 0 on."
    )
    box: CropRequest | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.order is not None and self.box is not None:
            raise ValueError("give one of order and box")
        return self


_FACE = re.compile(r"(?P<id>[0-9a-f-]{32,36})?:?(?P<order>\d{1,5})?", re.IGNORECASE)


def _face(value: object) -> object:
    """Accept `ID:ORDER`, `ID`, `ORDER` or `x,y,width,height`, as in forms and URLs."""
    if not isinstance(value, str):
        return value
    if "," in value:
        return {"box": read_crop(value)}
    found = _FACE.fullmatch(value)
    if found is None:
        raise ValueError("must be ID:ORDER, or x,y,width,height of the file's face")
    return {name: given for name, given in found.groupdict().items() if given}


FaceField = Annotated[FaceRequest | None, BeforeValidator(_face)]


def face_query_of(
    wanted: "SearchRequest", face: FaceRequest, data: bytes | None, *, limit: int
) -> FaceQuery:
    """Return the search by a face of a request; raises `InvalidRequest` for what it cannot have."""
    given = {
        "file": data is not None and face.id is not None,
        "upload": wanted.upload is not None and (face.id is not None or data is not None),
        **{name: getattr(wanted, name) for name in _NOT_BY_FACE},
        "sort": wanted.sort != "best",
    }
    for name, value in given.items():
        if value:
            raise InvalidRequest(f"{name}: a search by a face has none.")
    box = face.box
    return FaceQuery(
        WantedFace(
            image=face.id,
            upload=wanted.upload,
            data=data,
            order=face.order,
            box=box and Box(box.x, box.y, box.width, box.height),
        ),
        limit,
        wanted.filters,
        wanted.min_similarity,
        wanted.beside,
    )
