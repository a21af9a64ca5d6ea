"""The JSON that goes in and out; the OpenAPI document is made from these models."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.items import State

MOST_IMAGES_PER_REQUEST = 1000

Tag = Annotated[str, Field(max_length=200)]
Value = Annotated[str, Field(max_length=200)] | int | float | bool
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], Value], Field(max_length=50)
]


class Request(BaseModel):
    """A request; fields that it does not know are refused by name."""

    model_config = ConfigDict(extra="forbid")


class ImageEntry(Request):
    """A picture to index; what is left out stays as the index has it."""

    url: str
    title: str | None = Field(None, max_length=1000)
    description: str | None = Field(None, max_length=10_000)
    tags: list[Tag] | None = Field(None, max_length=100)
    metadata: Metadata | None = Field(None, description="Keys and values of your own.")


class UpsertRequest(Request):
    """Pictures to index."""

    images: list[str | ImageEntry] = Field(
        max_length=MOST_IMAGES_PER_REQUEST,
        description="URLs, or objects with a `url`.",
        examples=[["https://example.com/cat.jpg"]],
    )


class SelectionRequest(Request):
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


class DescribeRequest(Request):
    """What to say of an image from now on; what is left out stays."""

    title: str | None = Field(None, max_length=1000)
    description: str | None = Field(None, max_length=10_000)
    tags: list[Tag] | None = Field(None, max_length=100)
    metadata: Metadata | None = None


class DuplicatesRequest(Request):
    """Which images count as copies of each other."""

    min_similarity: float = Field(
        0.95, ge=0, le=1, description="The lowest cosine similarity of altered copies."
    )
    max_bits: int = Field(
        10, ge=0, le=64, description="The most bits in which their difference hashes differ."
    )
    limit: int = Field(20, ge=1, le=100)
    cursor: UUID | None = Field(None, description="`next` of the answer before.")


class OutcomeDocument(BaseModel):
    """What became of one picture."""

    url: str
    status: Literal["indexed", "unchanged", "updated", "failed"]
    id: UUID | None = None
    reason: str | None = Field(None, description="Why it failed.")


class UpsertResponse(BaseModel):
    """One outcome per picture, in the order of the request."""

    results: list[OutcomeDocument]


class JobItemDocument(BaseModel):
    """One picture of a job."""

    position: int
    url: str
    state: State
    reason: str | None = Field(description="Why it failed, or why it is tried again.")
    tries: int
    id: UUID | None = Field(description="The picture, once it is in the index.")


class JobDocument(BaseModel):
    """A job in numbers."""

    id: int
    title: str
    state: Literal["running", "done", "cancelled"]
    created_at: datetime
    total: int
    waiting: int
    indexed: int
    updated: int
    unchanged: int
    failed: int
    cancelled: int
    postponed: int = Field(description="Of those that wait, how many failed and are tried again.")
    rate: float = Field(description="Pictures per second over the last seconds.")
    eta_s: float | None = Field(description="Seconds until all have been tried, at this rate.")
    recent: list[JobItemDocument] = Field(description="The items that ended last.")


class JobsResponse(BaseModel):
    """Jobs, the last made first."""

    jobs: list[JobDocument]


class UploadRequest(Request):
    """Where uploads go."""

    job: int | None = Field(None, ge=1, description="The job to add them to.")


class JobItemsRequest(Request):
    """A page of a job's items."""

    state: State | None = None
    after: int = Field(-1, ge=-1, description="The position after which the page begins.")
    limit: int = Field(100, ge=1, le=1000)


class JobItemsResponse(BaseModel):
    """A page of a job's items, by position."""

    items: list[JobItemDocument]
    next: int | None = Field(description="The `after` of the next page.")


class ImageDocument(BaseModel):
    """A picture of the index."""

    id: UUID
    url: str = Field(description="Where the original is.")
    title: str
    description: str
    tags: list[str]
    width: int
    height: int
    format: str
    bytes: int
    metadata: dict[str, Value]
    thumbnail: str = Field(description="Path of a JPEG, 256 px on the short side.")


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


class DuplicatesResponse(BaseModel):
    """Groups of images of the same picture; similarities are to the first of each."""

    groups: list[list[HitDocument]]
    next: UUID | None = Field(description="The cursor to go on with; null at the end.")


class EncoderStats(BaseModel):
    """The encoder in use, and how well concurrent calls share inference calls."""

    name: str
    precision: str
    dimensions: int
    text: bool = Field(description="Whether it reads text.")
    images_embedded: int
    image_calls: int


class StatsResponse(BaseModel):
    """The server in numbers."""

    images: int
    vectors: int = Field(description="Images that the encoder in use has embedded.")
    encoder: EncoderStats
    database: Literal["embedded", "given"]
    version: str


class HealthResponse(BaseModel):
    """That the server runs."""

    status: Literal["ok"] = "ok"


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
