"""Postgres, embedded or configured: connections, version checks and migrations."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, LiteralString, cast

import psycopg
from psycopg import AsyncConnection as DriverConnection
from psycopg import sql
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from app.problems import (
    DatabaseBusy,
    DatabaseUnavailable,
    Problem,
    SchemaChanged,
    Unavailable,
    Unstorable,
    UnusableDatabase,
    WriteConflict,
    WrongSetting,
)
from app.settings import Settings
from app.store.connections import MAX_OVERFLOW, OPTIONS, POOL_SIZE, pooled_engine
from app.store.embedded import EmbeddedPostgres, embedded_server
from app.store.replica import Replica, replica_engine

# pgvector 0.7 introduced halfvec, 0.8 iterative scans; 0.8 needs Postgres 13 or newer.
MIN_POSTGRES = 14
MIN_PGVECTOR = (0, 8)

MIGRATIONS = Path(__file__).parent / "migrations"

# Arbitrary, but the same in every version of Lookalike.
SETUP_LOCK = 0x10_0CA11CE

# By the beginning of the SQLSTATE (Postgres' documentation, appendix A).
OUTAGES = ("08", "57P")  # the connection failed, or the server is starting, stopping or crashed
CONFLICTS = ("40001", "40P01")  # serialization failure, deadlock
# It cannot write: the disk is full, fails or is read-only; only a standby is left.
UNWRITABLE = ("53100", "58030", "42501", "25006")
# No disk, memory or connections left; a lock or the time ran out.
LIMITS = ("53", "55P03", "57014", *UNWRITABLE)
# A table, column or function is not there, or has another type.
WRONG_SCHEMA = "42"
# How long a database that could not write counts as not ready, unless it is asked to write again.
UNWRITABLE_S = 30
BAD_VALUES = ("22", "54")  # a value is invalid, or larger than Postgres' fixed limits

LONGEST_REASON = 300

# Types whose values are given as the bytes that Postgres receives, and what the driver calls those.
_RAW = {"halfvec": "bytea"}


class Database:
    """An asynchronous and a synchronous engine for one Postgres.

    `engine` is for everything but set-up and LlamaIndex's synchronous methods, which use
    `sync_engine`. Neither prepares statements on the server, so PgBouncer may be used in its
    transaction mode. `url`, which includes the password, is for connections outside the engines.
    `replica` is that of `read_url`.
    """

    def __init__(
        self, url: URL, *, embedded: EmbeddedPostgres | None = None, read_url: URL | None = None
    ) -> None:
        self.engine: AsyncEngine = pooled_engine(url)
        self.sync_engine: Engine = create_engine(url, **OPTIONS)
        self.replica = read_url and Replica(pooled_engine(read_url), revision=newest_revision())
        self.url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._readers: dict[AsyncEngine, AsyncEngine] = {}
        self._unwritable: BaseException | None = None
        self._unwritable_at = -float("inf")
        self.most_connections = POOL_SIZE + MAX_OVERFLOW
        self.embedded = embedded is not None
        self._server = embedded

    @property
    def connections_in_use(self) -> int:
        """The number of connections of `engine` that are in use."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    @asynccontextmanager
    async def begin(self, *, writes: bool = False) -> AsyncGenerator[AsyncConnection]:
        """Open a transaction; raises as `driver_errors` does, and `SchemaChanged`.

        One that `writes` as part of a search that reads a replica needs to say so.
        """
        engine = self.engine if writes else replica_engine() or self.engine
        async with self._watched(), engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection for statements that only read and need no others: a round trip each.

        Raises what `begin` raises.
        """
        async with self._watched(), self._reader().connect() as connection:
            try:
                yield connection
            except psycopg.Error:
                # Of the driver's own, which SQLAlchemy did not see.
                await connection.invalidate()
                raise

    def _reader(self) -> AsyncEngine:
        """Return the engine of reads: made once, as making it takes longer than a short query."""
        engine = replica_engine() or self.engine
        if engine not in self._readers:
            self._readers[engine] = engine.execution_options(isolation_level="AUTOCOMMIT")
        return self._readers[engine]

    @asynccontextmanager
    async def _watched(self) -> AsyncGenerator[None]:
        try:
            with driver_errors():
                yield
        except DatabaseBusy as problem:
            if sqlstate(problem.__cause__).startswith(UNWRITABLE) and not replica_engine():
                self._unwritable_at, self._unwritable = monotonic(), problem.__cause__
            raise
        except (DBAPIError, psycopg.Error) as exc:
            if sqlstate(exc).startswith(WRONG_SCHEMA):
                await self.check_schema(exc)
            raise

    async def check(self) -> None:
        """Raise an `Unavailable` unless the database answers, can write and has our schema."""
        await self.check_schema()
        if monotonic() - self._unwritable_at < UNWRITABLE_S:
            raise DatabaseBusy from self._unwritable

    async def check_schema(self, cause: BaseException | None = None) -> None:
        """Raise `SchemaChanged` if another version's migrations have run since the start."""
        query = "SELECT version_num, current_setting('transaction_read_only') FROM alembic_version"
        with driver_errors():
            async with self.engine.begin() as connection:
                [(revision, read_only)] = await connection.execute(text(query))
        if revision != newest_revision():
            raise SchemaChanged from cause
        if read_only == "on":
            raise DatabaseBusy("The database is read-only.")

    @contextmanager
    def set_up(self) -> Generator[Connection]:
        """Open a transaction that excludes every other Lookalike's set-up."""
        with driver_errors(), self.sync_engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SETUP_LOCK})
            yield connection

    async def close(self) -> None:
        """Close all connections, and stop the embedded Postgres if no other process uses it."""
        await self.engine.dispose()
        if self.replica:
            await self.replica.engine.dispose()
        self.close_set_up()

    def close_set_up(self) -> None:
        """Close the database when `engine` has not been used."""
        self.sync_engine.dispose()
        if self._server is not None:
            self._server.cleanup()


