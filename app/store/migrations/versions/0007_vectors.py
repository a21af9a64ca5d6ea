"""Vectors end with their images, in the table of every encoder."""

from alembic import op
from sqlalchemy import text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # To a table that was dropped by hand, nothing is done.
    op.execute("""
        CREATE FUNCTION delete_vectors() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF to_regclass(format('public.%I', TG_ARGV[0])) IS NOT NULL THEN
                EXECUTE format(
                    'DELETE FROM public.%I WHERE node_id IN (SELECT id::text FROM gone)', TG_ARGV[0]
                );
            END IF;
            RETURN NULL;
        END $$
    """)
    connection = op.get_bind()
    for name in connection.scalars(_VECTOR_TABLES).all():
        # The trigger first: it waits until nobody deletes images, and keeps them from it.
        op.execute(f"""
            CREATE TRIGGER "{name}_cascade" AFTER DELETE ON images
            REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION delete_vectors('{name}')
        """)
        # What others stored there through LlamaIndex, which was never an image, stays.
        op.execute(f"""
            DELETE FROM public."{name}"
            WHERE metadata_ ->> 'sha256' IS NOT NULL AND metadata_ ->> 'url' IS NOT NULL
            AND NOT EXISTS (SELECT FROM images WHERE id::text = node_id)
        """)  # noqa: S608 - the name of a table of ours


# Those of the encoders, and those whose first `reindex` was stopped; the names have no quotes.
_VECTOR_TABLES = text("""
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname ~ '^[a-z0-9_]+$' AND (
        relname IN (SELECT vector_table FROM encoders)
        OR starts_with(relname, 'data_') AND (
            SELECT count(*) = 4 FROM pg_attribute
            WHERE attrelid = pg_class.oid AND NOT attisdropped
            AND attname IN ('node_id', 'embedding', 'labels', 'taken_at')
        )
    )
    ORDER BY relname
""")
