"""The tables for SQLAlchemy; the migrations create them."""

from datetime import timedelta
from typing import Any, cast

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.sql.functions import Function
from sqlalchemy.types import TypeEngine

from app.faces.face import VECTOR_DIMENSIONS

_metadata = MetaData()


def seconds(number: float) -> Function[timedelta]:
    """Return an interval for SQLAlchemy."""
    return func.make_interval(0, 0, 0, 0, 0, 0, number)


def array_of(name: str, kind: type[TypeEngine[Any]]) -> BindParameter[Any]:
    """Return a parameter for any number of values.

    A statement with it is made once; of a list, SQLAlchemy makes another one for each length.
    """
    return bindparam(name, type_=cast(TypeEngine[Any], ARRAY(kind)))


def any_of(name: str, kind: type[TypeEngine[Any]]) -> Any:
    """Return what a column is compared with to be any of a parameter's values."""
    return any_(array_of(name, kind))


IMAGES = Table(
    "images",
    _metadata,
    Column("id", Uuid(), primary_key=True),
    Column("url", Text),
    Column("sha256", Text),
    Column("dhash", BigInteger),
    Column("bytes", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    Column("format", Text),
    Column("exif", JSONB),
    Column("title", Text),
    Column("description", Text),
    Column("tags", ARRAY(Text)),
    Column("thumbnail", LargeBinary),
    Column("thumbnail_key", Text),
    Column("indexed_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("checked_at", DateTime(timezone=True)),
    Column("gone_at", DateTime(timezone=True)),
    Column("colours", JSONB),
    Column("metadata", JSONB),
    Column("words", TSVECTOR),
    Column("needs_credentials", Boolean),
    Column("renamed", Boolean),
    Column("truncated", Boolean),
    Column("too_plain", Boolean),
    Column("decoder", Integer),
    Column("face_count", SmallInteger),
    Column("faces_made", Text),
    Column("phash", BigInteger),
    Column("phash_keys", ARRAY(Integer)),
)

FACES = Table(
    "faces",
    _metadata,
    Column("image_id", Uuid(), primary_key=True),
    Column("order", SmallInteger, primary_key=True),
    Column("x", Float[float]()),
    Column("y", Float[float]()),
    Column("width", Float[float]()),
    Column("height", Float[float]()),
    Column("confidence", Float[float]()),
    Column("landmarks", ARRAY(Float[float]())),
    Column("age", Float[float]()),
    Column("age_low", SmallInteger),
    Column("age_high", SmallInteger),
    Column("gender", Text),
    Column("gender_confidence", Float[float]()),
    Column("vector", HALFVEC(VECTOR_DIMENSIONS)),
    Column("person_id", Uuid()),
    Column("placed", Boolean),
    Column("removed", Boolean),
)

PEOPLE = Table(
    "people",
    _metadata,
    Column("id", Uuid(), primary_key=True, server_default=func.gen_random_uuid()),
    Column("name", Text),
    Column("made_at", DateTime(timezone=True)),
)

KEYPOINTS = Table(
    "keypoints",
    _metadata,
    Column("image_id", Uuid(), primary_key=True),
    Column("version", SmallInteger),
    Column("bytes", LargeBinary),
)

TRASH = Table(
    "trash",
    _metadata,
    Column("image_id", Uuid(), primary_key=True),
    Column("trashed_at", DateTime(timezone=True)),
    Column("url", Text),
    Column("image", JSONB),
    Column("thumbnail", LargeBinary),
    Column("keypoints_version", SmallInteger),
    Column("keypoints", LargeBinary),
    Column("vectors", JSONB),
)

LOOSE_THUMBNAILS = Table(
    "loose_thumbnails",
    _metadata,
    Column("key", Text, primary_key=True),
    Column("due_at", DateTime(timezone=True)),
)

QUERIES = Table(
    "queries",
    _metadata,
    Column("id", Uuid(), primary_key=True),
    Column("picture", LargeBinary),
    Column("media_type", Text),
    Column("sha256", Text),
    Column("made_at", DateTime(timezone=True)),
)

IMPORTED_PARTS = Table(
    "imported_parts",
    _metadata,
    Column("place", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("images", BigInteger),
    Column("vectors", BigInteger),
    Column("imported_at", DateTime(timezone=True)),
)

ENCODERS = Table(
    "encoders",
    _metadata,
    Column("name", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("source", Text),
    Column("dimensions", Integer),
    Column("vector_table", Text),
    Column("used_at", DateTime(timezone=True)),
)

JOBS = Table(
    "jobs",
    _metadata,
    Column("id", BigInteger, primary_key=True),
    Column("title", Text),
    Column("created_at", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("tokens", BigInteger),
    Column("ended_at", DateTime(timezone=True)),
    Column("change", JSONB),
)

WORKERS = Table(
    "workers",
    _metadata,
    Column("id", Uuid(), primary_key=True),
    Column("captions", Boolean),
    Column("alive_until", DateTime(timezone=True)),
)

ITEMS = Table(
    "job_items",
    _metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("source", Text),
    Column("url", Text),
    Column("title", Text),
    Column("description", Text),
    Column("tags", ARRAY(Text)),
    Column("state", Text),
    Column("reason", Text),
    Column("metadata", JSONB),
    Column("credentials", Text),
    Column("image_id", Uuid()),
    Column("tries", Integer),
    Column("not_before", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
)

COUNTS = Table(
    "job_counts",
    _metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("number", BigInteger),
)

API_KEYS = Table(
    "api_keys",
    _metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", Text),
    Column("sha256", LargeBinary),
    Column("scopes", ARRAY(Text)),
    Column("created_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("used_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
)

COLLECTIONS = Table(
    "milvus_collections",
    _metadata,
    Column("name", Text, primary_key=True),
    Column("vector_table", Text),
    Column("state", Text),
    Column("flushed_at", DateTime(timezone=True)),
)

OUTBOX = Table(
    "vector_outbox",
    _metadata,
    Column("vector_table", Text, primary_key=True),
    Column("row_id", BigInteger, primary_key=True),
    Column("version", BigInteger),
    Column("applied_at", DateTime(timezone=True)),
)
