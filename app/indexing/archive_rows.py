"""The columns of an export: what is written of an image, and what of a row can be read.

docs/parquet.md tells it to those who make such files elsewhere.
"""

# pyarrow has no types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np

from app.encoding.encoder import Vector
from app.indexing.media import HASH
from app.pictures.decoding import MEDIA_TYPES, Facts, decode
from app.problems import InvalidRequest, MissingPackage, PictureProblem
from app.store.images import DROPPED, Entry, ImageRow, NewImage, Validators
from app.store.spaces import Space
from app.store.urls import LONGEST_URL, URL_TOO_LONG, split_credentials

try:
    import pyarrow as pa
except ImportError as exc:
    raise MissingPackage(
        "Export and import need pyarrow, which is not installed: pip install 'lookalike[parquet]'"
    ) from exc

# The columns of vectors, and the keys of the metadata that name the encoder of each. An export has
# the first of an index with one vector per image.
ENCODERS = {"vector": b"lookalike.encoder", "copy_vector": b"lookalike.copy_encoder"}
# The columns that name it where a program cannot write such metadata, as Spark.
ENCODER_COLUMNS = {"vector": "encoder", "copy_vector": "copy_encoder"}

_TEXTS = ("url", "sha256", "format", "title", "description")
# An id is that of the URL, but of those that had a user and password in it.
_ID, _NEEDS_CREDENTIALS = "id", "needs_credentials"
_NUMBERS = ("dhash", "bytes", "width", "height")
_REQUIRED = ("url", "sha256", "format", "bytes", "width", "height", "thumbnail")
# Enough for a short side of 256 px at any proportions that images have.
_MOST_PIXELS = 16_000_000
# Unit vectors in half precision are nearer to 1 than this.
_ROUNDING = 0.01


