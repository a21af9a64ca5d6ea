"""Vectors end with their images: each vector table has a trigger on the images table.

A foreign key cannot do this: LlamaIndex's `node_id` is a text, and may be of a node that is no
image. Writers of vectors hold the rows of the images in the same transaction, so that no vector is
written for an image that is gone.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

_SUFFIX = "_cascade"


def set_up(connection: Connection, table: str) -> None:
    """Let the rows of a vector table be deleted with the images that they belong to."""
    existing = text(
        "SELECT 1 FROM pg_trigger WHERE tgname = :name AND tgrelid = 'images'::regclass"
    )
    if connection.scalar(existing, {"name": _name(table)}) is not None:
        return
    quote = connection.dialect.identifier_preparer.quote
    # migration 0007 has the function.
    connection.execute(
        text(
            f"CREATE TRIGGER {quote(_name(table))} AFTER DELETE ON images "
            "REFERENCING OLD TABLE AS gone "
            f"FOR EACH STATEMENT EXECUTE FUNCTION delete_vectors({quote(table)})"
        )
    )


def tables(connection: Connection) -> Sequence[str]:
    """Return the vector tables that there are, of whatever encoder, by name."""
    query = text("""
        SELECT left(tgname, -length(:suffix)) FROM pg_trigger
        WHERE tgrelid = 'images'::regclass AND right(tgname, length(:suffix)) = :suffix
        AND to_regclass(format('public.%I', left(tgname, -length(:suffix)))) IS NOT NULL
        ORDER BY tgname
    """)
    return connection.scalars(query, {"suffix": _SUFFIX}).all()


def remove(connection: Connection, table: str) -> None:
    """Remove the trigger of a table that is to be dropped."""
    quoted = connection.dialect.identifier_preparer.quote(_name(table))
    connection.execute(text(f"DROP TRIGGER IF EXISTS {quoted} ON images"))


def _name(table: str) -> str:
    return table + _SUFFIX