async def driver_connection(connection: AsyncConnection) -> DriverConnection:
    """Return the psycopg connection of an SQLAlchemy connection, in the same transaction."""
    raw = await connection.get_raw_connection()
    return cast(DriverConnection, raw.driver_connection)


async def copy_rows(
    connection: AsyncConnection,
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Append rows to a table with COPY; `columns` maps names to Postgres types, in row order.

    A `halfvec`, which the driver does not know, is given as `halfvec_bytes`.
    """
    driver = await driver_connection(connection)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), names
    )
    async with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_RAW.get(kind, kind) for kind in columns.values()])
        for row in rows:
            await copy.write_row(row)


async def stage_rows(
    connection: AsyncConnection,
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Copy rows into a temporary table, as `copy_rows` does, until the transaction ends.

    They take the place of those that the transaction has staged there before.
    """
    driver = await driver_connection(connection)
    definitions = [
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(cast(LiteralString, kind)))
        for name, kind in columns.items()
    ]
    await driver.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {0} ({1}) ON COMMIT DELETE ROWS; DELETE FROM {0}"
        ).format(sql.Identifier(table), sql.SQL(", ").join(definitions))
    )
    await copy_rows(connection, table, columns, rows)


def storable(value: str) -> str:
    """Return a text without what Postgres cannot store: NULs and lone surrogates."""
    return value.replace("\0", "").encode("utf-8", "replace").decode()


@contextmanager
def driver_errors() -> Generator[None]:
    """Turn the driver's errors into problems; errors that are mistakes of ours pass unchanged.

    Raises `DatabaseUnavailable` if the database does not answer, `DatabaseBusy` if it has reached a
    limit that may pass, `WriteConflict`, and `Unstorable` if it cannot take a value.
    """
    try:
        yield
    except PoolTimeout as exc:
        raise DatabaseUnavailable from exc
    except UnicodeEncodeError as exc:
        raise Unstorable("A text contains characters that cannot be stored.") from exc
    except (DBAPIError, psycopg.Error) as exc:
        problem = _problem_of(exc)
        if problem is None:
            raise
        raise problem from exc


def _problem_of(exc: DBAPIError | psycopg.Error) -> Problem | None:
    """Return the problem behind a driver's error, by its SQLSTATE; None for any other error.

    Errors without one come from the driver itself, which lost the connection or refused a value.
    """
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    state = sqlstate(exc)
    lost = isinstance(exc, DBAPIError) and exc.connection_invalidated
    if lost or state.startswith(OUTAGES):
        return DatabaseUnavailable()
    if state.startswith(CONFLICTS):
        return WriteConflict()
    if state.startswith(LIMITS):
        return DatabaseBusy()
    if state.startswith(BAD_VALUES) or (not state and isinstance(cause, psycopg.DataError)):
        return Unstorable(f"The database cannot take these values: {_first_line(cause)}.")
    if not state and isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailable()
    return None


