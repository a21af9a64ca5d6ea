"""The JSON of searching: queries, filters, results and facets."""

from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Literal, Self, cast
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from app.colours import ColourName
from app.filters import Box, Filters
from app.query import MOST_TERMS
from app.schemas import HitDocument, Metadata, Request

Values = Annotated[list[Annotated[str, Field(min_length=1, max_length=300)]], Field(max_length=100)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class FilterRequest(Request):
    """Which images may be found: those that fulfil every condition given.

    Of several formats, orientations, colours, hosts or cameras, one is enough; of several tags and
    metadata, all must be there. Upper and lower case are the same.
    """

    formats: Values = Field([], description="JPEG, PNG, …")
    orientations: list[Literal["landscape", "portrait", "square"]] = Field([])
    colours: list[ColourName] = Field([], description="Dominant colours.")
    hosts: Values = Field([], description="Host names of URLs.")
    cameras: Values = Field([], description="Make and model, as EXIF has them.")
    tags: Values = Field([])
    metadata: Metadata = Field({}, description="Keys of your own; in forms and URLs `key=value`.")
    located: bool | None = Field(None, description="Whether EXIF says where it was taken.")
    box: tuple[float, float, float, float] | None = Field(
        None, description="West, south, east, north, in degrees; separated by commas in forms."
    )
    taken_after: datetime | None = Field(None, description="By EXIF; UTC if no offset is given.")
    taken_before: datetime | None = None
    min_width: int | None = Field(None, ge=1, le=1_000_000)
    min_height: int | None = Field(None, ge=1, le=1_000_000)

    @field_validator("metadata", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """Read `key=value` lines, the way forms and URLs write metadata."""
        if not isinstance(value, list):
            return value
        pairs = [str(item).partition("=") for item in cast(list[object], value)]
        if not all(key and equals for key, equals, _ in pairs):
            raise ValueError("must be key=value")
        return {key.strip(): said.strip() for key, _, said in pairs}

    @field_validator("box", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, list) and len(cast(list[object], parts)) != 4:
            raise ValueError("must be west, south, east, north")
        return cast(object, parts)

    @field_validator("box")
    @classmethod
    def _on_earth(
        cls, box: tuple[float, float, float, float] | None
    ) -> tuple[float, float, float, float] | None:
        if box is not None:
            west, south, east, north = box
            if not (-90 <= south <= north <= 90 and abs(west) <= 180 and abs(east) <= 180):
                raise ValueError("must be west, south, east, north in degrees")
        return box

    @field_validator("taken_after", "taken_before")
    @classmethod
    def _zone(cls, time: datetime | None) -> datetime | None:
        return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time

    @property
    def filters(self) -> Filters:
        """The same for the search."""
        names = {f.name for f in fields(Filters)} - {"box"}
        given = {name: getattr(self, name) for name in names}
        return Filters(**given, box=Box(*self.box) if self.box else None)


class CropRequest(Request):
    """A region of a picture, in fractions of its width and height."""

    x: Fraction
    y: Fraction
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)


def _crop(value: object) -> object:
    """Read `x,y,width,height`, the way forms and URLs write a region."""
    if isinstance(value, str):
        names, parts = ("x", "y", "width", "height"), value.split(",")
        if len(parts) != len(names):
            raise ValueError("must be x,y,width,height")
        return dict(zip(names, parts, strict=True))
    return value


CropField = Annotated[CropRequest | None, BeforeValidator(_crop)]


class TermRequest(Request):
    """One part of a query: a picture by `url`, `id` or `upload`, or a `text`."""

    url: str | None = None
    id: UUID | None = Field(None, description="Of a picture of the index.")
    upload: UUID | None = Field(None, description="Of a picture that the page searched by.")
    text: str | None = Field(None, min_length=1, max_length=10_000)
    weight: float = Field(
        1, ge=-100, le=100, allow_inf_nan=False, description="Subtracted if it is below 0."
    )
    crop: CropField = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.url, self.id, self.upload, self.text]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give one of url, id, upload and text")
        return self


class SearchRequest(FilterRequest):
    """A query: pictures and texts, added and subtracted, within filters.

    What `url`, `text`, `query` (and, in a form, `file`) name is added up. With a `cursor`, all but
    `limit` is as it was on the first page.
    """

    url: str | None = Field(None, description="The address of a query picture.")
    text: str | None = Field(
        None,
        max_length=10_000,
        description="A phrase, or terms such as `2:golden retriever + https://… - fruit`.",
    )
    query: list[TermRequest] = Field([], max_length=MOST_TERMS, description="Terms and weights.")
    upload: UUID | None = Field(None, description="A picture that the page searched by.")
    crop: CropField = Field(
        None, description="The region that counts of each picture that has none of its own."
    )
    like: list[UUID] = Field([], max_length=MOST_TERMS, description="Results that are wanted.")
    unlike: list[UUID] = Field([], max_length=MOST_TERMS, description="Results that are not.")
    diversity: Fraction = Field(0, description="How much results should differ from each other.")
    min_similarity: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="The lowest cosine similarity of a result. If left out: the server's "
        "MIN_SIMILARITY for a single whole picture, none for any other query.",
    )
    limit: int | None = Field(
        None, ge=1, description="Most results; the server's TOP_K if left out."
    )
    cursor: str | None = Field(None, max_length=60_000, description="`next` of the page before.")


class Timings(BaseModel):
    """Milliseconds per stage."""

    decode: float
    embed: float
    search: float
    total: float


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
