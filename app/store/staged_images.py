"""New images as rows that COPY takes, on their way into the images table."""

from psycopg.types.json import Jsonb

from app.pictures.phash import keys
from app.store.images import Entry, NewImage
from app.store.words import Placed, placed_words

STAGED = {
    "id": "uuid",
    "url": "text",
    "sha256": "text",
    "dhash": "bigint",
    "bytes": "bigint",
    "width": "integer",
    "height": "integer",
    "format": "text",
    "exif": "jsonb",
    "title": "text",
    "description": "text",
    "tags": "text[]",
    "colours": "jsonb",
    "metadata": "jsonb",
    "thumbnail": "bytea",
    "thumbnail_key": "text",
    "etag": "text",
    "last_modified": "text",
    "needs_credentials": "boolean",
    "renamed": "boolean",
    "truncated": "boolean",
    "too_plain": "boolean",
    "decoder": "integer",
    "phash": "bigint",
    "phash_keys": "integer[]",
    "words": "text[]",
    "places": "text[]",
}
"""The columns and their types, in the order of `staged`."""


def staged(image: NewImage) -> tuple[object, ...]:
    """Return the values of an image."""
    entry, picture = image.entry, image.picture
    return (
        entry.id,
        entry.url,
        picture.sha256,
        picture.dhash,
        picture.file_bytes,
        picture.width,
        picture.height,
        picture.format,
        Jsonb(picture.exif),
        entry.title,
        entry.description,
        list(entry.tags or ()),
        Jsonb(picture.colours),
        Jsonb(entry.metadata or {}),
        None if image.thumbnail_key else picture.thumbnail,
        image.thumbnail_key,
        image.validators.etag,
        image.validators.last_modified,
        entry.credentials is not None,
        entry.is_renamed,
        picture.truncated,
        picture.too_plain,
        picture.decoder,
        picture.phash,
        None if picture.phash is None else keys(picture.phash),
        *words_of(entry),
    )


def words_of(entry: Entry) -> Placed:
    """Return the words by which an image is found."""
    return placed_words(
        url=entry.url,
        title=entry.title or "",
        description=entry.description or "",
        tags=entry.tags or (),
    )
