"""Words are split by the program, in one way for storing and for asking (see store/words.py)."""

from collections.abc import Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import psycopg
from alembic import context, op
from sqlalchemy import Connection, Row, text

from app.store.words import placed_words

revision = "0006"
down_revision = "0005"

ROWS_AT_ONCE = 2000
ROWS_PER_LINE = 100_000


def upgrade() -> None:
    _create_functions()
    op.execute("ALTER TABLE images DROP COLUMN words")
    op.execute("DROP FUNCTION image_words")
    op.execute("ALTER TABLE images ADD COLUMN words tsvector NOT NULL DEFAULT ''")
    _fill()
    op.execute("CREATE INDEX images_words ON images USING gin (words)")


def _create_functions() -> None:
    """Create functions that make a tsvector and a tsquery of words, and each lexeme alike.

    Stop words have no stem and stay as they are: `The Who` is a title.
    """
    op.execute(r"""
        CREATE FUNCTION word_lexeme(word text) RETURNS text
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT '''' || replace(replace(
                coalesce((ts_lexize('pg_catalog.english_stem', word))[1], word),
                '\', '\\'), '''', '''''') || ''''
        $$
    """)
    # A place is a position and a weight, such as 3A.
    op.execute("""
        CREATE FUNCTION words_vector(words text[], places text[]) RETURNS tsvector
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT coalesce(string_agg(word_lexeme(word) || ':' || place, ' '), '')::tsvector
            FROM unnest(words, places) AS placed (word, place)
        $$
    """)
    # No word is an operator.
    op.execute("""
        CREATE FUNCTION words_query(tokens text[]) RETURNS tsquery
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT string_agg(
                CASE WHEN token IN ('&', '|', '!', '<->', '(', ')')
                THEN token ELSE word_lexeme(token) END,
                ' ' ORDER BY position
            )::tsquery
            FROM unnest(tokens) WITH ORDINALITY AS listed (token, position)
        $$
    """)


def _fill() -> None:
    """Make the words of the images that are there; a hundred thousand take some 20 seconds."""
    connection = op.get_bind()
    total: int = connection.scalar(text("SELECT count(*) FROM images"))
    announce = context.config.attributes["announce"]
    done = 0
    for images in _batches(connection):
        if done % ROWS_PER_LINE == 0 and total > ROWS_AT_ONCE:
            announce(f"Making the words of {total} images anew (once): {done} done")
        _write(connection, images)
        done += len(images)


def _batches(connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    query = text("""
        SELECT id, url, title, description, tags FROM images
        WHERE id > :after ORDER BY id LIMIT :limit
    """)
    after = UUID(int=0)
    while images := connection.execute(query, {"after": after, "limit": ROWS_AT_ONCE}).all():
        yield images
        after = images[-1].id


def _write(connection: Connection, images: Sequence[Row[Any]]) -> None:
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    driver.execute("CREATE TEMPORARY TABLE made (id uuid, words text[], places text[])")
    with driver.cursor() as cursor, cursor.copy("COPY made FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["uuid", "text[]", "text[]"])
        for image in images:
            placed = placed_words(
                url=image.url, title=image.title, description=image.description, tags=image.tags
            )
            copy.write_row((image.id, *placed))
    driver.execute("""
        UPDATE images SET words = words_vector(made.words, made.places)
        FROM made WHERE images.id = made.id
    """)
    driver.execute("DROP TABLE made")
