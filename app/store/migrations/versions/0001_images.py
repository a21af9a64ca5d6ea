"""The images and the encoders that indexes were made with."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE images (
            id uuid PRIMARY KEY,
            url text NOT NULL,
            sha256 text NOT NULL,
            dhash bigint NOT NULL,
            bytes bigint NOT NULL,
            width integer NOT NULL,
            height integer NOT NULL,
            format text NOT NULL,
            exif jsonb NOT NULL,
            title text NOT NULL,
            description text NOT NULL,
            tags text[] NOT NULL,
            thumbnail bytea NOT NULL,
            indexed_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    # JPEG does not compress, so Postgres need not try.
    op.execute("ALTER TABLE images ALTER COLUMN thumbnail SET STORAGE EXTERNAL")
    op.execute("CREATE INDEX images_newest ON images (indexed_at DESC, id DESC)")
    op.execute("CREATE INDEX images_sha256 ON images (sha256)")
    op.execute("""
        CREATE TABLE encoders (
            name text NOT NULL,
            fingerprint text NOT NULL,
            source text NOT NULL,
            dimensions integer NOT NULL,
            vector_table text NOT NULL,
            used_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (name, fingerprint)
        )
    """)
