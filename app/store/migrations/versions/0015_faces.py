"""Faces of images, which are only looked for where someone asked for it."""

from alembic import op

revision = "0015"
down_revision = "0013"


def upgrade() -> None:
    # How many faces an image has, and at which level of which version they were looked for; NULL
    # where they were not.
    op.execute("ALTER TABLE images ADD COLUMN face_count smallint")
    op.execute("ALTER TABLE images ADD COLUMN faces_made text")
    op.execute("CREATE INDEX images_faces_made ON images (faces_made) WHERE faces_made IS NOT NULL")
    # From left to right; the box in fractions of the upright image.
    op.execute("""
        CREATE TABLE faces (
            image_id uuid NOT NULL REFERENCES images (id) ON DELETE CASCADE,
            "order" smallint NOT NULL,
            x real NOT NULL,
            y real NOT NULL,
            width real NOT NULL,
            height real NOT NULL,
            confidence real NOT NULL,
            landmarks real[] NOT NULL,
            age real,
            age_low smallint,
            age_high smallint,
            gender text,
            gender_confidence real,
            vector halfvec(128),
            PRIMARY KEY (image_id, "order")
        )
    """)
    _forget_with_the_pixels()


def _forget_with_the_pixels() -> None:
    """Let faces end when a file is read again, or its image comes back from the trash."""
    op.execute("""
        CREATE FUNCTION forget_faces() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.face_count := NULL;
            NEW.faces_made := NULL;
            IF TG_OP = 'UPDATE' THEN
                DELETE FROM faces WHERE image_id = NEW.id;
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER image_faces_changed BEFORE UPDATE OF thumbnail ON images FOR EACH ROW
        EXECUTE FUNCTION forget_faces()
    """)
    op.execute("""
        CREATE TRIGGER image_faces_new BEFORE INSERT ON images FOR EACH ROW
        EXECUTE FUNCTION forget_faces()
    """)
