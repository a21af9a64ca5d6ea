"""Thumbnails in files: the key of each, and the files that perhaps nothing needs any more."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    # Of an image, the thumbnail is in the row or in a file of MEDIA_URL that has this key.
    op.execute("ALTER TABLE images ADD COLUMN thumbnail_key text")
    op.execute("ALTER TABLE images ALTER COLUMN thumbnail DROP NOT NULL")
    op.execute("""
        ALTER TABLE images ADD CONSTRAINT images_thumbnail_once
        CHECK ((thumbnail IS NULL) <> (thumbnail_key IS NULL)) NOT VALID
    """)
    # There, the key is a part of the image.
    op.execute("ALTER TABLE trash ALTER COLUMN thumbnail DROP NOT NULL")
    op.execute("CREATE TABLE thumbnail_place (place text PRIMARY KEY)")
    op.execute("""
        CREATE TABLE loose_thumbnails (
            key text PRIMARY KEY,
            due_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX loose_thumbnails_due ON loose_thumbnails (due_at)")
    _compare_digests()
    _note_loose_ones()


def _compare_digests() -> None:
    """Let a thumbnail that only moves be the same one: keypoints and compared pairs are kept."""
    op.execute("""
        CREATE FUNCTION thumbnail_digest(thumbnail bytea, key text) RETURNS bytea
        LANGUAGE sql IMMUTABLE AS $$
            SELECT CASE WHEN key IS NULL THEN sha256(thumbnail)
                ELSE decode(split_part(key, '-', 2), 'hex') END
        $$
    """)
    changes = {"image_pixels_changed": "forget_keypoints", "image_pairs_changed": "forget_pairs"}
    for trigger, function in changes.items():
        op.execute(f"DROP TRIGGER {trigger} ON images")
        op.execute(f"""
            CREATE TRIGGER {trigger} AFTER UPDATE OF thumbnail, thumbnail_key ON images
            FOR EACH ROW WHEN (
                thumbnail_digest(OLD.thumbnail, OLD.thumbnail_key)
                IS DISTINCT FROM thumbnail_digest(NEW.thumbnail, NEW.thumbnail_key)
            ) EXECUTE FUNCTION {function}()
        """)


def _note_loose_ones() -> None:
    """Note the file of each row that goes, whatever statement deletes or changes it."""
    noted = "ON CONFLICT (key) DO UPDATE SET due_at = now()"
    for table, key in (("images", "thumbnail_key"), ("trash", "image->>'thumbnail_key'")):
        op.execute(f"""
            CREATE FUNCTION loosen_thumbnails_of_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO loose_thumbnails (key)
                SELECT {key} FROM gone WHERE {key} IS NOT NULL ORDER BY 1 {noted};
                RETURN NULL;
            END $$
        """)  # noqa: S608 - names of ours
        op.execute(f"""
            CREATE TRIGGER thumbnails_gone AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION loosen_thumbnails_of_{table}()
        """)
        op.execute(f"""
            CREATE FUNCTION loosen_former_thumbnail_of_{table}() RETURNS trigger
            LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO loose_thumbnails (key) VALUES (OLD.{key}) {noted};
                RETURN NULL;
            END $$
        """)  # noqa: S608 - names of ours
        op.execute(f"""
            CREATE TRIGGER thumbnail_replaced AFTER UPDATE ON {table} FOR EACH ROW
            WHEN (OLD.{key} IS NOT NULL AND OLD.{key} IS DISTINCT FROM NEW.{key})
            EXECUTE FUNCTION loosen_former_thumbnail_of_{table}()
        """)