def schema_of(columns: Mapping[str, Space]) -> Any:
    """Return the schema of an export, with these columns of vectors."""
    fields = [(name, pa.string()) for name in _TEXTS]
    fields += [(name, pa.int64()) for name in _NUMBERS]
    fields += [
        (_ID, pa.string()),
        (_NEEDS_CREDENTIALS, pa.bool_()),
        ("exif", pa.string()),
        ("colours", pa.string()),
        ("metadata", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("indexed_at", pa.timestamp("us", "UTC")),
        ("truncated", pa.bool_()),
        ("too_plain", pa.bool_()),
        ("decoder", pa.int32()),
        ("thumbnail", pa.binary()),
        *(
            (name, pa.list_(pa.float16(), space.encoder.dimensions))
            for name, space in columns.items()
        ),
    ]
    encoders = {ENCODERS[name]: s.encoder.model.fingerprint for name, s in columns.items()}
    return pa.schema(fields, metadata=encoders)


def table_of(
    rows: Sequence[tuple[ImageRow, bytes | None]],
    vectors: Mapping[str, Mapping[UUID, Vector]],
    schema: Any,
) -> Any:
    """Return images with their thumbnails, if wanted, and vectors by column, as a table."""
    records = [
        {
            **{name: getattr(image, name) for name in (*_TEXTS, *_NUMBERS)},
            _ID: str(image.id),
            _NEEDS_CREDENTIALS: image.needs_credentials,
            "exif": json.dumps(image.exif),
            "colours": json.dumps(image.colours),
            "metadata": json.dumps(image.metadata),
            "tags": image.tags,
            "etag": image.etag,
            "last_modified": image.last_modified,
            "indexed_at": image.indexed_at,
            "truncated": image.truncated,
            "too_plain": image.too_plain,
            "decoder": image.decoder,
            "thumbnail": thumbnail,
            **{
                name: list(found[image.id].astype(np.float16)) if image.id in found else None
                for name, found in vectors.items()
            },
        }
        for image, thumbnail in rows
    ]
    return pa.Table.from_pylist(records, schema=schema)


class Reader:
    """Reads the rows of one file, with the vectors that this index can use.

    Raises `InvalidRequest` if the file has not the columns that it should have.
    """

    def __init__(self, schema: Any, spaces: Sequence[Space]) -> None:
        self._by_encoder = {space.encoder.model.fingerprint: space for space in spaces}
        self._count = len(spaces)
        said = schema.metadata or {}
        # The encoder of each column of vectors; None where each row names its own.
        self._encoders: dict[str, str | None] = {
            name: said[key].decode("utf-8", "replace") if key in said else None
            for name, key in ENCODERS.items()
            if name in schema.names
        }
        _check(schema, self._encoders, self._by_encoder)

    @property
    def spaces(self) -> set[Space]:
        """The spaces that the file may have vectors of."""
        named = self._encoders.values()
        if None in named:
            return set(self._by_encoder.values())
        return {space for name, space in self._by_encoder.items() if name in named}

    def read(
        self, rows: Sequence[Mapping[str, Any]], *, first: int
    ) -> list[tuple[NewImage, dict[Space, Vector]]]:
        """Return the image of each row with its vectors; `first` is the number of the first row.

        Decodes the thumbnails of those that lack what is made of them. Raises `InvalidRequest`,
        which names the row.
        """
        read: list[tuple[NewImage, dict[Space, Vector]]] = []
        for number, row in enumerate(rows, first):
            try:
                read.append((_new_image(row), self._vectors(row)))
            except (ValueError, TypeError, PictureProblem) as exc:
                raise InvalidRequest(f"row {number}: {exc}") from exc
        return read

    def has_all(self, vectors: Mapping[Space, Vector]) -> bool:
        """Return whether nothing is left to embed."""
        return len(vectors) == self._count

    def _vectors(self, row: Mapping[str, Any]) -> dict[Space, Vector]:
        found: dict[Space, Vector] = {}
        for name, encoder in self._encoders.items():
            space = self._by_encoder.get(encoder or row.get(ENCODER_COLUMNS[name]) or "")
            if space is not None and row[name] is not None:
                found[space] = _unit(name, row[name], space)
        return found


def _check(
    schema: Any, encoders: Mapping[str, str | None], by_encoder: Mapping[str, Space]
) -> None:
    """Raise `InvalidRequest`, which names the first column that is not as it should be."""
    missing = [name for name in _REQUIRED if name not in schema.names]
    if missing:
        raise InvalidRequest(f"it has no column {missing[0]}")
    for column in schema:
        kind = _KINDS.get(column.name)
        if kind is not None and not (pa.types.is_null(column.type) or kind[1](column.type)):
            raise InvalidRequest(f"the column {column.name} is {column.type} instead of {kind[0]}")
    for name, encoder in encoders.items():
        if encoder is None and ENCODER_COLUMNS[name] not in schema.names:
            raise InvalidRequest(
                f"nothing says which encoder made {name}: a column {ENCODER_COLUMNS[name]} or the "
                f"metadata {ENCODERS[name].decode()} should hold its fingerprint"
            )
        space, kind = by_encoder.get(encoder or ""), schema.field(name).type
        if space is not None and pa.types.is_fixed_size_list(kind):
            _check_size(name, kind.list_size, space)


def _check_size(name: str, size: int, space: Space) -> None:
    wanted = space.encoder.dimensions
    if size != wanted:
        raise InvalidRequest(f"{name} has {size} components; those of {space.name} have {wanted}")


def _unit(name: str, values: Any, space: Space) -> Vector:
    """Return a vector as it is if its length is 1, and else with that length."""
    vector = np.array(values, np.float32)
    if vector.ndim != 1:
        raise ValueError(f"{name} is not a list of numbers")
    if len(vector) != space.encoder.dimensions:
        wanted = space.encoder.dimensions
        raise ValueError(
            f"{name} has {len(vector)} components; those of {space.name} have {wanted}"
        )
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not 0 < length < float("inf"):
        raise ValueError(f"{name} has components that are no numbers, or are all zero")
    return vector if abs(length - 1) < _ROUNDING else (vector / length).astype(np.float32)


def _new_image(row: Mapping[str, Any]) -> NewImage:
    for name in _REQUIRED:
        if row[name] is None or row[name] == "":
            raise ValueError(f"{name} is empty")
    if not HASH.fullmatch(row["sha256"]):
        raise ValueError("sha256 is not 64 hexadecimal digits in lower case")
    # Exports of older versions may have names that are not in use any more.
    if row["format"] not in MEDIA_TYPES and row.get("indexed_at") is None:
        raise ValueError(f"format is none of {', '.join(sorted(MEDIA_TYPES))}")
    if min(row["width"], row["height"], row["bytes"]) < 1:
        raise ValueError("width, height and bytes should be greater than 0")
    if not row["thumbnail"].startswith(b"\xff\xd8\xff"):
        raise ValueError("thumbnail is no JPEG")
    url, credentials = split_credentials(row["url"])
    if len(url) > LONGEST_URL:
        raise ValueError(URL_TOO_LONG)
    needed = credentials or row.get(_NEEDS_CREDENTIALS)
    entry = Entry(
        url,
        row.get("title") or "",
        row.get("description") or "",
        row.get("tags") or [],
        _json(row, "metadata", dict),
        DROPPED if needed else None,
        UUID(row[_ID]) if row.get(_ID) else uuid5(NAMESPACE_URL, row["url"]),
    )
    return NewImage(entry, _facts(row), Validators(row.get("etag"), row.get("last_modified")))


def _facts(row: Mapping[str, Any]) -> Facts:
    """Return what is stored of an image; what only a decoder can tell is read in the thumbnail."""
    dhash, colours, too_plain = row.get("dhash"), _json(row, "colours", list), row.get("too_plain")
    if dhash is None:
        seen = decode(row["thumbnail"], max_pixels=_MOST_PIXELS)
        dhash, colours = seen.dhash, colours or seen.colours
        too_plain = seen.too_plain if too_plain is None else too_plain
    return Facts(
        width=row["width"],
        height=row["height"],
        format=row["format"],
        sha256=row["sha256"],
        file_bytes=row["bytes"],
        dhash=dhash,
        exif=_json(row, "exif", dict),
        # Exports of version 0.1 have neither colours nor metadata.
        colours=colours,
        thumbnail=row["thumbnail"],
        # An export of an older decoder's images has none of these.
        truncated=row.get("truncated") or False,
        too_plain=too_plain or False,
        decoder=row.get("decoder") or 0,
    )


def _json(row: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return the object or list in a column of JSON, empty if there is none."""
    try:
        value = json.loads(row.get(name) or ("{}" if kind is dict else "[]"))
    except ValueError as exc:
        raise ValueError(f"{name} is not JSON") from exc
    if not isinstance(value, kind):
        raise ValueError(f"{name} should be a JSON {'object' if kind is dict else 'list'}")  # noqa: TRY004
    return value


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_binary(kind: Any) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_list_of(item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def is_one(kind: Any) -> bool:
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(is_list(kind) for is_list in lists) and item(kind.value_type)

    return is_one


_TEXT = ("text", _is_text)
_NUMBER = ("a whole number", pa.types.is_integer)
_FLAG = ("true or false", pa.types.is_boolean)
_VECTOR = ("a list of floating-point numbers", _is_list_of(pa.types.is_floating))
# What a column should be, in words and as a test of its type. Others are ignored.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys((*_TEXTS, _ID, "exif", "colours", "metadata", "etag", "last_modified"), _TEXT),
    **dict.fromkeys(ENCODER_COLUMNS.values(), _TEXT),
    **dict.fromkeys((*_NUMBERS, "decoder"), _NUMBER),
    **dict.fromkeys((_NEEDS_CREDENTIALS, "truncated", "too_plain"), _FLAG),
    "tags": ("a list of texts", _is_list_of(_is_text)),
    "thumbnail": ("bytes", _is_binary),
    **dict.fromkeys(ENCODERS, _VECTOR),
}
