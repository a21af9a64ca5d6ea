"""Search requests of the API and the command line, validated and turned into queries."""

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Annotated, Literal, Self, cast
from uuid import UUID

from pydantic import BeforeValidator, Field, field_validator, model_validator

from app.indexing.requests import (
    MAX_TEXT,
    Commas,
    Metadata,
    Moment,
    RequestModel,
    Url,
    parse,
    split_at_commas,
)
from app.pictures.colours import ColourName
from app.problems import InvalidRequest
from app.search.cursors import MAX_CHARACTERS
from app.search.documents import BESIDE, Include
from app.search.face_requests import FaceField
from app.search.query import MAX_WEIGHT, MOST_TERMS, Query, Term, read_terms
from app.search.regions import CropField, CropRequest, Fraction, crop_of
from app.search.sorting import MatchAtLeast, Sort
from app.store.beside import Beside
from app.store.filters import PLAIN_NUMBER, Box, Filters, MetadataValue

Values = Annotated[list[Annotated[str, Field(min_length=1, max_length=300)]], Field(max_length=100)]


_RANGE = re.compile(rf"({PLAIN_NUMBER})?\.\.({PLAIN_NUMBER})?", re.IGNORECASE)


def _range(value: MetadataValue) -> tuple[float | None, float | None] | None:
    """Return the limits that a value such as `10..20` names; None for any other value."""
    found = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or value == "..":
        return None
    lowest, highest = found[1], found[5]
    return (float(lowest) if lowest else None), (float(highest) if highest else None)


def written_range(lowest: float | None, highest: float | None) -> str:
    """Return limits as a value of metadata that names them."""
    return "..".join("" if limit is None else f"{limit!r}" for limit in (lowest, highest))


class FilterRequest(RequestModel):
    """Limits a search to the images that meet every given condition.

    Of several formats, orientations, colours, hosts, cameras or numbers of faces, one must match;
    of several tags and metadata, all must. Case does not matter.
    """

    formats: Values = Field([], description="JPEG, PNG, …")
    orientations: Commas[list[Literal["landscape", "portrait", "square"]]] = Field(
        [], max_length=100, description="landscape, portrait or square."
    )
    colours: Commas[list[ColourName]] = Field([], max_length=100, description="Dominant colours.")
    hosts: Values = Field([], description="Host names of image URLs.")
    cameras: Values = Field([], description="Make and model, as in EXIF.")
    faces: Commas[list[Literal["0", "1", "2", "3+"]]] = Field(
        [],
        max_length=100,
        description="How many faces an image has, where they were looked for; for keys with the "
        "scope `faces`.",
    )
    tags: Values = Field([], description="Tags, of which an image must have every one.")
    metadata: Metadata = Field(
        {},
        description="Your own keys and values; `key=value` in forms and URLs. A value such as "
        "`10..20`, `10..` or `..20` is a range of numbers, both ends included.",
    )
    located: bool | None = Field(None, description="Whether EXIF has a location.")
    box: tuple[float, float, float, float] | None = Field(
        None, description="West, south, east, north in degrees."
    )
    taken_after: Moment | None = Field(
        None, description="When it was taken, by EXIF; UTC unless an offset is given."
    )
    taken_before: Moment | None = Field(None, description="Likewise; the time itself excluded.")
    min_width: int | None = Field(None, ge=1, le=1_000_000, description="Least width in pixels.")
    min_height: int | None = Field(None, ge=1, le=1_000_000, description="Least height in pixels.")

    @field_validator("metadata", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """Accept lists of `key=value`, as in forms and URLs."""
        if not isinstance(value, list):
            return value
        pairs = [str(item).partition("=") for item in cast(list[object], value)]
        if not all(key and equals for key, equals, _ in pairs):
            raise ValueError("must be key=value")
        return {key.strip(): value.strip() for key, _, value in pairs}

    @field_validator("box", mode="before")
    @classmethod
    def _four(cls, value: object) -> object:
        parts = split_at_commas(value)
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

    @property
    def filters(self) -> Filters:
        """The filters of the request."""
        names = {f.name for f in fields(Filters)} - {"box", "metadata", "ranges"}
        given = {name: getattr(self, name) for name in names}
        ranges = {key: limits for key, v in self.metadata.items() if (limits := _range(v))}
        return Filters(
            **given,
            metadata={key: v for key, v in self.metadata.items() if key not in ranges},
            ranges=ranges,
            box=Box(*self.box) if self.box else None,
        )


Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)]


