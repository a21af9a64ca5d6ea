import asyncio
from collections.abc import Callable
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from app.settings import read_settings
from app.store.database import MIGRATIONS, check_pgvector, open_database
from app.store.word_query import query_tokens


def migrate(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


INSERT = text("""
    INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format, exif, title,
        description, tags, thumbnail)
    SELECT gen_random_uuid(), 'https://x.example/stra%C3%9Fe-' || n || '.jpg', '', 0, 1, 1, 1,
        'PNG', '{}', 'AC/DC ' || n, CASE WHEN n = 7 THEN :long ELSE '' END, '{日本語}', ''
    FROM generate_series(1, :number) AS n
""")


def test_the_words_of_old_rows_are_made_anew(new_database: Callable[..., str]) -> None:
    url = new_database("template1")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        check_pgvector(connection)
        migrate(connection, "0003")
        connection.execute(INSERT, {"number": 2500, "long": "words " * 10_000})
    said: list[str] = []
    database = open_database(read_settings(database_url=url), announce=said.append)
    assert said == ["Making the words of 2500 images anew (once): 0 done"]
    find: Any = text("SELECT count(*) FROM images WHERE words @@ words_query(:tokens)")
    with engine.begin() as connection:
        for query, number in {"ac/dc": 2500, "strasse-12.jpg": 1, "本語": 2500, "word": 1}.items():
            tokens = query_tokens(query)
            assert connection.scalar(find, {"tokens": tokens}) == number, query
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.scalars(text("EXPLAIN SELECT 1 FROM images WHERE words @@ 'strass'"))
        assert "images_words" in " ".join(plan)
    engine.dispose()
    asyncio.run(database.close())