def sqlstate(exc: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, "" if it has none."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    return getattr(cause, "sqlstate", None) or ""


def _first_line(cause: object) -> str:
    lines = str(cause).strip().splitlines()
    return lines[0][:LONGEST_REASON].rstrip(".") if lines else "no reason given"


def open_database(
    settings: Settings, *, announce: Callable[[str], None] = lambda _: None
) -> Database:
    """Connect to the configured Postgres, or start the embedded one; migrate the schema.

    `announce` is called with one line for each migration that may take long. Raises
    `UnusableDatabase` or `WrongSetting`, each with one line on what to do.
    """
    given, replica = settings.database_url, settings.database_read_url
    read_url = driver_url(replica.get_secret_value(), "DATABASE_READ_URL") if replica else None
    if given is None:
        server = embedded_server(settings.data_dir / "postgres")
        database = Database(driver_url(server.get_uri()), embedded=server, read_url=read_url)
    else:
        database = Database(driver_url(given.get_secret_value()), read_url=read_url)
    try:
        _migrate(database, announce)
    except BaseException as exc:
        database.close_set_up()
        if isinstance(exc, Unavailable):
            raise UnusableDatabase(f"The database does not answer: {_reason(exc)}") from exc
        raise
    return database


def driver_url(url: str, name: str = "DATABASE_URL") -> URL:
    """Return the URL for SQLAlchemy and psycopg, with its options; raises `WrongSetting`."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise WrongSetting(f"{name} is not a URL like postgres://user@host/name") from exc
    if parsed.drivername.partition("+")[0] not in {"postgres", "postgresql"}:
        raise WrongSetting(f"{name} is for {parsed.drivername}; Lookalike needs Postgres")
    return parsed.set(drivername="postgresql+psycopg")


def _migrate(database: Database, announce: Callable[[str], None]) -> None:
    with database.set_up() as connection:
        check_postgres(connection)
        check_pgvector(connection)
        revision = _revision(connection)
        if revision == newest_revision():
            return
        if revision is not None and revision not in _revisions():
            raise UnusableDatabase(
                f"The database was upgraded by a newer version of Lookalike (to {revision}), and "
                f"this one knows it up to {newest_revision()}: install the newer version."
            )
        # Imported here because it takes a third of a second, and most starts do not need it.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes.update(connection=connection, announce=announce)
        command.upgrade(config, "head")


def newest_revision() -> str:
    """Return the revision of the last migration, the prefix of its file name."""
    return max(_revisions())


@cache
def _revisions() -> frozenset[str]:
    paths = (MIGRATIONS / "versions").glob("[0-9]*.py")
    return frozenset(path.name.partition("_")[0] for path in paths)


def _revision(connection: Connection) -> str | None:
    """Return the revision of the database's schema, None for an empty database."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))


def check_postgres(connection: Connection, *, minimum: int = MIN_POSTGRES) -> None:
    """Raise `UnusableDatabase` if Postgres is older than `minimum`."""
    version: int = connection.scalar(text("SELECT current_setting('server_version_num')::int"))  # pyright: ignore[reportAssignmentType]
    if version < minimum * 10000:
        raise UnusableDatabase(
            f"The database is Postgres {version // 10000}; Lookalike needs {minimum} or newer."
        )


def check_pgvector(connection: Connection) -> None:
    """Create the vector extension if need be; raise `UnusableDatabase` if it is too old."""
    if (
        connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"))
        is None
    ):
        raise UnusableDatabase(
            "The database has no vector extension: install pgvector on its server, "
            "or choose a host that offers it."
        )
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    except ProgrammingError as exc:
        raise UnusableDatabase(
            "This user may not create the vector extension: ask an administrator to run "
            "CREATE EXTENSION vector in this database."
        ) from exc
    installed: str = connection.scalar(
        text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    )  # pyright: ignore[reportAssignmentType]
    if tuple(int(part) for part in installed.split(".")[:2]) < MIN_PGVECTOR:
        raise UnusableDatabase(
            f"The database has pgvector {installed}; Lookalike needs 0.8 or newer: update it, "
            "then run ALTER EXTENSION vector UPDATE."
        )


def _reason(exc: Unavailable) -> str:
    return _first_line(getattr(exc.__cause__, "orig", exc.__cause__))
