"""Captions have a queue of their own, workers say what they can do, jobs when they ended."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # The lock is that of every chunk of captions. Also tasks that run now: they may return.
    op.execute("""
        UPDATE procrastinate_jobs SET queue_name = 'lookalike-captions'
        WHERE queue_name = 'lookalike' AND lock = 'captions'
    """)
    op.execute("""
        CREATE TABLE workers (
            id uuid PRIMARY KEY,
            captions boolean NOT NULL,
            alive_until timestamptz NOT NULL
        )
    """)
    # Jobs that ended before count from now: no one was told that they would go. One without items
    # has ended as it is created.
    op.execute("ALTER TABLE jobs ADD COLUMN ended_at timestamptz DEFAULT now()")
    op.execute("""
        UPDATE jobs SET ended_at = NULL WHERE id IN (
            SELECT job_id FROM job_counts WHERE state = 'waiting' AND number > 0
        )
    """)
    op.execute("CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL")
    _record_ends()
    # Migration 0008 may have made it.
    op.execute("""
        CREATE INDEX IF NOT EXISTS job_items_uploads ON job_items USING hash (url)
        WHERE source = 'upload'
    """)


def _record_ends() -> None:
    """Keep `ended_at` true whatever statement changes the counts.

    Whoever changes the items of a job has locked its row before.
    """
    op.execute("""
        CREATE FUNCTION record_job_end() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE jobs SET ended_at = CASE WHEN NEW.number > 0 THEN NULL ELSE clock_timestamp() END
            WHERE id = NEW.job_id AND (ended_at IS NULL) <> (NEW.number > 0);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER job_counts_changed AFTER INSERT OR UPDATE ON job_counts
        FOR EACH ROW WHEN (NEW.state = 'waiting') EXECUTE FUNCTION record_job_end()
    """)
