"""The JSON that goes in and out; the OpenAPI document is made from these models."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, WithJsonSchema, field_validator

from app.indexing.documents import ImageDocument, OutcomeDocument
from app.indexing.requests import Metadata, RequestModel, Tag
from app.jobs.documents import JobDocument, JobItemDocument
from app.search.documents import HitDocument
from app.search.resolver import Timings
from app.store.items import ItemState
from app.store.urls import LONGEST_URL

MOST_IMAGES_PER_REQUEST = 1000

# Of many URLs, one that is too long fails alone, as one does that is no URL.
ImageUrl = Annotated[str, WithJsonSchema({"type": "string", "maxLength": LONGEST_URL})]


class ImageEntry(RequestModel):
    """A picture to index; what is left out stays as the index has it."""

    url: ImageUrl
    title: str | None = Field(None, max_length=1000)
    description: str | None = Field(None, max_length=10_000)
    tags: list[Tag] | None = Field(None, max_length=100)
    metadata: Metadata | None = Field(None, description="Keys and values of your own.")


class UpsertRequest(RequestModel):
    """Pictures to index."""

    images: list[ImageUrl | ImageEntry] = Field(
        max_length=MOST_IMAGES_PER_REQUEST,
        description="URLs, or objects with a `url`.",
        examples=[["https://example.com/cat.jpg"]],
    )


class SelectionRequest(RequestModel):
    """Which images are meant: those that fulfil every condition given."""

    q: str = Field(
        "", max_length=1000, description="Part of the URL, the title, the description or a tag."
    )
    gone: bool | None = Field(
        None, description="Whether the URL's server said that there is nothing any more."
    )
    checked_before: datetime | None = Field(
        None, description="Whose server was last asked before this moment."
    )


class ListRequest(SelectionRequest):
    """A page of the list of images."""

    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = None


class DeleteRequest(SelectionRequest):
    """Images to take out of the index; at least one condition must be given."""

    ids: list[UUID] = Field([], max_length=1000, description="Their ids, separated by commas.")

    @field_validator("ids", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value


class DeleteResponse(BaseModel):
    """What was done."""

    deleted: int


class DescribeRequest(RequestModel):
    """What to say of an image from now on; what is left out stays."""

    title: str | None = Field(None, max_length=1000)
    description: str | None = Field(None, max_length=10_000)
    tags: list[Tag] | None = Field(None, max_length=100)
    metadata: Metadata | None = None


class DuplicatesRequest(RequestModel):
    """Which images count as copies of each other."""

    min_similarity: float = Field(
        0.95, ge=0, le=1, description="The lowest cosine similarity of altered copies."
    )
    max_bits: int = Field(
        10, ge=0, le=64, description="The most bits in which their difference hashes differ."
    )
    limit: int = Field(20, ge=1, le=100)
    cursor: UUID | None = Field(None, description="`next` of the answer before.")


class UpsertResponse(BaseModel):
    """One outcome per picture, in the order of the request."""

    results: list[OutcomeDocument]


class JobsResponse(BaseModel):
    """Jobs, the last made first."""

    jobs: list[JobDocument]


class UploadRequest(RequestModel):
    """Where uploads go."""

    job: int | None = Field(None, ge=1, description="The job to add them to.")


class JobItemsRequest(RequestModel):
    """A page of a job's items."""

    state: ItemState | None = None
    after: int = Field(-1, ge=-1, description="The position after which the page begins.")
    limit: int = Field(100, ge=1, le=1000)


class JobItemsResponse(BaseModel):
    """A page of a job's items, by position."""

    items: list[JobItemDocument]
    next: int | None = Field(description="The `after` of the next page.")


class ColourDocument(BaseModel):
    """A dominant colour."""

    name: str
    rgb: str = Field(description="#rrggbb")
    share: float = Field(description="How much of the picture it covers, 0 to 1.")


class LocationDocument(BaseModel):
    """Where a picture was taken, in degrees."""

    latitude: float
    longitude: float


class ImageDetails(ImageDocument):
    """A picture of the index with all that is known of it."""

    colours: list[ColourDocument]
    taken_at: datetime | None
    camera: str | None
    location: LocationDocument | None

    sha256: str
    dhash: str = Field(description="64-bit difference hash, in hexadecimal.")
    exif: dict[str, str | int | float]
    indexed_at: datetime
    updated_at: datetime
    checked_at: datetime = Field(description="When its URL was last looked at.")
    gone_at: datetime | None = Field(description="Since when there is nothing at its URL.")


class ListResponse(BaseModel):
    """A page of images, the last indexed first."""

    images: list[ImageDocument]
    total: int
    next: str | None = Field(description="The cursor of the next page.")


class DuplicatesResponse(BaseModel):
    """Groups of images of the same picture; similarities are to the first of each."""

    groups: list[list[HitDocument]]
    next: UUID | None = Field(description="The cursor to go on with; null at the end.")


class HealthResponse(BaseModel):
    """That the server runs."""

    status: Literal["ok"] = "ok"


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class SearchResponse(BaseModel):
    """Results, best first."""

    results: list[HitDocument]
    next: str | None = Field(description="The cursor of the next page.")
    min_similarity: float | None = Field(
        description="The lowest similarity that was asked for; null if results are only ranked."
    )
    notes: list[str] = Field(description="What the reader of the results should know.")
    unknown_words: list[str] = Field(
        description="Words that the encoder has never seen; they count as words only."
    )
    encoder: str
    took_ms: Timings


class FacetValue(BaseModel):
    """A value to filter by."""

    value: str
    count: int


class FacetsResponse(BaseModel):
    """What there is to filter by among the images that pass the filters given."""

    total: int
    approximate: bool = Field(description="Whether counts were estimated from a sample.")
    formats: list[FacetValue]
    orientations: list[FacetValue]
    colours: list[FacetValue]
    hosts: list[FacetValue]
    cameras: list[FacetValue]
    tags: list[FacetValue]
    metadata: list[FacetValue] = Field(description="As `key=value`.")
    taken: tuple[datetime, datetime] | None = Field(description="The first and the last date.")
    located: int
