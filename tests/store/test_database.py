import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError

from app.problems import (
    DatabaseBusy,
    DatabaseUnavailable,
    Problem,
    Unstorable,
    UnusableDatabase,
    WriteConflict,
    WrongSetting,
)
from app.settings import read_settings
from app.store.database import (
    MIGRATIONS,
    Database,
    check_pgvector,
    check_postgres,
    copy_rows,
    driver_url,
    open_database,
)
from tests.conftest import named


def opened(url: str) -> Database:
    return open_database(read_settings(database_url=url))


def problem_of(url: str) -> str:
    with pytest.raises(UnusableDatabase) as caught:
        opened(url)
    assert "\n" not in caught.value.detail
    return caught.value.detail


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # pyright: ignore[reportArgumentType]


def tables(database: Database) -> set[str]:
    query = text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    with database.sync_engine.begin() as connection:
        return set(connection.scalars(query))


def test_an_empty_database_is_migrated(new_database: Callable[..., str]) -> None:
    database = opened(new_database("template1"))
    assert {"images", "encoders", "alembic_version"} <= tables(database)
    asyncio.run(database.close())


def test_several_servers_can_start_concurrently(new_database: Callable[..., str]) -> None:
    url = new_database("template1")
    with ThreadPoolExecutor(6) as threads:
        databases = list(threads.map(opened, [url] * 6))
    assert "images" in tables(databases[0])
    for database in databases:
        asyncio.run(database.close())


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_urls_are_accepted_as_database_hosts_give_them(database_url: str, scheme: str) -> None:
    # Over a Unix socket there is no TLS, and libpq ignores sslmode=require.
    url = database_url.replace("postgresql", scheme, 1) + "&sslmode=require"
    database = opened(url)
    assert "images" in tables(database)
    asyncio.run(database.close())


@pytest.mark.parametrize("url", ["mysql://host/db", "not a URL", "postgres//x"])
def test_a_url_that_is_not_for_postgres_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(WrongSetting, match="DATABASE_URL"):
        opened(url)


def test_an_unreachable_database_is_reported_in_one_line_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "does not answer" in problem_of(f"postgres://user:secret@127.0.0.1:{port}/db")
    assert "secret" not in problem_of(f"postgres://user:secret@127.0.0.1:{port}/db")


def test_a_missing_database_is_named(postgres: str) -> None:
    assert '"nowhere" does not exist' in problem_of(named(postgres, "nowhere"))


def test_a_server_without_pgvector_is_reported(new_database: Callable[..., str]) -> None:
    url = new_database("template1")
    name = url.partition("?")[0].rpartition("/")[2]
    execute(url, f"ALTER DATABASE {name} SET extension_control_path = '/nonexistent'")
    assert "no vector extension" in problem_of(url)


def test_a_user_without_the_right_to_create_the_extension_is_told_how(
    new_database: Callable[..., str],
) -> None:
    url = new_database("template1")
    execute(
        url,
        "DROP ROLE IF EXISTS limited",
        "CREATE ROLE limited LOGIN",
        "GRANT ALL ON SCHEMA public TO limited",
    )
    try:
        assert "CREATE EXTENSION vector" in problem_of(url.replace("postgres:", "limited:", 1))
    finally:
        execute(url, "DROP OWNED BY limited", "DROP ROLE limited")


