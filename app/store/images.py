"""Images, and entries that are to become images; catalog.py stores them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from app.pictures.colours import Colour
from app.pictures.decoding import DECODER, Facts
from app.store.beside import KeptBeside
from app.store.filters import MetadataValue
from app.store.urls import split_credentials, with_credentials

# The beginning of the URL of an uploaded image; the SHA-256 of its bytes follows.
UPLOAD_SCHEME = "upload:"
# Stands for a user and password that are needed, but not stored.
DROPPED = ""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One row of the images table, without its thumbnail, and what was read `beside` it."""

    id: UUID
    url: str
    sha256: str
    dhash: int
    bytes: int
    width: int
    height: int
    format: str
    exif: dict[str, str | int | float]
    title: str
    description: str
    tags: list[str]
    indexed_at: datetime
    updated_at: datetime
    etag: str | None
    last_modified: str | None
    checked_at: datetime
    gone_at: datetime | None
    colours: list[Colour]
    metadata: dict[str, MetadataValue]
    needs_credentials: bool = False
    truncated: bool = False
    too_plain: bool = False
    decoder: int = DECODER
    face_count: int | None = None
    beside: KeptBeside | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether an older decoder version read the file."""
        return self.decoder < DECODER

    @property
    def dhash_hex(self) -> str:
        """The difference hash as 16 hexadecimal digits."""
        return f"{self.dhash & 0xFFFF_FFFF_FFFF_FFFF:016x}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An image to be indexed: its URL, title, description, tags and metadata.

    None keeps the value that the index already has.

    A user and password in the URL become `credentials`, as `user:password` exactly as written; they
    are only used for fetching. If an image was fetched with them but they are not stored, they are
    `DROPPED`. `image_id` is the image's id if it is not derived from the URL.
    """

    url: str
    title: str | None = None
    description: str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, MetadataValue] | None = None
    credentials: str | None = field(default=None, repr=False)
    image_id: UUID | None = None

    def __post_init__(self) -> None:
        url, credentials = split_credentials(self.url)
        if url != self.url:
            object.__setattr__(self, "url", url)
            object.__setattr__(self, "credentials", credentials)

    @property
    def id(self) -> UUID:
        """The image's id: `image_id`, or else derived from the URL (RFC 9562, version 5)."""
        return self.image_id or _id(self.url)

    @property
    def former_id(self) -> UUID | None:
        """The id from when the user and password were still stored as part of the URL."""
        return _id(with_credentials(self.url, self.credentials)) if self.credentials else None

    @property
    def is_renamed(self) -> bool:
        """Whether the id differs from the one derived from the URL."""
        return self.image_id not in (None, _id(self.url))

    def over(self, image: ImageRow | None) -> "Entry":
        """Return the entry with the image's values in place of those that are None."""
        title, description, tags, metadata = (
            (image.title, image.description, image.tags, image.metadata)
            if image
            else ("", "", [], {})
        )
        return Entry(
            self.url,
            title if self.title is None else self.title,
            description if self.description is None else self.description,
            list(tags if self.tags is None else self.tags),
            dict(metadata if self.metadata is None else self.metadata),
            self.credentials,
            image.id if image else self.image_id,
        )

    def filling(self, image: ImageRow) -> "Entry":
        """Return the entry with only those of its texts that the image lacks."""
        return replace(
            self,
            title=None if image.title else self.title,
            description=None if image.description else self.description,
            tags=None if image.tags else self.tags,
            metadata=None if image.metadata else self.metadata,
        )

    def describes(self, image: ImageRow) -> bool:
        """Return whether the image already has this title, description, tags and metadata."""
        said = (self.title, self.description, self.tags, self.metadata)
        return said == (image.title, image.description, image.tags, image.metadata)


@dataclass(frozen=True, slots=True)
class Validators:
    """Validators, which show whether a file has changed without reading it (RFC 9110, 8.8)."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be stored; all fields of the entry are set (see `Entry.over`).

    `thumbnail_key` is that of the file which has its thumbnail, None to store it in the row.
    """

    entry: Entry
    picture: Facts
    validators: Validators = Validators()
    thumbnail_key: str | None = None


def _id(url: str) -> UUID:
    return uuid5(NAMESPACE_URL, url)
