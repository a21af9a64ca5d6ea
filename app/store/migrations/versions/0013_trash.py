"""The trash, into which images are moved until they are restored or deleted."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    # The row of the image but for its words, which depend on the rest, and its thumbnail; its rows
    # in the tables of vectors, by table.
    op.execute("""
        CREATE TABLE trash (
            image_id uuid PRIMARY KEY,
            trashed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            url text NOT NULL,
            image jsonb NOT NULL,
            thumbnail bytea NOT NULL,
            keypoints_version smallint,
            keypoints bytea,
            vectors jsonb NOT NULL DEFAULT '{}'
        )
    """)
    for column in ("thumbnail", "keypoints"):
        op.execute(f"ALTER TABLE trash ALTER COLUMN {column} SET STORAGE EXTERNAL")
    op.execute("CREATE INDEX trash_url ON trash USING hash (url)")
    op.execute("CREATE INDEX trash_newest ON trash (trashed_at DESC, image_id DESC)")
    # Whoever stores an image anew without restoring it first has replaced it.
    op.execute("""
        CREATE FUNCTION leave_trash() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            DELETE FROM trash WHERE image_id IN (SELECT id FROM added);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER images_not_in_trash AFTER INSERT ON images REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION leave_trash()
    """)
