"""Hits as JSON shows them, for the API and for the command line."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.indexing.documents import ImageDocument, image_fields
from app.search.hits import Hit


class PlaceDocument(BaseModel):
    """Another image of the same bytes."""

    id: UUID
    url: str = Field(description="The URL it was indexed by.")


class HitDocument(ImageDocument):
    """A result."""

    similarity: float | None = Field(
        description="Cosine similarity, -1 to 1; null if only words were looked for."
    )
    matched: list[Literal["picture", "text"]] = Field(
        ["picture"], description="Whether its look led here, or the words about it, or both."
    )
    match: Literal["exact", "copy", "similar"] | None = Field(
        description="`exact`: the same bytes; `copy`: the same picture, altered; null for a text, "
        "and for the first of a group."
    )
    places: list[PlaceDocument] = Field(description="Where else the same file is.")


def hit_document(hit: Hit, url: str) -> HitDocument:
    """Return a hit as JSON shows it; `url` is where the reader finds the original."""
    return HitDocument(
        **image_fields(hit.image, url),
        similarity=None if hit.similarity is None else round(hit.similarity, 4),
        match=hit.match,
        matched=list(hit.matched),
        places=[PlaceDocument(id=image.id, url=image.url) for image in hit.places],
    )
