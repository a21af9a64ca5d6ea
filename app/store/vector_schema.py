"""The schema of vector tables: that of LlamaIndex's PGVectorStore, and what searches need."""

from collections.abc import Callable

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import BigInteger, Column, Connection, Index, MetaData, String, Table, text
from sqlalchemy.dialects.postgresql import JSONB

from app.store import cascade
from app.store.hnsw import drop_named, existing
from app.store.nearest import FACETS, facet_columns, facet_indexes
from app.store.scans import SCANS, Kind, kinds_of


def vector_table(name: str, dimensions: int) -> Table:
    """Return PGVectorStore's table for `use_jsonb` and `use_halfvec`, with columns for filters."""
    table = Table(
        name,
        MetaData(),
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        Column("text", String, nullable=False),
        Column("metadata_", JSONB),
        Column("node_id", String),
        Column("embedding", HALFVEC(dimensions)),
        *facet_columns(),
        schema="public",
    )
    Index(f"{name.removeprefix('data_')}_idx_1", table.c.metadata_["ref_doc_id"].astext)
    return table


def set_up_table(connection: Connection, table: Table) -> None:
    """Create a table, or whatever columns, indexes and trigger it lacks."""
    columns, indexes = _existing(connection, table)
    if not columns:
        table.create(connection)
    quoted = connection.dialect.identifier_preparer.quote(table.name)
    for facet, kind in FACETS.items():
        # Tables of older versions, and those that LlamaIndex creates, lack these columns.
        if columns and facet not in columns:
            connection.execute(text(f"ALTER TABLE {quoted} ADD COLUMN {facet} {kind}"))
    copy = table.to_metadata(MetaData())
    unique = Index(f"{table.name}_node_id", copy.c.node_id, unique=True)
    for index in (unique, *facet_indexes(copy)):
        if index.name not in indexes:
            index.create(connection)
    cascade.set_up(connection, table.name)


def set_up_index(
    connection: Connection,
    table: Table,
    choose: Callable[[Connection], Kind],
    *,
    m: int,
    ef_construction: int,
) -> Kind:
    """Create a table's vector index if there is none, and drop those of other parameters.

    One that there is stays of its kind; only if there is none, `choose` is called for one. Returns
    the kind. If there are two, one is about to take the place of the other.
    """
    there = existing(connection, table)
    usable = kinds_of([index.kind for index in there if index.valid])
    kind = usable[-1] if usable else choose(connection)
    indexes = {
        kind: scan.index(table, m=m, ef_construction=ef_construction)
        for kind, scan in SCANS.items()
    }
    for index in there:
        if not usable or index.name not in {right.name for right in indexes.values()}:
            drop_named(connection, index.name)
    indexes[kind].create(connection, checkfirst=True)
    return kind


def _existing(connection: Connection, table: Table) -> tuple[set[str], set[str]]:
    """Return the names of a table's columns and of its indexes, empty if there is no table."""
    columns = text(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
    )
    indexes = text(
        "SELECT indexname FROM pg_indexes WHERE tablename = :name AND schemaname = :schema"
    )
    return (
        set(connection.scalars(columns, {"name": f"{table.schema}.{table.name}"})),
        set(connection.scalars(indexes, {"name": table.name, "schema": table.schema})),
    )
