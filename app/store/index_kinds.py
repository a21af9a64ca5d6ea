"""Which kind of index a vector table gets, and how another one takes its place."""

from collections.abc import AsyncGenerator, Callable
from typing import Literal, TypeAlias

from sqlalchemy import Connection, select, text

from app.problems import MilvusUnavailable, WrongSetting
from app.store.hnsw import (
    build,
    drop,
    drop_beside,
    drop_named,
    existing,
    qualified,
)
from app.store.index_choice import Choice, Wanted
from app.store.milvus import outbox
from app.store.milvus.filling import fill, leave, start
from app.store.replica import KNOWN_FOR_S, MOST_LAG_S
from app.store.row_counts import KNOWN_S
from app.store.scans import Kind
from app.store.vector_schema import set_up_table
from app.store.vectors import VectorTable

IndexKind: TypeAlias = Kind | Literal["milvus"]

# By then, every process has read anew which index there is, also one that reads a replica.
GRACE_S = 2 * KNOWN_S + MOST_LAG_S + KNOWN_FOR_S


def set_up_vectors(
    connection: Connection,
    vectors: VectorTable,
    wanted: Wanted,
    announce: Callable[[str], None],
    *,
    name: str,
) -> None:
    """Set up a table of an encoder's vectors, with an index as chosen if there is none.

    Of an index that there is, which stays, says if another kind is wanted or would be better.
    """
    vectors.choice = choice = Choice.of(connection, vectors.database, wanted)
    if wanted == "milvus" and _starts_in_milvus(connection, vectors):
        return
    made: list[Kind] = []

    def choose(connection: Connection) -> Kind:
        # A new encoder's vectors will be as many as the images.
        kind = choice.kind(_rows(connection, "images"), vectors.dimensions)
        made.append(kind)
        return kind

    vectors.set_up(connection, choose)
    if made and wanted == "auto" and made != ["halfvec"]:
        announce(f"The index of {name}'s vectors is of the kind {vectors.kind}: {choice.reason}")
    elif not made:
        _advise(connection, vectors, choice, announce, name=name)


def _starts_in_milvus(connection: Connection, vectors: VectorTable) -> bool:
    """Let a table without rows have its index in Milvus; return whether that was done."""
    milvus, table = vectors.outside.milvus, vectors.table
    set_up_table(connection, table)
    known = outbox.in_state(connection, table, "active", "filling", "retiring")
    is_empty = connection.scalar(select(table.c.id).limit(1)) is None
    if milvus is None or known or not is_empty:
        return False
    try:
        if not start(connection, milvus, table, vectors.dimensions):
            return False
    except MilvusUnavailable as exc:
        raise WrongSetting(f"MILVUS_URL: Milvus does not answer: {milvus.failure}") from exc
    for index in existing(connection, table):
        drop_named(connection, index.name)
    return True


def _advise(
    connection: Connection,
    vectors: VectorTable,
    choice: Choice,
    announce: Callable[[str], None],
    *,
    name: str,
) -> None:
    kind = kind_of(vectors)
    if kind == "milvus" and vectors.outside.milvus is None:
        announce(f"The index of {name}'s vectors is in Milvus: set MILVUS_URL")
    if choice.wanted not in ("auto", kind):
        announce(
            f"The index of {name}'s vectors is still of the kind {kind}: "
            "`lookalike vectors rebuild` makes one as VECTOR_INDEX wants it"
        )
    rows = _rows(connection, qualified(vectors.table))
    too_large = choice.kind(rows, vectors.dimensions) == "bit"
    if choice.wanted == "auto" and kind == "halfvec" and too_large:
        announce(
            f"The index of {name}'s vectors has outgrown the memory: "
            f"`lookalike vectors rebuild` makes one of the kind bit ({choice.reason})"
        )


def _rows(connection: Connection, table: str) -> int:
    """Return the number of rows of a table at the last VACUUM or ANALYZE."""
    return int(connection.scalar(_ROWS, {"table": table}) or 0)


async def begin_bulk(vectors: VectorTable) -> None:
    """Drop the index of a table into which many rows are about to be written."""
    await drop(vectors.database, vectors.index)


async def end_bulk(vectors: VectorTable) -> AsyncGenerator[float]:
    """Build the index that a table lacks, of the kind that fits it; yields the share done."""
    if vectors.outside.is_used:
        return
    rows = await vectors.count()
    async with vectors.database.begin() as connection:
        found = await connection.run_sync(existing, vectors.table)
    if vectors.choice and not any(index.valid for index in found):
        if vectors.choice.wanted == "milvus":
            async for share in rebuild_index(vectors, "milvus"):
                yield share
            return
        vectors.kind = vectors.choice.kind(rows, vectors.dimensions)
    async for share in build(vectors.database, vectors.index, rows=rows):
        yield share


def kind_of(vectors: VectorTable) -> IndexKind:
    """Return the kind of index that a table has."""
    return "milvus" if vectors.outside.is_used else vectors.kind


async def kind_for(vectors: VectorTable) -> IndexKind:
    """Return the kind of index that a table should have now; `auto` leaves one in Milvus there."""
    choice = vectors.choice
    if choice is None or (choice.wanted == "auto" and vectors.outside.is_used):
        return kind_of(vectors)
    if choice.wanted == "milvus":
        return "milvus"
    return choice.kind(await vectors.count(), vectors.dimensions)


async def index_bytes(vectors: VectorTable) -> int:
    """Return the size of a table's vector index of its kind, 0 if that is in Milvus."""
    async with vectors.database.reading() as connection:
        return await connection.scalar(_BYTES, {"name": f'public."{vectors.index.name}"'}) or 0


async def rebuild_index(vectors: VectorTable, kind: IndexKind) -> AsyncGenerator[float]:
    """Make an index of this kind beside the one that there is, and then drop that.

    Searches and writes go on. Others learn within `GRACE_S` seconds which index there is, and until
    then search by the one before. Yields the share done. Raises `WriteConflict` if this is being
    done already, `WrongSetting` if it is to be in Milvus and there is none, and
    `MilvusUnavailable`.
    """
    outside, database = vectors.outside, vectors.database
    if kind == "milvus":
        if outside.milvus is None:
            raise WrongSetting("VECTOR_INDEX=milvus needs MILVUS_URL, such as http://host:19530")
        filling = fill(database, outside.milvus, vectors.table, vectors.dimensions, grace_s=GRACE_S)
        async for share in filling:
            yield share
        return
    vectors.kind = kind
    rows = await vectors.count()
    async for share in build(vectors.database, vectors.index, rows=rows, beside=True):
        yield share
    await leave(database, outside.milvus, vectors.table, grace_s=GRACE_S)
    await drop_beside(database, vectors.index, after_s=GRACE_S)


_ROWS = text("SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = to_regclass(:table)")
_BYTES = text("SELECT pg_relation_size(to_regclass(:name))")
