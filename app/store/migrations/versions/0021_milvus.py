"""Which vector tables are in Milvus, and which of their rows it has not yet."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    # `flushed_at`: what was applied before is in segments that Milvus indexes.
    op.execute("""
        CREATE TABLE milvus_collections (
            name text PRIMARY KEY,
            vector_table text NOT NULL,
            state text NOT NULL CHECK (state IN ('filling', 'active', 'retiring', 'dropped')),
            flushed_at timestamptz
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX milvus_collections_active ON milvus_collections (vector_table)
        WHERE state = 'active'
    """)
    op.execute("CREATE SEQUENCE vector_outbox_version")
    op.execute("""
        CREATE TABLE vector_outbox (
            vector_table text,
            row_id bigint,
            version bigint NOT NULL DEFAULT nextval('vector_outbox_version'),
            applied_at timestamptz,
            PRIMARY KEY (vector_table, row_id)
        )
    """)
    op.execute("CREATE INDEX vector_outbox_order ON vector_outbox (vector_table, version)")
    # The triggers that call it are made with a collection (app/store/milvus/outbox.py). In one
    # order, so that two who write the same rows wait for each other.
    op.execute("""
        CREATE FUNCTION note_vectors() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO vector_outbox (vector_table, row_id)
                SELECT TG_TABLE_NAME, id FROM new_rows ORDER BY id
                ON CONFLICT (vector_table, row_id)
                DO UPDATE SET version = excluded.version, applied_at = NULL;
            ELSIF TG_OP = 'UPDATE' THEN
                INSERT INTO vector_outbox (vector_table, row_id)
                SELECT TG_TABLE_NAME, id FROM (
                    SELECT coalesce(n.id, o.id) AS id FROM new_rows n FULL JOIN old_rows o
                    ON n.id = o.id
                    WHERE (n.embedding, n.labels, n.taken_at, n.width, n.height, n.latitude,
                        n.longitude)
                    IS DISTINCT FROM (o.embedding, o.labels, o.taken_at, o.width, o.height,
                        o.latitude, o.longitude)
                ) changed ORDER BY id
                ON CONFLICT (vector_table, row_id)
                DO UPDATE SET version = excluded.version, applied_at = NULL;
            ELSIF TG_OP = 'DELETE' THEN
                INSERT INTO vector_outbox (vector_table, row_id)
                SELECT TG_TABLE_NAME, id FROM old_rows ORDER BY id
                ON CONFLICT (vector_table, row_id)
                DO UPDATE SET version = excluded.version, applied_at = NULL;
            ELSE
                EXECUTE format(
                    'INSERT INTO vector_outbox (vector_table, row_id) '
                    'SELECT %L, id FROM public.%I ORDER BY id '
                    'ON CONFLICT (vector_table, row_id) '
                    'DO UPDATE SET version = excluded.version, applied_at = NULL',
                    TG_TABLE_NAME, TG_TABLE_NAME
                );
            END IF;
            RETURN NULL;
        END $$
    """)
