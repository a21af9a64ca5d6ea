"""Which kind of index a vector table gets, and how another one takes its place."""

from collections.abc import AsyncGenerator, Callable

from sqlalchemy import Connection, text

from app.store.hnsw import build, drop, drop_beside, existing, qualified
from app.store.index_choice import Choice, Wanted
from app.store.row_counts import KNOWN_S
from app.store.scans import Kind
from app.store.vectors import VectorTable

# By then, every process has read anew which index there is.
GRACE_S = 2 * KNOWN_S


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


def _advise(
    connection: Connection,
    vectors: VectorTable,
    choice: Choice,
    announce: Callable[[str], None],
    *,
    name: str,
) -> None:
    if choice.wanted != "auto" and vectors.kind != choice.wanted:
        announce(
            f"The index of {name}'s vectors is still of the kind {vectors.kind}: "
            "`lookalike vectors rebuild` makes one as VECTOR_INDEX wants it"
        )
    rows = _rows(connection, qualified(vectors.table))
    too_large = choice.kind(rows, vectors.dimensions) == "bit"
    if choice.wanted == "auto" and vectors.kind == "halfvec" and too_large:
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
    rows = await vectors.count()
    async with vectors.database.begin() as connection:
        found = await connection.run_sync(existing, vectors.table)
    if vectors.choice and not any(index.valid for index in found):
        vectors.kind = vectors.choice.kind(rows, vectors.dimensions)
    async for share in build(vectors.database, vectors.index, rows=rows):
        yield share


async def kind_for(vectors: VectorTable) -> Kind:
    """Return the kind of index that a table should have now."""
    if vectors.choice is None:
        return vectors.kind
    return vectors.choice.kind(await vectors.count(), vectors.dimensions)


async def index_bytes(vectors: VectorTable) -> int:
    """Return the size of a table's vector index of its kind."""
    async with vectors.database.reading() as connection:
        return await connection.scalar(_BYTES, {"name": f'public."{vectors.index.name}"'}) or 0


async def rebuild_index(vectors: VectorTable, kind: Kind) -> AsyncGenerator[float]:
    """Make an index of this kind beside the one that there is, and then drop that.

    Searches and writes go on. Others learn within `GRACE_S` seconds which index there is, and until
    then search by the one before. Yields the share done. Raises `WriteConflict` if this is being
    done already.
    """
    vectors.kind = kind
    rows = await vectors.count()
    async for share in build(vectors.database, vectors.index, rows=rows, beside=True):
        yield share
    await drop_beside(vectors.database, vectors.index, after_s=GRACE_S)


_ROWS = text("SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = to_regclass(:table)")
_BYTES = text("SELECT pg_relation_size(to_regclass(:name))")
