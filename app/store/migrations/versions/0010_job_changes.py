"""A job that changes is announced, so that one connection can follow all jobs."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # Postgres sends equal notifications of one transaction once.
    op.execute("""
        CREATE FUNCTION announce_job_counts() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('lookalike_jobs', NEW.job_id::text);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE FUNCTION announce_job() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('lookalike_jobs', OLD.id::text);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER job_counts_announced AFTER INSERT OR UPDATE ON job_counts
        FOR EACH ROW EXECUTE FUNCTION announce_job_counts()
    """)
    op.execute("""
        CREATE TRIGGER job_announced AFTER UPDATE OF cancelled_at OR DELETE ON jobs
        FOR EACH ROW EXECUTE FUNCTION announce_job()
    """)