def test_too_old_a_pgvector_is_named(new_database: Callable[..., str]) -> None:
    url = new_database()
    execute(url, "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    assert "pgvector 0.7.4" in problem_of(url)


def test_too_old_a_postgres_is_named(database_url: str) -> None:
    database = opened(database_url)
    with (
        database.sync_engine.begin() as connection,
        pytest.raises(UnusableDatabase, match="Postgres 18; Lookalike needs 19"),
    ):
        check_postgres(connection, minimum=19)
    asyncio.run(database.close())


END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def test_a_broken_connection_raises_database_unavailable(database_url: str) -> None:
    async def ask(database: Database, *, interrupted: bool) -> int | None:
        async with database.begin() as connection:
            await connection.execute(text("SELECT 1"))
            if interrupted:
                execute(database_url, END_OTHERS)
            return await connection.scalar(text("SELECT 1"))

    async def run() -> None:
        database = opened(database_url)
        with pytest.raises(DatabaseUnavailable):
            await ask(database, interrupted=True)
        # The next transaction gets a new connection.
        assert await ask(database, interrupted=False) == 1
        await database.close()

    asyncio.run(run())


def test_no_statement_is_prepared_on_the_server(database_url: str) -> None:
    async def run() -> int:
        database = opened(database_url)
        async with database.begin() as connection:
            for _ in range(10):
                await connection.execute(text("SELECT 1"))
            prepared = await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
        await database.close()
        return prepared or 0

    assert asyncio.run(run()) == 0


def migrate_to(url: str, revision: str) -> None:
    """Set up an empty database as an older version left it."""
    engine = create_engine(url.replace("postgresql", "postgresql+psycopg", 1))
    with engine.begin() as connection:
        check_pgvector(connection)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_rows_of_before_decoders_were_counted_are_kept(new_database: Callable[..., str]) -> None:
    url = new_database("template1")
    migrate_to(url, "0003")
    execute(
        url,
        # A JPEG with further pictures in it, by its old name.
        """
        INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format, exif, title,
            description, tags, thumbnail)
        VALUES (gen_random_uuid(), 'https://example.com/a', 's', 1, 2, 3, 4, 'MPO', '{}', 'A', '',
            '{}', '')
        """,
        "INSERT INTO encoders VALUES ('a', 'a', 'a', 1, 'data_a'), ('b', 'b', 'b', 1, 'data_gone')",
        "CREATE TABLE data_a (node_id varchar, metadata_ json, labels text[])",
        "INSERT INTO data_a (labels) VALUES ('{format:mpo,tag:a}'), (NULL), ('{format:png}')",
    )
    asyncio.run(opened(url).close())
    with psycopg.connect(url) as connection:
        query = "SELECT title, format, truncated, too_plain, decoder FROM images"
        assert connection.execute(query).fetchall() == [("A", "JPEG", False, False, 0)]
        labels = connection.execute("SELECT labels FROM data_a ORDER BY labels").fetchall()
        assert labels == [(["format:jpeg", "tag:a"],), (["format:png"],), (None,)]


def error_of(url: str, statement: str) -> BaseException:
    """The exception that a transaction with this statement raises."""

    async def run() -> BaseException:
        database = opened(url)
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            async with database.begin() as connection:
                await connection.execute(text(statement))
        await database.close()
        return caught.value

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ("08006", DatabaseUnavailable),
        ("57P01", DatabaseUnavailable),
        ("57P03", DatabaseUnavailable),
        ("53100", DatabaseBusy),
        ("53300", DatabaseBusy),
        ("57014", DatabaseBusy),
        ("40001", WriteConflict),
        ("40P01", WriteConflict),
        ("54000", Unstorable),
        ("54001", Unstorable),
        ("22021", Unstorable),
        ("22003", Unstorable),
    ],
)
def test_an_error_is_what_its_sqlstate_says(
    database_url: str, state: str, problem: type[Problem]
) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'the cause' USING ERRCODE = '{state}'; END $$"
    raised = error_of(database_url, raising)
    assert type(raised) is problem
    assert problem is not Unstorable or "the cause" in str(raised)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "SELECT to_tsvector('simple', string_agg(md5(i::text), ' ')) "
            "FROM generate_series(1, 40000) i",
            "too long for tsvector",
        ),
        ("SELECT 'x'::integer", "invalid input syntax"),
        ("SELECT 99999999999::integer", "out of range"),
    ],
)
def test_a_value_that_the_database_cannot_take_is_named(
    database_url: str, statement: str, words: str
) -> None:
    raised = error_of(database_url, statement)
    assert type(raised) is Unstorable
    assert words in raised.detail
    assert "SELECT" not in raised.detail


@pytest.mark.parametrize("statement", ["SELECT * FROM nothing", "SELECT 1 +"])
def test_a_mistake_of_ours_is_no_outage(database_url: str, statement: str) -> None:
    assert isinstance(error_of(database_url, statement), ProgrammingError)


@pytest.mark.parametrize("value", ["a\0b", "a\ud800b"])
def test_a_copied_text_that_cannot_be_stored_is_unstorable(database_url: str, value: str) -> None:
    async def run() -> None:
        database = opened(database_url)
        with pytest.raises(Unstorable):
            async with database.begin() as connection:
                await copy_rows(connection, "jobs", {"title": "text"}, [(value,)])
        await database.close()

    asyncio.run(run())


def test_a_connection_lost_while_copying_is_an_outage(database_url: str) -> None:
    async def copy(database: Database) -> None:
        async with database.begin() as connection:
            await connection.execute(text("SELECT 1"))
            execute(database_url, END_OTHERS)
            await copy_rows(connection, "jobs", {"title": "text"}, [("a",)])

    async def run() -> None:
        database = opened(database_url)
        with pytest.raises(DatabaseUnavailable):
            await copy(database)
        await database.close()

    asyncio.run(run())


def test_the_pooled_url_of_neon_is_taken_as_it_is() -> None:
    url = (
        "postgresql://someone:p%40ss@ep-cool-name-a1b2-pooler.eu-central-1.aws.neon.tech/neondb"
        "?sslmode=require&channel_binding=require"
    )
    given = read_settings(database_url=url).database_url
    assert given is not None
    database = Database(driver_url(given.get_secret_value()))
    try:
        _, options = database.sync_engine.dialect.create_connect_args(database.engine.url)
        # What is psycopg's own.
        options.pop("context", None)
        # libpq itself reads both, and would refuse an option that it does not know.
        for conninfo in (make_conninfo(**options), make_conninfo(database.url)):
            read = conninfo_to_dict(conninfo)
            assert read["channel_binding"] == read["sslmode"] == "require"
            assert (read["user"], read["password"]) == ("someone", "p@ss")
            assert read["dbname"] == "neondb"
    finally:
        database.sync_engine.dispose()
