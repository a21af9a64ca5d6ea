"""The JSON of requests and responses; the OpenAPI document is made from these models."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, WithJsonSchema, model_validator

from app.indexing.documents import (
    DHASH,
    ColourDocument,
    ImageDocument,
    LocationDocument,
    OutcomeDocument,
)
from app.indexing.face_documents import FaceDocument
from app.indexing.requests import (
    MAX_INTEGER,
    Commas,
    Description,
    Metadata,
    Moment,
    RequestModel,
    Tags,
    Title,
)
from app.jobs.documents import JobDocument, JobItemDocument
from app.search.cursors import MAX_CHARACTERS
from app.search.documents import HitDocument
from app.search.requests import FilterRequest, ImageRequest
from app.search.resolver import Timings
from app.store.items import ItemState
from app.store.milvus.stats import MilvusStats
from app.store.orders import CatalogOrder
from app.store.urls import LONGEST_URL

MOST_IMAGES_PER_REQUEST = 1000

# Of many URLs, one that is too long fails alone, as one does that is no URL.
FacetName = Literal["formats", "orientations", "colours", "hosts", "cameras", "tags", "metadata"]
ImageUrl = Annotated[str, WithJsonSchema({"type": "string", "maxLength": LONGEST_URL})]


class ImageEntry(RequestModel):
    """An image to index; fields that are left out keep their values."""

    url: ImageUrl
    title: Title | None = None
    description: Description | None = None
    tags: Tags | None = None
    metadata: Metadata | None = Field(None, description="Your own keys and values.")


class UpsertRequest(RequestModel):
    """Images to index."""

    images: list[ImageUrl | ImageEntry] = Field(
        max_length=MOST_IMAGES_PER_REQUEST,
        description="URLs, or objects with a `url`.",
        examples=[["https://example.com/cat.jpg"]],
    )


class SelectionRequest(RequestModel):
    """A selection of images: those that meet every condition given."""

    q: str = Field("", max_length=1000, description="Part of the URL, title, description or a tag.")
    gone: bool | None = Field(None, description="Whether the original is gone from its URL.")
    checked_before: Moment | None = Field(
        None, description="Only images whose URL was last checked before this time."
    )


class ListRequest(SelectionRequest):
    """A page of the list of images."""

    limit: int = Field(50, ge=1, le=500, description="Most images of a page.")
    cursor: str | None = Field(None, max_length=200, description="`next` of the previous page.")
    sort: CatalogOrder = Field(
        "newest",
        description="`newest`, `oldest`: by when they were indexed. `biggest`, `smallest`: by "
        "pixels. `heaviest`: by the bytes of their files.",
    )


class DeleteOneRequest(RequestModel):
    """How to delete an image."""

    trash: bool = Field(False, description="Move to the trash, to be restored within TRASH_DAYS.")


class DeleteRequest(SelectionRequest, DeleteOneRequest):
    """A selection of images to delete; at least one condition is required."""

    ids: Commas[list[UUID]] = Field([], max_length=1000, description="Image ids.")


class DeleteResponse(BaseModel):
    """How many images were deleted, or moved to the trash."""

    deleted: int


class DescribeRequest(RequestModel):
    """New details of an image; fields that are left out keep their values."""

    title: Title | None = Field(None, description="A title.")
    description: Description | None = Field(None, description="A description.")
    tags: Tags | None = Field(None, description="Tags, instead of those it has.")
    metadata: Metadata | None = Field(
        None, description="Your own keys and values, instead of those it has."
    )


class DuplicatesRequest(RequestModel):
    """Which images are compared with each other; duplicates are those that are proved copies."""

    min_similarity: float = Field(
        0.85,
        ge=0,
        le=1,
        description="Minimum cosine similarity of images that are compared. Hashes that are near "
        "in one of eight orientations count, too: equal ones as 0.99, with ten bits of 64 as 0.85.",
    )
    max_bits: int = Field(
        64,
        ge=0,
        le=64,
        description="Maximum distance between their hashes, in bits: of difference hashes, or of "
        "those of eight orientations; crops may have any.",
    )
    limit: int = Field(20, ge=1, le=100, description="Most groups of a page.")
    cursor: str | None = Field(
        None, max_length=MAX_CHARACTERS, description="`next` from the previous response."
    )


class QueryRequest(RequestModel):
    """The fields of a query beside its file."""

    verified: bool = Field(
        False,
        description="Return the same files and verified copies only, whatever their similarity.",
    )


class CompareRequest(RequestModel):
    """Two images to compare; in a form, each is a file, a URL or an id."""

    a: ImageRequest
    b: ImageRequest


class UpsertResponse(BaseModel):
    """One outcome per image, in the order of the request."""

    results: list[OutcomeDocument]


class JobsResponse(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobDocument]


class UploadRequest(RequestModel):
    """Where to index uploads."""

    job: int | None = Field(None, ge=1, le=MAX_INTEGER, description="Id of the job to add them to.")


class JobItemsRequest(RequestModel):
    """A page of a job's items."""

    state: ItemState | None = Field(None, description="Only items in this state.")
    after: int = Field(
        -1, ge=-1, le=MAX_INTEGER, description="Position after which the page starts."
    )
    limit: int = Field(100, ge=1, le=1000, description="Most items of a page.")