class TermRequest(RequestModel):
    """One part of a query: an image by `url`, `id` or `upload`, or a `text`."""

    url: Url | None = None
    id: UUID | None = Field(None, description="The id of an indexed image.")
    upload: UUID | None = Field(None, description="The id of an earlier query image.")
    text: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    weight: Weight = Field(1, description="Below 0, the term is subtracted.")
    crop: CropField = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.url, self.id, self.upload, self.text]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give one of url, id, upload and text")
        return self


def _named(value: object) -> object:
    """Accept an id or a URL as a text, as in forms."""
    if not isinstance(value, str):
        return value
    if value.lower().startswith(("http:", "https:")):
        return {"url": value}
    try:
        return {"id": UUID(value)}
    except ValueError as exc:
        raise ValueError("must be a URL, or the id of an image") from exc


class NamedImage(RequestModel):
    """An image by `url`, `id` or `upload`."""

    url: Url | None = None
    id: UUID | None = Field(None, description="The id of an indexed image.")
    upload: UUID | None = Field(None, description="The id of an earlier query image.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.url, self.id, self.upload)) != 1:
            raise ValueError("give one of url, id and upload")
        return self

    @property
    def term(self) -> Term:
        """The image as a term of a query."""
        return Term(url=self.url, image=self.id, upload=self.upload)


ImageRequest = Annotated[NamedImage, BeforeValidator(_named)]


class _Named(RequestModel):
    image: ImageRequest


class SearchRequest(FilterRequest):
    """A query: images and texts, added and subtracted, within filters.

    The query is the sum of `url`, `text`, `query` and, in a form, `file`: at most 16 texts, of
    10,000 characters together, and 5 URLs. With filters only, what passes them is listed. With a
    `cursor`, only `limit` and `include` count; the rest is as on the first page.
    """

    url: Url | None = Field(None, description="The URL of a query image.")
    text: str | None = Field(
        None,
        max_length=MAX_TEXT,
        description="A phrase, or terms such as `2:golden retriever + https://… - fruit`.",
    )
    query: list[TermRequest] = Field([], max_length=MOST_TERMS, description="Terms and weights.")
    upload: UUID | None = Field(None, description="The id of an earlier query image.")
    crop: CropField = Field(
        None, description="The region to search by, of every image without a region of its own."
    )
    like: Commas[list[UUID]] = Field(
        [], max_length=MOST_TERMS, description="Ids of relevant images."
    )
    unlike: Commas[list[UUID]] = Field(
        [], max_length=MOST_TERMS, description="Ids of irrelevant images."
    )
    weights: dict[str, Weight] = Field(
        {},
        max_length=MOST_TERMS,
        description="How much images count that are not in `text` or `query`: the `upload`, the "
        "`url`, and ids in `like` and `unlike`, by what names them; 1 if it is left out. In forms "
        "and URLs, `ID=2` or `https://…=2`.",
    )
    face: FaceField = Field(
        None,
        description="A face to search by, on its own: of an indexed image, or of the file or "
        "`upload`. For keys with the scope `faces`, on servers with FACES=vectors. The default of "
        "`min_similarity` is then 0.94.",
    )
    diversity: Fraction = Field(0, description="How varied the results are, 0 to 1.")
    min_similarity: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="The lowest cosine similarity of a result. By default, the server's "
        "MIN_SIMILARITY for a single whole image (if images have two vectors, only where it is "
        "set), and none for any other query.",
    )
    match: MatchAtLeast | None = Field(
        None,
        description="Only results that are proved to be so much: `exact`; `copy`, exact ones "
        "included; or `scene`, both included. For a search by one whole image.",
    )
    thorough: bool = Field(
        False,
        description="Look for copies of parts of the query image, too: pictures in a screenshot, a "
        "collage or a page. For a search by one whole image; it takes some 400 ms more.",
    )
    sort: Sort = Field(
        "best",
        description="`best`: best match first. `changed`: the copies that differ most first, for a "
        "search by one whole image. `biggest`: by pixels. `newest`, `oldest`: by when they were "
        "indexed. All but `best` sort the best 300 results; with filters only, all are sorted, and "
        "`best` is `newest`.",
    )
    limit: int | None = Field(
        None, ge=1, description="Most results; by default, the server's TOP_K."
    )
    cursor: str | None = Field(
        None, max_length=MAX_CHARACTERS, description="`next` of the previous page."
    )
    include: Commas[list[Include]] = Field(
        [],
        max_length=100,
        description="What else results have: `exif` (with when, where and by which camera a photo "
        "was taken), `hashes` (of the file and of the picture), `colours`, `metadata` (which they "
        "have anyway), `keypoints`, `faces` (for keys with that scope).",
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: object) -> object:
        """Accept lists of `name=weight`, as in forms and URLs, and ids however they are written."""
        if isinstance(value, dict):
            named = cast(dict[object, object], value)
            return {_as_id(n) if isinstance(n, str) else n: w for n, w in named.items()}
        if not isinstance(value, list):
            return value
        # A URL may have equals signs of its own.
        pairs = [str(item).rpartition("=") for item in cast(list[object], value)]
        if not all(name and equals for name, equals, _ in pairs):
            raise ValueError("must be name=weight")
        return {_as_id(name.strip()): weight.strip() for name, _, weight in pairs}

    @model_validator(mode="after")
    def _weighs_what_is_there(self) -> Self:
        named = {str(image_id) for image_id in (self.upload, *self.like, *self.unlike) if image_id}
        unknown = next((n for n in self.weights if n not in {*named, self.url}), None)
        if unknown is not None:
            raise ValueError(f"weights: {unknown[:100]} is no image of this search")
        return self

    @property
    def beside(self) -> frozenset[Beside]:
        """What else is read of the images that are found."""
        return frozenset(name for name in BESIDE if name in self.include)


