"""Requests and how their answers are read, for both clients."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, NotRequired, TypedDict, TypeVar, cast
from uuid import UUID

import httpx

from lookalike.models import (
    Image,
    ImageSort,
    Include,
    ItemState,
    Job,
    JobItem,
    MetadataValue,
    Outcome,
    Results,
    read,
    read_results,
)

T = TypeVar("T")

File = str | os.PathLike[str] | bytes | BinaryIO
"""A file: its path, its bytes, or what is open for reading."""

LIST_TYPES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/x-ndjson",
    ".xml": "application/xml",
}
"""The media types of lists of images, by the suffix of the file."""


class ImageEntry(TypedDict):
    """An image to index by URL; what is left out keeps its value."""

    url: str
    title: NotRequired[str]
    description: NotRequired[str]
    tags: NotRequired[Sequence[str]]
    metadata: NotRequired[Mapping[str, MetadataValue]]


class Filters(TypedDict, total=False):
    """Conditions on images. `box` is west, south, east, north in degrees."""

    formats: Sequence[str]
    orientations: Sequence[Literal["landscape", "portrait", "square"]]
    colours: Sequence[str]
    hosts: Sequence[str]
    cameras: Sequence[str]
    faces: Sequence[Literal["0", "1", "2", "3+"]]
    tags: Sequence[str]
    metadata: Mapping[str, MetadataValue]
    located: bool
    box: tuple[float, float, float, float]
    taken_after: datetime
    taken_before: datetime
    min_width: int
    min_height: int


class SearchOptions(Filters, total=False):
    """What a search may have beside a file; `crop` is x, y, width, height in fractions.

    `face` is what to search by, on its own: of an indexed image, its id and the place of the face
    from the left; or of the file, that place, or a box as `crop` has it.
    """

    url: str
    text: str
    query: Sequence[Mapping[str, Any]]
    upload: UUID
    face: tuple[UUID | str, int] | int | tuple[float, float, float, float]
    crop: tuple[float, float, float, float]
    like: Sequence[UUID]
    unlike: Sequence[UUID]
    weights: Mapping[str, float]
    diversity: float
    min_similarity: float
    match: Literal["exact", "copy", "scene"]
    thorough: bool
    sort: Literal["best", "changed", "biggest", "newest", "oldest"]
    limit: int
    cursor: str
    include: Sequence[Include]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how its answer is read; `source` is a file that is sent as the body."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    json: Any = None
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    files: Sequence[tuple[str, Any]] = ()
    source: File | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def options(self) -> dict[str, Any]:
        """The arguments for httpx's `request`, without the body's source."""
        given: dict[str, Any] = {"params": self.params, "headers": self.headers}
        if self.json is not None:
            given["json"] = self.json
        if self.files:
            given |= {"data": self.fields, "files": list(self.files)}
        return given


def upsert(images: Sequence[str | ImageEntry]) -> Call[list[Outcome]]:
    """Index images by URL."""
    return Call("POST", "/api/upsert", _outcomes, json={"images": list(images)})


def upsert_job(images: Sequence[str | ImageEntry]) -> Call[Job]:
    """Index images by URL in a job."""
    body = {"images": list(images)}
    return Call("POST", "/api/upsert", _job, json=body, headers=_LATER)


def upsert_list(source: File, media_type: str | None) -> Call[Job]:
    """Index a list of URLs in a job."""
    kind = media_type
    if kind is None and isinstance(source, str | os.PathLike):
        kind = LIST_TYPES.get(Path(source).suffix.lower())
    if kind is None:
        raise ValueError("What kind of list is it? Say so: media_type='text/csv', for example.")
    return Call("POST", "/api/upsert", _job, source=source, headers={"Content-Type": kind})


def upload(files: Sequence[File]) -> Call[list[Outcome]]:
    """Index uploaded images."""
    return Call("POST", "/api/images", _outcomes, files=_parts(files))


def upload_job(files: Sequence[File], job: int | None) -> Call[Job]:
    """Index uploaded images in a job, new or there already."""
    params = {} if job is None else {"job": job}
    return Call("POST", "/api/images", _job, params=params, files=_parts(files), headers=_LATER)


def query(file: File, *, verified: bool) -> Call[list[str]]:
    """Return the URLs of an image's copies."""
    fields = {"verified": "true"} if verified else {}
    return Call("POST", "/api/query", _json, fields=fields, files=_parts([file]))


def search(file: File | None, options: Mapping[str, Any]) -> Call[Results]:
    """Search by a file, or by anything else."""
    given = {name: value for name, value in options.items() if value is not None}
    if file is None:
        return Call("POST", "/api/search", _results, json=_as_json(given))
    if "query" in given:
        raise ValueError("query: beside a file, name further terms by `text`, `like` or `url`.")
    return Call("POST", "/api/search", _results, fields=_as_form(given), files=_parts([file]))


def as_json(call: Call[Any]) -> Call[Any]:
    """Return a call whose answer is read as JSON, with all that the server says."""
    return replace(call, read=_json)


def images(
    q: str, sort: ImageSort, limit: int, cursor: str | None
) -> Call[tuple[list[Image], str | None]]:
    """Return a page of indexed images."""

    def page(response: httpx.Response) -> tuple[list[Image], str | None]:
        document = response.json()
        return [read(Image, image) for image in document["images"]], document["next"]

    params = {"q": q, "sort": sort, "limit": limit} | ({"cursor": cursor} if cursor else {})
    return Call("GET", "/api/images", page, params=params)