class JobItemsResponse(BaseModel):
    """A page of a job's items, by position."""

    items: list[JobItemDocument]
    next: int | None = Field(description="The `after` of the next page; null on the last.")


class ImageDetails(ImageDocument):
    """An indexed image with all its details."""

    colours: list[ColourDocument]
    taken_at: datetime | None
    camera: str | None
    location: LocationDocument | None

    sha256: str
    dhash: str = Field(description=DHASH)
    exif: dict[str, str | int | float]
    indexed_at: datetime
    updated_at: datetime
    checked_at: datetime = Field(description="When its URL was last checked.")
    gone_at: datetime | None = Field(description="When its URL was found to be gone.")
    faces: list[FaceDocument] | None = Field(
        description="From left to right; null where they were not looked for, and for clients "
        "without the scope `faces`."
    )


class ListResponse(BaseModel):
    """A page of images, last indexed first."""

    images: list[ImageDocument]
    total: int
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class DuplicatesResponse(BaseModel):
    """Groups of duplicates; similarities, matches and alignments are to the first of each group.

    An image is in one group, with the duplicates of its duplicates, and over all pages in no other.
    """

    groups: list[list[HitDocument]]
    best: list[UUID] = Field(
        description="Of each group, the image to keep: the largest, oldest and best described."
    )
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class HealthResponse(BaseModel):
    """The server is healthy."""

    status: Literal["ok"] = "ok"


class ReplicaStatus(BaseModel):
    """The replica of the database that searches read, if it is near enough."""

    state: Literal["in use", "behind", "away"]
    lag_s: float | None = Field(None, description="The age in seconds of what it may lack.")


class ReadyResponse(HealthResponse):
    """The server is ready."""

    provider: str = Field(description="The processor that embeds images: cpu, cuda, …")
    replica: ReplicaStatus | None = Field(
        None, description="Only with DATABASE_READ_URL; the server is ready without it, too."
    )
    milvus: MilvusStats | None = Field(
        None,
        description="Only where Milvus has the index of vectors. While it is away, the server "
        "answers what it can, and indexing goes on.",
    )


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str = Field(description="Names the request in the server's log.")


class SearchResponse(BaseModel):
    """Search results, best match first."""

    results: list[HitDocument]
    next: str | None = Field(description="The cursor of the next page; null on the last.")
    min_similarity: float | None = Field(
        description="The threshold that was applied; null if results are only ranked."
    )
    notes: list[str] = Field(description="Remarks on how the query was interpreted.")
    unknown_words: list[str] = Field(
        description="Words that the encoder does not know; they match as words only."
    )
    encoder: str
    took_ms: Timings


class FacetValue(BaseModel):
    """A value to filter by and how many images have it."""

    value: str
    count: int


class FacetValuesRequest(FilterRequest):
    """Values of one facet, by a part of them, among the images that match filters."""

    facet: FacetName = Field(description="Which filter they are values of.")
    key: str = Field("", max_length=300, description="Of `metadata`, the key.")
    q: str = Field("", max_length=300, description="A part of the values, in any case.")
    limit: int = Field(20, ge=1, le=100, description="Most values.")

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if bool(self.key) != (self.facet == "metadata"):
            raise ValueError("give a key with metadata, and only there")
        return self


class FacetValuesResponse(BaseModel):
    """Values of one facet, those that begin with `q` first, and then the more frequent ones."""

    values: list[FacetValue] = Field(description="Of `metadata`, without their key.")


class FacetsResponse(BaseModel):
    """The values to filter by among the images that match the given filters."""

    total: int
    approximate: bool = Field(description="Whether counts are estimated from a sample.")
    formats: list[FacetValue]
    orientations: list[FacetValue]
    colours: list[FacetValue]
    hosts: list[FacetValue]
    cameras: list[FacetValue]
    faces: list[FacetValue] = Field(
        description="Numbers of faces; none for clients without the scope `faces`."
    )
    tags: list[FacetValue]
    metadata: list[FacetValue] = Field(description="As `key=value`.")
    taken: tuple[datetime, datetime] | None = Field(description="The earliest and the latest date.")
    located: int