def _as_id(name: str) -> str:
    """Return an id as it is written elsewhere, and anything else as it is."""
    try:
        return str(UUID(name))
    except ValueError:
        return name


def query_of(wanted: SearchRequest, data: bytes | None, *, limit: int) -> Query:
    """Return the query of a request; `data` is the image file sent with it, if any."""
    terms = [Term(data)] if data is not None else []
    if wanted.upload is not None:
        weight = wanted.weights.get(str(wanted.upload), 1.0)
        terms.append(Term(upload=wanted.upload, weight=weight))
    if wanted.url:
        terms.append(Term(url=wanted.url, weight=wanted.weights.get(wanted.url, 1.0)))
    terms += [_term(term) for term in wanted.query]
    terms += read_terms(wanted.text or "")
    return Query(
        with_crop(terms, wanted.crop),
        like=wanted.like,
        unlike=wanted.unlike,
        mark_weights={
            image_id: wanted.weights.get(str(image_id), 1.0)
            for image_id in (*wanted.like, *wanted.unlike)
        },
        filters=wanted.filters,
        min_similarity=wanted.min_similarity,
        diversity=wanted.diversity,
        limit=limit,
        match=wanted.match,
        thorough=wanted.thorough,
        sort=wanted.sort,
        beside=wanted.beside,
    )


def with_crop(terms: Sequence[Term], region: CropRequest | None) -> list[Term]:
    """Return the terms with the region set for the images that have no region of their own.

    Raises `InvalidRequest` if a region is given but no term is an image.
    """
    crop = crop_of(region)
    if crop and all(term.text is not None for term in terms):
        raise InvalidRequest("crop: the query has no image to crop.")
    return [replace(t, crop=t.crop or crop) if t.text is None else t for t in terms]


def _term(term: TermRequest) -> Term:
    return Term(
        url=term.url,
        image=term.id,
        upload=term.upload,
        text=term.text,
        weight=term.weight,
        crop=crop_of(term.crop),
    )


def term_named(name: str, value: str) -> Term:
    """Return the image that a text, the value of this field, names by URL or id.

    Raises `InvalidRequest`.
    """
    try:
        return parse(_Named, {"image": value}).image.term
    except InvalidRequest as problem:
        raise InvalidRequest(problem.detail.replace("image", name, 1)) from problem
