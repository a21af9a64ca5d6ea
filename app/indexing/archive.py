"""Export and import of the index, with its vectors, as a Parquet file."""

# pyarrow has no types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np

from app.encoding.encoder import Vector
from app.pictures.decoding import Facts
from app.problems import InvalidRequest, MissingPackage
from app.store.catalog import Catalog
from app.store.database import Database
from app.store.hnsw import is_worth_building
from app.store.images import DROPPED, Entry, ImageRow, NewImage, Validators
from app.store.index_kinds import begin_bulk, end_bulk
from app.store.spaces import Space, Spaces
from app.store.trash import TrashTable
from app.store.urls import split_credentials
from app.store.vectors import NewVector

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as exc:
    raise MissingPackage(
        "Export and import need pyarrow, which is not installed: pip install 'lookalike[parquet]'"
    ) from exc

ROWS_AT_ONCE = 1000
# The columns of vectors, and the keys of the metadata that name the encoder of each. An export has
# the first of an index with one vector per image.
ENCODERS = {"vector": b"lookalike.encoder", "copy_vector": b"lookalike.copy_encoder"}

_TEXTS = ("url", "sha256", "format", "title", "description")
# An id is that of the URL, but of those that had a user and password in it.
_ID, _NEEDS_CREDENTIALS = "id", "needs_credentials"
_NUMBERS = ("dhash", "bytes", "width", "height")


@dataclass(frozen=True, slots=True)
class Imported:
    """The number of images imported so far, and how many came with every vector of this index."""

    images: int
    vectors: int


class Archive:
    """Exports the index, without the trash, to a file and imports such files."""

    def __init__(self, database: Database, catalog: Catalog, spaces: Spaces) -> None:
        self._database = database
        self._catalog = catalog
        self._trash = TrashTable(database)
        self._spaces = spaces
        # The vectors of an index by what serves for both are those of the semantic encoder.
        columns = {"vector": spaces.semantic, "copy_vector": spaces.copy}
        self._columns = dict(list(columns.items())[: len(spaces.all)])

    async def write(self, path: Path) -> AsyncGenerator[int]:
        """Export every image with its thumbnail and vectors; yields the number written so far.

        The file is written beside `path` and renamed when it is complete.
        """
        schema = _schema(self._columns)
        scratch = path.with_name(f"{path.name}.part")
        written, after = 0, None
        with pq.ParquetWriter(scratch, schema, compression="zstd") as file:
            while rows := await self._catalog.thumbnails(after=after, limit=ROWS_AT_ONCE):
                ids = [image.id for image, _ in rows]
                vectors = {
                    name: await space.vectors.fetch(ids) for name, space in self._columns.items()
                }
                table = await asyncio.to_thread(_table, rows, vectors, schema)
                await asyncio.to_thread(file.write_table, table)
                written, after = written + len(rows), rows[-1][0].id
                yield written
        scratch.replace(path)

    async def read(self, path: Path) -> AsyncGenerator[Imported]:
        """Upsert every image of a file; yields the progress.

        Vectors of other encoders are skipped; `Reindexer` makes new ones from the thumbnails. A
        large import drops the vector indexes: call `build_index` afterwards. Raises
        `InvalidRequest` if the file is not an export.
        """
        images = vectors = 0
        with _opened(path) as file:
            given = _spaces_of(file, self._spaces)
            for space in given.values():
                if is_worth_building(
                    existing=await space.vectors.count(), coming=file.metadata.num_rows
                ):
                    await begin_bulk(space.vectors)
            for batch in file.iter_batches(ROWS_AT_ONCE):
                rows = await asyncio.to_thread(batch.to_pylist)
                vectors += await self._upsert(rows, given)
                images += len(rows)
                yield Imported(images, vectors)

    async def build_index(self) -> AsyncGenerator[float]:
        """Build the vector indexes that are missing; yields the share done, 0 to 1."""
        spaces = self._spaces.all
        for place, space in enumerate(spaces):
            async for share in end_bulk(space.vectors):
                yield (place + share) / len(spaces)

    async def _upsert(self, rows: Sequence[dict[str, Any]], given: Mapping[str, Space]) -> int:
        """Write images, with their vectors of the given columns; return how many have all."""
        new = [_new_image(row) for row in rows]
        vectors = {
            space: [
                NewVector(image.entry, image.picture, image.picture.sha256, np.array(row[name]))
                for image, row in zip(new, rows, strict=True)
                if row[name] is not None
            ]
            for name, space in given.items()
        }
        async with self._database.begin() as connection:
            # With what the file does not have: the vectors of other encoders.
            await self._trash.restore(connection, ids=[image.entry.id for image in new])
            await self._catalog.upsert(connection, new)
            for space, some in vectors.items():
                if some:
                    await space.vectors.upsert(connection, some)
        if len(given) < len(self._spaces.all):
            return 0
        return sum(all(row[name] is not None for name in given) for row in rows)


def count_images(path: Path) -> int:
    """Return the number of images in an export; raises `InvalidRequest`."""
    with _opened(path) as file:
        return file.metadata.num_rows


def _opened(path: Path) -> Any:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as exc:
        raise InvalidRequest(f"{path} is not a Parquet file, or is damaged: {exc}") from exc
    missing = {"url", "sha256", "thumbnail", "vector"} - set(file.schema_arrow.names)
    if missing:
        raise InvalidRequest(
            f"{path} is not an export of Lookalike: it has no column {min(missing)}."
        )
    return file


def _schema(columns: Mapping[str, Space]) -> Any:
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


def _spaces_of(file: Any, spaces: Spaces) -> dict[str, Space]:
    """Return the space of each column of vectors that this index can use."""
    said = file.schema_arrow.metadata or {}
    by_encoder = {space.encoder.model.fingerprint: space for space in spaces.all}
    return {
        name: by_encoder[encoder]
        for name, key in ENCODERS.items()
        if name in file.schema_arrow.names
        and (encoder := said.get(key, b"").decode()) in by_encoder
    }


def _table(
    rows: Sequence[tuple[ImageRow, bytes]],
    vectors: Mapping[str, Mapping[UUID, Vector]],
    schema: Any,
) -> Any:
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


def _new_image(row: dict[str, Any]) -> NewImage:
    facts = Facts(
        width=row["width"],
        height=row["height"],
        format=row["format"],
        sha256=row["sha256"],
        file_bytes=row["bytes"],
        dhash=row["dhash"],
        exif=json.loads(row["exif"]),
        # Exports of version 0.1 have neither colours nor metadata.
        colours=json.loads(row.get("colours") or "[]"),
        thumbnail=row["thumbnail"],
        # An export of an older decoder's images has none of these.
        truncated=row.get("truncated") or False,
        too_plain=row.get("too_plain") or False,
        decoder=row.get("decoder") or 0,
    )
    metadata = json.loads(row.get("metadata") or "{}")
    url, credentials = split_credentials(row["url"])
    needed = credentials or row.get(_NEEDS_CREDENTIALS)
    entry = Entry(
        url,
        row["title"],
        row["description"],
        row["tags"],
        metadata,
        DROPPED if needed else None,
        UUID(row[_ID]) if row.get(_ID) else uuid5(NAMESPACE_URL, row["url"]),
    )
    return NewImage(entry, facts, Validators(row["etag"], row["last_modified"]))
