"""Images and outcomes as JSON, for the API and the command line."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.indexing.outcomes import Outcome
from app.store.filters import MetadataValue
from app.store.images import ImageRow


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
    metadata: dict[str, MetadataValue]
    thumbnail: str = Field(description="Path of a JPEG, 256 px on the short side.")


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
        "metadata": image.metadata,
        "thumbnail": f"/images/{image.id}/thumbnail",
    }
