"""The table of encoders that have been in use with this database, and their vector tables."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, table, text
from sqlalchemy.dialects.postgresql import insert

from app.store.cascade import remove, tables
from app.store.milvus import outbox
from app.store.tables import ENCODERS


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """A vector table, and the encoder that its vectors are of.

    An encoder whose first `reindex` did not finish is not known: its name and source are empty.
    """

    table: str
    name: str = ""
    source: str = ""


def indexed_encoders(connection: Connection) -> list[str]:
    """Return the sources of the encoders that have vectors, the last used first.

    A newer version of an encoder has the same source. Until `reindex`, only the older one's vectors
    are there, and it is still the encoder of the index.
    """
    stored = [stored for stored in stored_vectors(connection) if stored.source]
    filled = {vectors.source for vectors in stored if _has_rows(connection, vectors.table)}
    sources = dict.fromkeys(vectors.source for vectors in stored)
    return [source for source in sources if source in filled]


def stored_vectors(connection: Connection) -> list[StoredVectors]:
    """Return the vector tables, that of the encoder last used first, those of unknown ones last."""
    left = set(tables(connection))
    found: list[StoredVectors] = []
    for row in connection.execute(select(ENCODERS).order_by(ENCODERS.c.used_at.desc())):
        if row.vector_table in left:
            left.remove(row.vector_table)
            found.append(StoredVectors(row.vector_table, row.name, row.source))
    return found + [StoredVectors(name) for name in sorted(left)]


def _has_rows(connection: Connection, name: str) -> bool:
    return connection.scalar(select(1).select_from(table(name)).limit(1)) is not None


def record_encoder(
    connection: Connection,
    *,
    source: str,
    name: str,
    fingerprint: str,
    dimensions: int,
    vector_table: str,
) -> None:
    """Record an encoder as the one last used."""
    statement = insert(ENCODERS).values(
        name=name,
        fingerprint=fingerprint,
        source=source,
        dimensions=dimensions,
        vector_table=vector_table,
        # Not now(), the start of the transaction: another one may be recorded in it.
        used_at=func.clock_timestamp(),
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[ENCODERS.c.name, ENCODERS.c.fingerprint],
            set_={"source": source, "used_at": func.clock_timestamp()},
        )
    )


def drop_vectors(connection: Connection, table: str) -> None:
    """Drop a vector table, and forget its encoder."""
    remove(connection, table)
    outbox.drop_all(connection, table)
    quoted = connection.dialect.identifier_preparer.quote(table)
    connection.execute(text(f"DROP TABLE IF EXISTS public.{quoted}"))
    connection.execute(delete(ENCODERS).where(ENCODERS.c.vector_table == table))
