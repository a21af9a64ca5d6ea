"""What Milvus is to be told of vector tables: collections, and the outbox of their changes.

A trigger notes each changed row of a vector table in the transaction that changes it, so that no
writer can forget it. A noted row stays until Milvus has it for sure, with an index; until then
searches compare it themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Select,
    Table,
    cast,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.tables import COLLECTIONS, OUTBOX

Untyped: TypeAlias = Any
State = Literal["filling", "active", "retiring", "dropped"]

# More are not compared in a search: these take some 50 ms. Those noted last are.
MOST_COMPARED = 50_000
# With the name of a table, the key of its advisory lock; arbitrary, but the same in every version.
LOCK = 0x0B0C5

_EVENTS = {
    "insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows",
    "truncate": "BEFORE TRUNCATE ON {table}",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many changed rows Milvus has not been told of, and how many it has but may not find."""

    unapplied: int
    applied: int


def note_changes(connection: Connection, table: Table) -> None:
    """Let changes of a table be noted from now on, once the transaction ends."""
    quoted = _quoted(connection, table)
    for event, when in _EVENTS.items():
        connection.execute(
            text(
                f"CREATE OR REPLACE TRIGGER note_{event} {when.format(table=quoted)} "
                "FOR EACH STATEMENT EXECUTE FUNCTION note_vectors()"
            )
        )


def forget_changes(connection: Connection, table: Table) -> None:
    """Let changes of a table be noted no more, and forget those that were."""
    for event in _EVENTS:
        name = f"note_{event}"
        connection.execute(text(f"DROP TRIGGER IF EXISTS {name} ON {_quoted(connection, table)}"))
    connection.execute(delete(OUTBOX).where(OUTBOX.c.vector_table == table.name))


def add_collection(connection: Connection, table: Table, name: str, state: State) -> None:
    """Record a collection of a table."""
    row = {"name": name, "vector_table": table.name, "state": state}
    connection.execute(insert(COLLECTIONS).values(row))


def set_state(connection: Connection, name: str, state: State) -> None:
    """Record the state of a collection."""
    mine = COLLECTIONS.c.name == name
    connection.execute(update(COLLECTIONS).where(mine).values(state=state))


def forget_collection(connection: Connection, name: str) -> None:
    """Forget a collection, which is gone."""
    connection.execute(delete(COLLECTIONS).where(COLLECTIONS.c.name == name))


def drop_all(connection: Connection, table: str) -> None:
    """Let the collections of a table that is dropped be dropped by whoever speaks to Milvus."""
    mine = COLLECTIONS.c.vector_table == table
    connection.execute(update(COLLECTIONS).where(mine).values(state="dropped"))
    connection.execute(delete(OUTBOX).where(OUTBOX.c.vector_table == table))


def states(connection: Connection, table: str | None = None) -> Mapping[str, tuple[str, State]]:
    """Return the vector table and the state of collections, of one table or of all, by name."""
    c = COLLECTIONS.c
    query = select(c.name, c.vector_table, c.state).order_by(c.name)
    if table is not None:
        query = query.where(c.vector_table == table)
    return {row.name: (row.vector_table, row.state) for row in connection.execute(query)}


def in_state(connection: Connection, table: Table, *wanted: State) -> list[str]:
    """Return the names of a table's collections in these states."""
    found = states(connection, table.name)
    return [name for name, (_, state) in found.items() if state in wanted]


def active_query(table: Table) -> Select[Any]:
    """Return a query for the name of the collection by which a table is searched."""
    c = COLLECTIONS.c
    return select(c.name).where(c.vector_table == table.name, c.state == "active")


def noted(table: Table) -> Select[Any]:
    """Return a query for (id) of the rows that Milvus may not find as they are, the last first."""
    mine = OUTBOX.c.vector_table == table.name
    some = select(OUTBOX.c.row_id.label("id")).where(mine)
    return some.order_by(OUTBOX.c.version.desc()).limit(MOST_COMPARED)


async def waiting(connection: AsyncConnection) -> Waiting:
    """Return how much is in the outbox."""
    applied = func.count(OUTBOX.c.applied_at)
    row = (await connection.execute(select(func.count() - applied, applied))).one()
    return Waiting(*row)


async def lock(connection: AsyncConnection, table: Table, *, waits: bool = False) -> bool:
    """Keep others from telling Milvus of this table until the transaction ends.

    So no older version of a row follows a newer one. Unless it `waits`, returns False if another
    has the lock.
    """
    key = select(func.hashtext(table.name)).scalar_subquery()
    if waits:
        await connection.execute(select(func.pg_advisory_xact_lock(LOCK, key)))
        return True
    return bool(await connection.scalar(select(func.pg_try_advisory_xact_lock(LOCK, key))))


async def unapplied(connection: AsyncConnection, table: Table, limit: int) -> Sequence[Untyped]:
    """Return the changes to tell next: (row_id, version) and the row, `id` None if it is gone."""
    c = table.c
    query = (
        select(OUTBOX.c.row_id, OUTBOX.c.version, *stored(table))
        .join_from(OUTBOX, table, OUTBOX.c.row_id == c.id, isouter=True)
        .where(OUTBOX.c.vector_table == table.name, OUTBOX.c.applied_at.is_(None))
        .order_by(OUTBOX.c.version)
        .limit(limit)
    )
    return (await connection.execute(query)).all()


def stored(table: Table) -> list[Untyped]:
    """Return the columns of a `StoredRow`."""
    c = table.c
    facets = (c.labels, c.width, c.height, c.taken_at, c.latitude, c.longitude)
    return [c.id, *facets, c.embedding]


async def mark_applied(
    connection: AsyncConnection, table: Table, changes: Sequence[tuple[int, int]]
) -> None:
    """Mark changes, (row_id, version), as told, unless the rows have changed since."""
    ids, versions = [c[0] for c in changes], [c[1] for c in changes]
    pairs = func.unnest(cast(ids, ARRAY(BigInteger)), cast(versions, ARRAY(BigInteger)))
    told = pairs.table_valued("row_id", "version", name="told").render_derived()
    # Not those that a writer has locked: they are about to have another version.
    mine = (
        select(OUTBOX.c.row_id)
        .join_from(OUTBOX, told, OUTBOX.c.row_id == told.c.row_id)
        .where(OUTBOX.c.vector_table == table.name, OUTBOX.c.version == told.c.version)
        .with_for_update(of=OUTBOX, skip_locked=True)
    )
    await connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.vector_table == table.name, OUTBOX.c.row_id.in_(mine))
        .values(applied_at=func.clock_timestamp())
    )


async def remove_applied(connection: AsyncConnection, table: Table, before: datetime) -> int:
    """Remove what was told up to a time; return how many rows those were."""
    mine = (
        select(OUTBOX.c.row_id)
        .where(OUTBOX.c.vector_table == table.name, OUTBOX.c.applied_at <= before)
        .with_for_update(skip_locked=True)
    )
    query = delete(OUTBOX).where(OUTBOX.c.vector_table == table.name, OUTBOX.c.row_id.in_(mine))
    return (await connection.execute(query)).rowcount


def _quoted(connection: Connection, table: Table) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(table.schema or 'public')}.{quote(table.name)}"