def image(image_id: UUID | str) -> Call[Image]:
    """Return an image with all its details."""
    return Call("GET", f"/api/images/{image_id}", _image)


def update(image_id: UUID | str, changes: Mapping[str, Any]) -> Call[Image]:
    """Change what is said of an image."""
    given = {name: value for name, value in changes.items() if value is not None}
    return Call("PATCH", f"/api/images/{image_id}", _image, json=given)


def delete(image_id: UUID | str, *, trash: bool) -> Call[None]:
    """Delete an image, or move it to the trash."""
    params = {"trash": "true"} if trash else {}
    return Call("DELETE", f"/api/images/{image_id}", _nothing, params=params)


def thumbnail(image_id: UUID | str) -> Call[bytes]:
    """Return an image's thumbnail, a JPEG."""
    return Call("GET", f"/images/{image_id}/thumbnail", lambda response: response.content)


def facets(filters: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Return the values to filter by, with counts."""
    return Call("GET", "/api/facets", _json, params=_as_form(filters))


def stats() -> Call[dict[str, Any]]:
    """Return the size of the index, and its encoder."""
    return Call("GET", "/api/stats", _json)


def jobs() -> Call[list[Job]]:
    """Return the jobs, newest first."""

    def every(response: httpx.Response) -> list[Job]:
        return [read(Job, job) for job in response.json()["jobs"]]

    return Call("GET", "/api/jobs", every)


def job(job_id: int, action: Literal["", "/retry", "/cancel"] = "") -> Call[Job]:
    """Return a job's progress, after retrying or cancelling it if so wished."""
    return Call("POST" if action else "GET", f"/api/jobs/{job_id}{action}", _job)


def job_items(
    job_id: int, state: ItemState | None, after: int, limit: int
) -> Call[tuple[list[JobItem], int | None]]:
    """Return a page of a job's items."""

    def page(response: httpx.Response) -> tuple[list[JobItem], int | None]:
        document = response.json()
        return [read(JobItem, item) for item in document["items"]], document["next"]

    params = {"after": after, "limit": limit} | ({"state": state} if state else {})
    return Call("GET", f"/api/jobs/{job_id}/items", page, params=params)


def job_events(job_id: int) -> str:
    """Return the path of a job's stream."""
    return f"/api/jobs/{job_id}/events"


class EventReader:
    """Reads the lines of a job's stream."""

    has_ended = False

    def __init__(self) -> None:
        self._event = ""

    def read(self, line: str) -> Job | None:
        """Return the progress that this line has, if any."""
        name, _, value = line.partition(": ")
        if name == "event":
            self._event = value
            self.has_ended = value == "end"
        elif name == "data" and self._event == "progress":
            return read(Job, json.loads(value))
        return None


_LATER = {"Prefer": "respond-async"}


def _outcomes(response: httpx.Response) -> list[Outcome]:
    return [read(Outcome, outcome) for outcome in response.json()["results"]]


def _job(response: httpx.Response) -> Job:
    return read(Job, response.json())


def _image(response: httpx.Response) -> Image:
    return read(Image, response.json())


def _results(response: httpx.Response) -> Results:
    return read_results(response.json())


def _json(response: httpx.Response) -> Any:
    return response.json()


def _nothing(_: httpx.Response) -> None:
    return None


def _parts(files: Sequence[File]) -> list[tuple[str, Any]]:
    return [("file", _part(file)) for file in files]


def _part(file: File) -> tuple[str, Any]:
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        return path.name, path.read_bytes()
    if isinstance(file, bytes):
        return "image", file
    return Path(str(getattr(file, "name", "image"))).name, file.read()


def _as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: _plain(value) for name, value in options.items()}
    if "crop" in given:
        given["crop"] = _box(given["crop"])
    if "face" in given:
        given["face"] = _face(given["face"])
    return given


def _face(face: Any) -> dict[str, Any]:
    match face:
        case [image_id, order]:
            return {"id": image_id, "order": order}
        case [_, _, _, _]:
            return {"box": _box(face)}
        case _:
            return {"order": face}


def _box(parts: Sequence[float]) -> dict[str, float]:
    return dict(zip(("x", "y", "width", "height"), parts, strict=True))


def _as_form(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as texts and lists of texts."""
    fields: dict[str, Any] = {}
    for name, value in options.items():
        plain = _plain(value)
        if name == "crop":
            fields[name] = ",".join(map(str, plain))
        elif name == "face":
            parts = cast(list[Any], plain if isinstance(plain, list | tuple) else [plain])
            fields[name] = (":" if len(parts) == 2 else ",").join(map(str, parts))
        elif isinstance(plain, dict):
            pairs = cast(dict[str, Any], plain)
            fields[name] = [f"{key}={_text(member)}" for key, member in pairs.items()]
        elif isinstance(plain, list):
            fields[name] = [_text(member) for member in cast(list[Any], plain)]
        else:
            fields[name] = _text(plain)
    return fields


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case dict():
            given = cast(dict[str, Any], value)
            return {key: _plain(member) for key, member in given.items()}
        case list() | tuple():
            return [_plain(member) for member in cast(Sequence[Any], value)]
        case _:
            return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
