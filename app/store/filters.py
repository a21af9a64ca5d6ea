"""Filters of a search, and the facets of an image that they are compared with.

Facets that are compared for equality (format, tags, host, …) are labels such as `tag:boat`, in one
indexed array per image. Those with an order (size, time, location) have columns of their own.
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

# The greatest difference of the sides of a square, as a share of the longer one.
SQUARE_TOLERANCE = 0.05
LONGEST_LABEL = 300
# From this number of faces on, filters do not count them.
MANY_FACES = 3

ANY_OF = {
    "format": "formats",
    "orientation": "orientations",
    "colour": "colours",
    "host": "hosts",
    "camera": "cameras",
    "faces": "faces",
}
"""The kinds of labels of which one match is enough, with their fields of `Filters`."""


@dataclass(frozen=True, slots=True)
class Box:
    """An area in degrees; if `west` is greater than `east`, it crosses the date line."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on images, all of which must be met.

    Of several `formats`, `orientations`, `colours`, `hosts`, `cameras` or numbers of `faces`, one
    must match; of several `tags` and `metadata`, all must. Case does not matter. `taken_after` is
    inclusive, `taken_before` exclusive. `ranges` are the lowest and the highest number, both
    inclusive, that the metadata of a key may have; None for no limit. What is no number in its
    plain form, such as `00123`, is in no range.
    """

    formats: Sequence[str] = ()
    orientations: Sequence[str] = ()
    colours: Sequence[str] = ()
    hosts: Sequence[str] = ()
    cameras: Sequence[str] = ()
    faces: Sequence[str] = ()
    tags: Sequence[str] = ()
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict[str, MetadataValue])
    ranges: Mapping[str, tuple[float | None, float | None]] = field(
        default_factory=dict[str, tuple[float | None, float | None]]
    )
    located: bool | None = None
    box: Box | None = None
    taken_after: datetime | None = None
    taken_before: datetime | None = None
    min_width: int | None = None
    min_height: int | None = None

    def __bool__(self) -> bool:
        # `located=False` is a condition too.
        return any(getattr(self, f.name) not in (None, (), [], {}) for f in fields(self))

    @property
    def any_of(self) -> dict[str, list[str]]:
        """Labels by kind; an image must have one of each kind."""
        chosen = {kind: getattr(self, name) for kind, name in ANY_OF.items()}
        return {kind: [label(kind, v) for v in values] for kind, values in chosen.items() if values}

    def without(self, kind: str) -> "Filters":
        """Return the filters without those on a kind of label (a key of `ANY_OF`)."""
        return replace(self, **{ANY_OF[kind]: ()})

    @property
    def all_of(self) -> list[str]:
        """Labels of which an image must have every one."""
        wanted = [label("tag", tag) for tag in self.tags]
        return wanted + [metadata_label(key, value) for key, value in self.metadata.items()]


NO_FILTERS = Filters()


class Described(Protocol):
    """What facets are derived from: a decoded `Picture`, or the row of an image."""

    @property
    def width(self) -> int:
        """Width in pixels."""
        ...

    @property
    def height(self) -> int:
        """Height in pixels."""
        ...

    @property
    def format(self) -> str:
        """Pillow's name for the format, such as `JPEG`."""
        ...

    @property
    def exif(self) -> Mapping[str, str | int | float]:
        """EXIF values by tag name."""
        ...

    @property
    def colours(self) -> Sequence[Colour]:
        """Dominant colours."""
        ...


@dataclass(frozen=True, slots=True)
class Facets:
    """The filter columns of an image, kept beside its vector."""

    labels: list[str]
    taken_at: datetime | None
    width: int
    height: int
    latitude: float | None
    longitude: float | None


def facets_of(
    picture: Described,
    *,
    url: str,
    tags: Sequence[str],
    metadata: Mapping[str, MetadataValue],
    faces: int | None = None,
) -> Facets:
    """Return the values of the columns that filters use.

    `faces` is how many the image has; None where they were not looked for.
    """
    host, camera_name = host_of(url), camera(picture.exif)
    labels = [
        label("format", picture.format),
        label("orientation", orientation(picture.width, picture.height)),
        *(label("colour", colour["name"]) for colour in picture.colours),
        *([label("host", host)] if host else ()),
        *([label("camera", camera_name)] if camera_name else ()),
        *(label("tag", tag) for tag in tags),
        *(metadata_label(key, value) for key, value in metadata.items()),
        *([label("faces", face_count(faces))] if faces is not None else ()),
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


def face_count(number: int) -> str:
    """Return a number of faces as filters have it: 0, 1, 2 or 3+."""
    return str(number) if number < MANY_FACES else f"{MANY_FACES}+"


def orientation(width: int, height: int) -> str:
    """Return `landscape`, `portrait` or `square`, which allows a difference of 5 %."""
    if abs(width - height) <= SQUARE_TOLERANCE * max(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def label(kind: str, value: str) -> str:
    """Return `kind:value`, with the value in lower case, single-spaced and cut to length."""
    return f"{kind}:{' '.join(value.split()).casefold()}"[:LONGEST_LABEL]


# A number in its plain form, without leading zeros: as Python and JSON write it, or people a price.
# Others, such as `00123` or `+1`, are names that happen to be of digits.
PLAIN_NUMBER = r"-?(0|[1-9][0-9]{0,30})([.][0-9]{1,30})?(e[+-]?[0-9]{1,2})?"


def metadata_label(key: str, value: MetadataValue) -> str:
    """Return the label of a metadata value; values other than strings are written as JSON."""
    written = value if isinstance(value, str) else json.dumps(value)
    return label("metadata", f"{key}={written}")
