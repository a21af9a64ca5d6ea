"""The trash, into which images are moved until they are restored or deleted; pairs of images."""

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
    _create_pairs()


def _create_pairs() -> None:
    """Create what is known of pairs of images, of which the lesser comes first."""
    # By their files, so that it outlives the images.
    op.execute("""
        CREATE TABLE not_duplicates (
            one text NOT NULL,
            other text NOT NULL,
            denied_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (one, other),
            CHECK (one <= other)
        )
    """)
    op.execute("""
        CREATE TABLE compared_pairs (
            one uuid NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            other uuid NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            version integer NOT NULL,
            is_copy boolean NOT NULL,
            PRIMARY KEY (one, other),
            CHECK (one < other)
        )
    """)
    op.execute("CREATE INDEX compared_pairs_other ON compared_pairs (other)")
    op.execute("""
        CREATE FUNCTION forget_pairs() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            DELETE FROM compared_pairs WHERE one = NEW.id OR other = NEW.id;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER image_pairs_changed AFTER UPDATE OF thumbnail ON images FOR EACH ROW
        WHEN (OLD.thumbnail IS DISTINCT FROM NEW.thumbnail) EXECUTE FUNCTION forget_pairs()
    """)
