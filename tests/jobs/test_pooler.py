"""Everything behind PgBouncer in transaction mode, where LISTEN succeeds and reaches no one."""

import asyncio
import logging
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import aclosing, contextmanager
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from app.settings import Settings
from app.store.images import Entry
from app.store.items import NewItem
from app.store.job_changes import JobChanges
from tests.image_host import ImageHost
from tests.jobs.test_feed import ITEMS, end_first, feed_of, seen
from tests.jobs.test_jobs import progressed, without_worker
from tests.live import Loop

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed"),
]


@pytest.fixture
def pooled(database_url: str, settings: Settings, tmp_path: Path) -> Generator[Settings]:
    """The settings of a process that reaches its database through PgBouncer."""
    with pgbouncer(database_url, tmp_path / "pgbouncer.ini") as url:
        yield settings.model_copy(update={"database_url": SecretStr(url)})


@contextmanager
def pgbouncer(url: str, configuration: Path) -> Generator[str]:
    """Run PgBouncer in front of a database; yields the database's URL there."""
    given = make_url(url)
    server = Path(str(given.query["host"]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration.write_text(
        f"[databases]\n{given.database} = host={server} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\n"
    )
    for path in (configuration, *configuration.parents):
        if path.owner() == pwd.getpwuid(os.getuid()).pw_name and path != Path("/"):
            path.chmod(path.stat().st_mode | (0o444 if path.is_file() else 0o555))
    # It does not run as root; the owner of the database may open its socket.
    owner = ["-u", server.owner()] if os.getuid() == 0 else []
    command = ["pgbouncer", "-q", *owner, str(configuration)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            there = f"postgresql://postgres@127.0.0.1:{port}/{given.database}"
            wait_for(there, process)
            yield there
        finally:
            process.terminate()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + 30
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert process.poll() is None
            assert monotonic() < deadline
        else:
            return


def test_changes_of_jobs_are_looked_for(
    pooled: Settings, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.store.job_changes")

    async def run() -> None:
        changes = JobChanges(lookalike.database)
        feed = feed_of(lookalike, changes)
        job_id = await lookalike.jobs.create("two", ITEMS)
        async with aclosing(feed.follow([job_id])) as followed:
            await seen(followed, 0)
            while "notifications do not arrive" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            for ended in (1, 2):
                await end_first(lookalike, job_id)
                await seen(followed, ended)
        assert not changes.arrive

    with pytest.MonkeyPatch.context() as patch, without_worker(pooled, loop) as lookalike:
        patch.setattr("app.store.job_changes.PROBE_S", 0.5)
        loop.run(run())


def test_a_worker_works(pooled: Settings, loop: Loop, host: ImageHost) -> None:
    with without_worker(pooled, loop) as lookalike, loop.entered(lookalike.jobs.working()):
        items = [NewItem("web", Entry(host.url(f"seed/{seed}.png"))) for seed in range(5)]
        job_id = loop.run(lookalike.jobs.create("five", items))
        loop.run(progressed(lookalike, job_id, 5))
        assert loop.run(lookalike.job_items.find(job_id)).counts == {"indexed": 5}
