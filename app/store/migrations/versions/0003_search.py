"""What searches ask for beside the vector: words, colours, metadata; query pictures; captions."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _index_words()
    op.execute("""
        ALTER TABLE images
            ADD COLUMN colours jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}'
    """)
    op.execute("ALTER TABLE job_items ADD COLUMN metadata jsonb")
    op.execute("""
        CREATE INDEX job_items_captions ON job_items (url)
        WHERE source = 'caption' AND state = 'waiting'
    """)
    op.execute("ALTER TABLE jobs ADD COLUMN tokens bigint NOT NULL DEFAULT 0")
    op.execute("""
        CREATE TABLE queries (
            id uuid PRIMARY KEY,
            picture bytea NOT NULL,
            media_type text NOT NULL,
            sha256 text NOT NULL,
            made_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("ALTER TABLE queries ALTER COLUMN picture SET STORAGE EXTERNAL")
    op.execute("CREATE INDEX queries_made_at ON queries (made_at)")


def _index_words() -> None:
    """Keep the words of each image: as they stand, and as English stems.

    Punctuation that joins words in file names is taken out first: Postgres' parser would keep
    `beach_2024.jpg` as one word.
    """
    op.execute(r"""
        CREATE FUNCTION image_words(url text, title text, description text, tags text[])
        RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
        DECLARE
            joins constant text := '_-./\+';
            named text := title || ' ' || array_to_string(tags, ' ');
            file text := regexp_replace(split_part(split_part(url, '#', 1), '?', 1), '^.*/', '');
        BEGIN
            named := translate(named, joins, '      ');
            description := translate(description, joins, '      ');
            file := translate(regexp_replace(file, '%[0-9A-Fa-f]{2}', ' ', 'g'), joins, '      ');
            IF url LIKE 'upload:%' THEN
                file := '';
            END IF;
            RETURN setweight(to_tsvector('english', named), 'A')
                || setweight(to_tsvector('simple', named), 'A')
                || setweight(to_tsvector('english', description), 'B')
                || setweight(to_tsvector('simple', description), 'B')
                || setweight(to_tsvector('english', file), 'C')
                || setweight(to_tsvector('simple', file), 'C');
        END $$
    """)
    op.execute("""
        ALTER TABLE images ADD COLUMN words tsvector
        GENERATED ALWAYS AS (image_words(url, title, description, tags)) STORED
    """)
    op.execute("CREATE INDEX images_words ON images USING gin (words)")
