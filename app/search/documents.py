"""Hits as JSON, for the API and the command line."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.indexing.documents import ImageDocument, image_fields
from app.search.hits import Hit


class PlaceDocument(BaseModel):
    """Another image with the same bytes."""

    id: UUID
    url: str = Field(description="The URL under which it is indexed.")


class HitDocument(ImageDocument):
    """A search result."""

    similarity: float | None = Field(
        description="Cosine similarity, -1 to 1; null for a search by words only, and for an image "
        "that is not embedded."
    )
    matched: list[Literal["picture", "text"]] = Field(
        ["picture"], description="What found it: its pixels, the words about it, or both."
    )
    match: Literal["exact", "copy", "similar"] | None = Field(
        description="`exact`: the same bytes; `copy`: the same image, altered; null for a text "
        "query, and for the first image of a group."
    )
    places: list[PlaceDocument] = Field(description="Other images with the same bytes.")


def hit_document(hit: Hit, url: str) -> HitDocument:
    """Return the JSON document of a hit; `url` is where the client finds the original."""
    return HitDocument(
        **image_fields(hit.image, url),
        similarity=None if hit.similarity is None else round(hit.similarity, 4),
        match=hit.match,
        matched=list(hit.matched),
        places=[PlaceDocument(id=image.id, url=image.url) for image in hit.places],
    )
