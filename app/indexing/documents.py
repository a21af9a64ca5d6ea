"""Images and outcomes as JSON, for the API and the command line."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.indexing.outcomes import Outcome
from app.pictures.exif import camera, location, taken_at
from app.store.filters import MetadataValue
from app.store.images import ImageRow

DHASH = "64-bit difference hash, in hexadecimal."


class ImageDocument(BaseModel):
    """An indexed image."""

    id: UUID
    url: str = Field(description="The URL of the original.")
    title: str
    description: str
    tags: list[str]
    width: int
    height: int
    format: str
    bytes: int
    metadata: dict[str, MetadataValue] = Field(
        description="The keys and values it was given, and `truncated` if its file is."
    )
    truncated: bool = Field(
        description="Whether its file ends early or is damaged, so that pixels may be missing."
    )
    too_plain: bool = Field(
        description="Whether it is too plain (one colour, a gradient) to be told from others: "
        "it is then no one's `copy`."
    )
    thumbnail: str = Field(description="Path of a JPEG, 256 px on the short side.")


class ColourDocument(BaseModel):
    """A dominant colour."""

    name: str
    rgb: str = Field(description="#rrggbb")
    share: float = Field(description="Share of the image that it covers, 0 to 1.")


class LocationDocument(BaseModel):
    """Where a photo was taken, in degrees."""

    latitude: float
    longitude: float


class OutcomeDocument(BaseModel):
    """The outcome of indexing an image."""

    url: str
    status: Literal["indexed", "unchanged", "updated", "failed"]
    id: UUID | None = None
    reason: str | None = Field(None, description="Why it failed.")


def outcome_document(outcome: Outcome) -> OutcomeDocument:
    """Return the JSON document of an outcome."""
    return OutcomeDocument(
        url=outcome.url, status=outcome.status, id=outcome.id, reason=outcome.reason
    )


def image_fields(image: ImageRow, url: str) -> dict[str, Any]:
    """Return the fields of an `ImageDocument`; `url` is where the client finds the original."""
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
        "metadata": {**image.metadata, **({"truncated": True} if image.truncated else {})},
        "truncated": image.truncated,
        "too_plain": image.too_plain,
        "thumbnail": f"/images/{image.id}/thumbnail",
    }


def exif_fields(image: ImageRow) -> dict[str, Any]:
    """Return what EXIF says of an image, as fields of its documents."""
    place = location(image.exif)
    return {
        "exif": image.exif,
        "taken_at": taken_at(image.exif),
        "camera": camera(image.exif),
        "location": place and LocationDocument(latitude=place[0], longitude=place[1]),
    }


def hash_fields(image: ImageRow) -> dict[str, Any]:
    """Return an image's hashes, as fields of its documents."""
    return {"sha256": image.sha256, "dhash": image.dhash_hex}


def colour_fields(image: ImageRow) -> dict[str, Any]:
    """Return an image's dominant colours, as a field of its documents."""
    return {"colours": [ColourDocument(**colour) for colour in image.colours]}
