"""What servers answer. Fields that a server has and this version does not know are left out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypeVar, cast
from uuid import UUID

T = TypeVar("T")

ImageSort = Literal["newest", "oldest", "biggest", "smallest", "heaviest"]
MetadataValue = str | int | float | bool
Match = Literal["exact", "copy", "scene", "similar"]
Include = Literal["exif", "hashes", "colours", "metadata", "faces", "keypoints"]
ItemState = Literal["waiting", "indexed", "updated", "unchanged", "moved", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the indexing of one image ended; a `failed` one has a reason and no id."""

    url: str
    status: Literal["indexed", "unchanged", "updated", "failed"]
    id: UUID | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A face in an image: the `order`-th from the left, from 0 on.

    `box` has `x`, `y`, `width` and `height` in fractions of the image. Age (years, with the range
    in which four fifths of the guess lie) and gender are guesses of a network, with known bias.
    """

    order: int
    box: dict[str, float]
    confidence: float
    age: float | None = None
    age_range: tuple[int, int] | None = None
    gender: Literal["female", "male"] | None = None
    gender_confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceMatch:
    """The face of a hit that is most similar to the one searched by, by the cosine."""

    order: int
    box: dict[str, float]
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFace:
    """A face of a person: the `order`-th from the left in the image with this `id`.

    `box` has `x`, `y`, `width` and `height` in fractions of the image, of which `width` and
    `height` are the pixels, and `thumbnail` is the path of a JPEG on the server.
    """

    id: UUID
    order: int
    box: dict[str, float]
    width: int
    height: int
    thumbnail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person: so many `faces` that are near each other, or that someone has put together.

    They are in so many `images`. The `name` is empty until someone gives one; the `cover` is the
    face that the detector is surest of.
    """

    id: UUID
    name: str
    faces: int
    images: int
    cover: PersonFace


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An indexed image.

    `thumbnail` is the path of a JPEG on the server. What follows it is known of one image, and of
    hits for which it was included: `exif` with `taken_at`, `camera` and `location` (latitude and
    longitude), the `sha256` of the file and the `dhash` of the picture, dominant `colours`,
    each with `name`, `rgb` and `share`, and `faces` from left to right, for keys that may see them.
    """

    id: UUID
    url: str
    title: str = ""
    description: str = ""
    tags: Sequence[str] = ()
    width: int
    height: int
    format: str
    bytes: int
    metadata: dict[str, MetadataValue] = field(default_factory=dict[str, MetadataValue])
    truncated: bool = False
    too_plain: bool = False
    thumbnail: str
    exif: dict[str, str | int | float] | None = None
    taken_at: datetime | None = None
    camera: str | None = None
    location: dict[str, float] | None = None
    sha256: str | None = None
    dhash: str | None = None
    colours: Sequence[dict[str, Any]] | None = None
    faces: Sequence[Face] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How the query image lies on a copy or a scene: the server's OpenAPI document has the units.

    `matrix` is ((a, b, c), (d, e, f)): the query's pixel x, y is the image's pixel a x + b y + c,
    d x + e y + f.
    """

    query_overlap: float
    image_overlap: float
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    inliers: int
    mirrored: bool
    rotation: float
    scale: float
    edited: bool
    differences: Sequence[dict[str, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit(Image):
    """A search result.

    `similarity` is a cosine, None if nothing was compared. `match` is None unless the query is one
    whole image. `places` are other images with the same bytes, as pairs of id and URL. `face` is
    what a search by a face found. `keypoints`, if included, are as the OpenAPI document says.
    """

    similarity: float | None = None
    copy_similarity: float | None = None
    match: Match | None = None
    matched: Sequence[Literal["picture", "text"]] = ()
    alignment: Alignment | None = None
    places: Sequence[tuple[UUID, str]] = ()
    face: FaceMatch | None = None
    keypoints: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A page of hits, best match first; `next` is the cursor of the next page, None on the last.

    `min_similarity` is the threshold that was applied, and `notes` say how the query was read.
    """

    hits: Sequence[Hit]
    next: str | None = None
    min_similarity: float | None = None
    notes: Sequence[str] = ()
    unknown_words: Sequence[str] = ()
    encoder: str = ""
    took_ms: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobItem:
    """One image of a job."""

    position: int
    url: str
    state: ItemState
    reason: str | None = None
    tries: int = 0
    id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job's progress: how many of its images are in each state, and how fast it goes.

    `rate` is in images per second, `eta_s` in seconds.
    """

    id: int
    title: str
    state: Literal["running", "done", "cancelled"]
    created_at: datetime
    ended_at: datetime | None = None
    total: int = 0
    waiting: int = 0
    indexed: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
    failed: int = 0
    cancelled: int = 0
    postponed: int = 0
    rate: float = 0.0
    eta_s: float | None = None
    workers: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state != "running"


def read(kind: type[T], document: dict[str, Any]) -> T:
    """Return the model of a JSON object."""
    known = {f.name for f in fields(cast(Any, kind))}
    return kind(**{name: _value(name, v) for name, v in document.items() if name in known})


def read_results(document: dict[str, Any]) -> Results:
    """Return the results of a search."""
    hits = [read(Hit, hit) for hit in document.get("results", [])]
    return read(Results, {**document, "hits": hits})


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    match name:
        case "id" if isinstance(value, str):
            return UUID(value)
        case "created_at" | "ended_at" | "taken_at":
            return datetime.fromisoformat(value)
        case "alignment":
            return read(Alignment, value)
        case "matrix":
            return tuple(tuple(row) for row in value)
        case "cover":
            return read(PersonFace, value)
        case "faces" if isinstance(value, list):
            return [read(Face, face) for face in cast(list[dict[str, Any]], value)]
        case "face":
            return read(FaceMatch, value)
        case "age_range":
            return tuple(value)
        case "places":
            return [(UUID(place["id"]), place["url"]) for place in value]
        case _:
            return value
