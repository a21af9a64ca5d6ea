"""Keypoints of images, in a table that says what is still to be made."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # Version 0 and no bytes: to be made.
    op.execute("""
        CREATE TABLE keypoints (
            image_id uuid PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
            version smallint NOT NULL DEFAULT 0,
            bytes bytea
        )
    """)
    # They do not compress.
    op.execute("ALTER TABLE keypoints ALTER COLUMN bytes SET STORAGE EXTERNAL")
    op.execute("INSERT INTO keypoints (image_id) SELECT id FROM images")
    op.execute("CREATE INDEX keypoints_version ON keypoints (version)")
    op.execute("""
        CREATE FUNCTION add_keypoints() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO keypoints (image_id) SELECT id FROM added ORDER BY id;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER images_added AFTER INSERT ON images REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION add_keypoints()
    """)
    op.execute("""
        CREATE FUNCTION forget_keypoints() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE keypoints SET version = 0, bytes = NULL WHERE image_id = NEW.id;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER image_pixels_changed AFTER UPDATE OF thumbnail ON images FOR EACH ROW
        WHEN (OLD.thumbnail IS DISTINCT FROM NEW.thumbnail) EXECUTE FUNCTION forget_keypoints()
    """)
