"""What a search can be narrowed to, and what is kept beside each vector for it.

Whatever is only ever equal to something (a format, a tag, a host) is a label, such as `tag:boat`:
one array per image under one index. What has an order (size, time, place) has a column of its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Protocol

from app.pictures.colours import Colour
from app.pictures.exif import camera, location, taken_at
from app.store.urls import host_of

MetadataValue = str | int | float | bool

# Sides that differ by less than this make a square.
SQUARE = 0.05
LONGEST_LABEL = 300

ANY_OF = {
    "format": "formats",
    "orientation": "orientations",
    "colour": "colours",
    "host": "hosts",
    "camera": "cameras",
}
"""The kinds of label of which one is enough, and the field of `Filters` for each."""


@dataclass(frozen=True, slots=True)
class Box:
    """An area of the map, in degrees; one whose west is east of its east crosses the date line."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True)
class Filters:
    """Which images may be found: those that fulfil every condition given.

    Of several `formats`, `orientations`, `colours`, `hosts` or `cameras`, one is enough; of several
    `tags` and `metadata`, all must be there. Upper and lower case are the same.
    """

    formats: Sequence[str] = ()
    orientations: Sequence[str] = ()
    colours: Sequence[str] = ()
    hosts: Sequence[str] = ()
    cameras: Sequence[str] = ()
    tags: Sequence[str] = ()
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict[str, MetadataValue])
    located: bool | None = None
    box: Box | None = None
    taken_after: datetime | None = None
    taken_before: datetime | None = None
    min_width: int | None = None
    min_height: int | None = None

    def __bool__(self) -> bool:
        # False is a condition too.
        return any(getattr(self, f.name) not in (None, (), [], {}) for f in fields(self))

    @property
    def any_of(self) -> dict[str, list[str]]:
        """By kind, labels of which an image must have one."""
        chosen = {kind: getattr(self, name) for kind, name in ANY_OF.items()}
        return {kind: [label(kind, v) for v in values] for kind, values in chosen.items() if values}

    def without(self, kind: str) -> "Filters":
        """Return the filters without the labels of a kind of which one is enough."""
        return replace(self, **{ANY_OF[kind]: ()})

    @property
    def all_of(self) -> list[str]:
        """Labels that an image must have."""
        wanted = [label("tag", tag) for tag in self.tags]
        return wanted + [metadata_label(key, value) for key, value in self.metadata.items()]


NO_FILTERS = Filters()


class Described(Protocol):
    """What labels and columns are made of; a decoded picture has it, and an image of the index."""

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def format(self) -> str:
        """Pillow's name of the format."""
        ...

    @property
    def exif(self) -> Mapping[str, str | int | float]:
        """Its EXIF tags."""
        ...

    @property
    def colours(self) -> Sequence[Colour]:
        """Its dominant colours."""
        ...


@dataclass(frozen=True, slots=True)
class Facets:
    """What is kept of an image beside its vector, for filters."""

    labels: list[str]
    taken_at: datetime | None
    width: int
    height: int
    latitude: float | None
    longitude: float | None


def facets_of(
    picture: Described, *, url: str, tags: Sequence[str], metadata: Mapping[str, MetadataValue]
) -> Facets:
    """Return what filters ask of a picture at a URL, with what is said of it."""
    host, taken_with = host_of(url), camera(picture.exif)
    labels = [
        label("format", picture.format),
        label("orientation", orientation(picture.width, picture.height)),
        *(label("colour", colour["name"]) for colour in picture.colours),
        *([label("host", host)] if host else ()),
        *([label("camera", taken_with)] if taken_with else ()),
        *(label("tag", tag) for tag in tags),
        *(metadata_label(key, value) for key, value in metadata.items()),
    ]
    latitude, longitude = location(picture.exif) or (None, None)
    return Facets(
        labels=list(dict.fromkeys(labels)),
        taken_at=taken_at(picture.exif),
        width=picture.width,
        height=picture.height,
        latitude=latitude,
        longitude=longitude,
    )


def orientation(width: int, height: int) -> str:
    """Return `landscape`, `portrait` or `square`."""
    if abs(width - height) <= SQUARE * max(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def label(kind: str, value: str) -> str:
    """Return the label of a value of this kind."""
    return f"{kind}:{' '.join(value.split()).casefold()}"[:LONGEST_LABEL]


def metadata_label(key: str, value: MetadataValue) -> str:
    """Return the label of a key of the user's own and its value."""
    said = value if isinstance(value, str) else json.dumps(value)
    return label("metadata", f"{key}={said}")
