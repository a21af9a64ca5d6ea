"""Jobs with their items, Procrastinate's queue, and what a later look at a picture needs."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"

# A copy, so that another version of the package makes no other database of the same migrations.
QUEUE = Path(__file__).parent.parent / "procrastinate" / "schema-3.10.0.sql"


def upgrade() -> None:
    # RFC 9110 (8.8) calls the first two validators; for a file they are made from size and time.
    op.execute("""
        ALTER TABLE images
            ADD COLUMN etag text,
            ADD COLUMN last_modified text,
            ADD COLUMN checked_at timestamptz NOT NULL DEFAULT now(),
            ADD COLUMN gone_at timestamptz
    """)
    op.execute("CREATE INDEX images_gone ON images (id) WHERE gone_at IS NOT NULL")
    op.execute("""
        CREATE TABLE jobs (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            title text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            cancelled_at timestamptz
        )
    """)
    op.execute("""
        CREATE TABLE job_items (
            job_id bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
            position bigint NOT NULL,
            source text NOT NULL,
            url text NOT NULL,
            title text,
            description text,
            tags text[],
            state text NOT NULL DEFAULT 'waiting',
            reason text,
            tries integer NOT NULL DEFAULT 0,
            not_before timestamptz,
            ended_at timestamptz,
            PRIMARY KEY (job_id, position)
        )
    """)
    op.execute("""
        CREATE TABLE job_counts (
            job_id bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
            state text NOT NULL,
            number bigint NOT NULL,
            PRIMARY KEY (job_id, state)
        )
    """)
    op.execute("""
        CREATE INDEX job_items_ended ON job_items (job_id, ended_at DESC)
        WHERE ended_at IS NOT NULL
    """)
    op.execute("""
        CREATE INDEX job_items_postponed ON job_items (job_id)
        WHERE state = 'waiting' AND not_before IS NOT NULL
    """)
    op.execute("CREATE INDEX job_items_state ON job_items (job_id, state, position)")
    _count_items()
    # Several statements at once, which only the driver itself takes.
    op.get_bind().connection.driver_connection.execute(QUEUE.read_text("utf-8"))


def _count_items() -> None:
    """Keep `job_counts` true whatever statement changes items.

    Rows are changed in one order, so that writers of the same jobs wait and do not deadlock.
    """
    op.execute("""
        CREATE FUNCTION count_job_items() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO job_counts
                SELECT job_id, state, count(*) FROM new_items
                GROUP BY job_id, state ORDER BY job_id, state
                ON CONFLICT (job_id, state)
                DO UPDATE SET number = job_counts.number + excluded.number;
            ELSE
                INSERT INTO job_counts
                SELECT job_id, state, sum(change) FROM (
                    SELECT job_id, state, 1 AS change FROM new_items
                    UNION ALL SELECT job_id, state, -1 FROM old_items
                ) AS changes
                GROUP BY job_id, state HAVING sum(change) <> 0 ORDER BY job_id, state
                ON CONFLICT (job_id, state)
                DO UPDATE SET number = job_counts.number + excluded.number;
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER job_items_inserted AFTER INSERT ON job_items
        REFERENCING NEW TABLE AS new_items
        FOR EACH STATEMENT EXECUTE FUNCTION count_job_items()
    """)
    op.execute("""
        CREATE TRIGGER job_items_updated AFTER UPDATE ON job_items
        REFERENCING OLD TABLE AS old_items NEW TABLE AS new_items
        FOR EACH STATEMENT EXECUTE FUNCTION count_job_items()
    """)
