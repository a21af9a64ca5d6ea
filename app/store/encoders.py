"""The table of encoders that have been in use with this database."""

from sqlalchemy import (
    Connection,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import insert

from app.store.tables import ENCODERS


def indexed_encoders(connection: Connection) -> list[str]:
    """Return the sources of the encoders that have vectors, the last used first."""
    query = select(ENCODERS.c.source, ENCODERS.c.vector_table).order_by(ENCODERS.c.used_at.desc())
    rows = connection.execute(query).all()
    existing = set(inspect(connection).get_table_names())
    return [
        row.source
        for row in rows
        if row.vector_table in existing
        and connection.scalar(select(1).select_from(table(row.vector_table)).limit(1))
    ]


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
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[ENCODERS.c.name, ENCODERS.c.fingerprint],
            # Not now(), the start of the transaction: set-ups wait for each other after that.
            set_={"source": source, "used_at": func.clock_timestamp()},
        )
    )
