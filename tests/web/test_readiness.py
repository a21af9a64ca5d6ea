"""A disk that is full or read-only, and a newer schema: said at the start, and while running."""

import errno
import logging
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import psycopg
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.encoding.encoder import Encoder
from app.lookalike import Lookalike
from app.problems import UnusableDatabase
from app.settings import Settings
from app.store import database as database_module
from app.store.database import newest_revision, open_database
from app.web.server import create_app
from tests.conftest import Server, client_of, opened
from tests.image_host import ImageHost
from tests.jobs.test_interruptions import RAISE, poison
from tests.live import Loop
from tests.process import lookalike as run
from tests.samples import png
from tests.web.test_problems import check


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "app")


def execute(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement)  # pyright: ignore[reportArgumentType]


def causes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(r)["fields"].get("cause", "") for r in caplog.records if r.message == "request"]


def refused(*arguments: str, **environment: str) -> str:
    """Return the one line with which a command refuses to start."""
    done = run(*arguments, ENCODER="builtin", **environment)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("lookalike: ")
    return line


# A newer schema


@pytest.fixture
def upgraded(database_url: str) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")


def test_a_newer_schema_stops_the_start(upgraded: None, database_url: str, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path)}
    for command in ("serve", "worker", "stats"):
        line = refused(command, PORT="0", **environment)
        assert "newer version of Lookalike (to 9999)" in line
        assert newest_revision() in line


def test_a_newer_schema_is_left_as_it_is(upgraded: None, settings: Settings) -> None:
    for _ in range(2):
        with pytest.raises(UnusableDatabase):
            open_database(settings)


def test_a_schema_that_becomes_newer_is_a_503_where_it_matters(
    server: Server, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    answer = server.client.get("/readyz")
    assert check(answer, 503)["type"] == "/docs#schema-changed"
    # What the newer version has not changed still works.
    assert server.client.get("/api/images").status_code == 200
    execute(database_url, "ALTER TABLE images RENAME COLUMN title TO name")
    answer = server.client.get("/api/images")
    assert check(answer, 503)["type"] == "/docs#schema-changed"
    assert "title" in causes(caplog)[-1]
    assert server.client.get("/healthz").status_code == 200


def test_a_mistake_of_ours_is_none_of_the_schema(server: Server, database_url: str) -> None:
    execute(database_url, "ALTER TABLE images RENAME COLUMN title TO name")
    assert check(server.client.get("/api/images"), 500)["type"] == "/docs#problem"


# A database that cannot write


def test_a_full_disk_of_the_database_is_a_503(
    server: Server,
    host: ImageHost,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert server.client.get("/readyz").status_code == 200
    poison(database_url, RAISE.format("53100"))
    images = [host.add("poison.png", png(99))]
    assert server.client.post("/api/upsert", json={"images": images}).status_code == 503
    answer = server.client.get("/readyz")
    assert check(answer, 503)["type"] == "/docs#database-busy"
    assert causes(caplog) == ["the cause", "the cause"]
    monkeypatch.setattr(database_module, "UNWRITABLE_S", 0)
    assert server.client.get("/readyz").status_code == 200


def test_other_limits_of_the_database_say_nothing_about_its_disk(
    server: Server, host: ImageHost, database_url: str
) -> None:
    poison(database_url, RAISE.format("57014"))
    images = [host.add("poison.png", png(99))]
    assert server.client.post("/api/upsert", json={"images": images}).status_code == 503
    assert server.client.get("/readyz").status_code == 200


def test_a_read_only_database_is_a_503(server: Server, host: ImageHost, database_url: str) -> None:
    name = server.lookalike.database.engine.url.database
    execute(database_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    # It holds for new connections.
    execute(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    check(server.client.get("/readyz"), 503)
    check(server.client.post("/api/upsert", json={"images": [host.url("seed/1.png")]}), 503)
    assert server.client.get("/api/images").status_code == 200


# The folder of the embedded database and of uploads


@pytest.mark.parametrize("place", ["data", "data/postgres"])
def test_a_data_dir_that_cannot_be_made_stops_the_start(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    line = refused("serve", "--port", "0", DATA_DIR=str(tmp_path / "data"))
    assert line.startswith(f"lookalike: DATA_DIR: {tmp_path / 'data'}")
    assert " cannot be written: " in line


def test_a_postgres_that_does_not_start_says_why_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "postgres"
    folder.mkdir(parents=True)
    (folder / "foreign").touch()
    line = refused("stats", DATA_DIR=str(tmp_path / "data"))
    assert "does not start: directory " in line
    assert "exists but is not empty" in line


def test_uploads_that_cannot_be_stored_stop_the_start(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "media").touch()
    environment = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path)}
    line = refused("serve", "--port", "0", **environment)
    assert line.startswith(f"lookalike: Uploads cannot be stored in {tmp_path / 'media'}: ")


class FullDisk(MemoryFileSystem):
    """A storage that may be full."""

    protocol = "fulldisk"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    error: ClassVar[int | None] = None

    def _open(self, path: str, mode: str = "rb", *args: Any, **others: Any) -> Any:
        if self.error is not None and mode != "rb":
            raise OSError(self.error, os.strerror(self.error))
        return super()._open(path, mode, *args, **others)

    def pipe_file(self, path: str, value: bytes, **others: Any) -> None:
        self.open(path, "wb").close()
        super().pipe_file(path, value, **others)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[FullDisk]:
    fsspec.register_implementation("fulldisk", FullDisk, clobber=True)
    monkeypatch.setattr(FullDisk, "store", {})
    monkeypatch.setattr("app.indexing.media.CHECKED_S", 0)
    return FullDisk


@pytest.fixture
def storing(
    settings: Settings, loop: Loop, encoder: Encoder, disk: type[FullDisk]
) -> Generator[Server]:
    changed = settings.model_copy(update={"media_url": "fulldisk://media"})
    with (
        opened(changed, loop, encoder) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        yield Server(address, client, lookalike)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_storage_is_a_503_until_it_is_not(
    storing: Server,
    disk: type[FullDisk],
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def upload() -> Any:
        return storing.client.post("/api/images", files={"file": ("a.png", png(1))})

    with monkeypatch.context() as patch:
        patch.setattr(disk, "error", number)
        for answer in (upload(), storing.client.get("/readyz")):
            assert check(answer, 503)["type"] == "/docs#storage-unavailable"
            assert answer.headers["retry-after"] == "30"
        assert all(os.strerror(number) in cause for cause in causes(caplog))
        assert len(causes(caplog)) == 2
        assert storing.client.get("/healthz").status_code == 200
        assert storing.query(png(1)) == []
    assert storing.client.get("/readyz").status_code == 200
    assert upload().json()["results"][0]["status"] == "indexed"
    assert len(disk.store) == 1


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 503), (errno.EROFS, 503), (errno.ECHILD, 500)]
)
def test_a_body_for_which_the_disk_has_no_room_is_a_503(
    lookalike: Lookalike, loop: Loop, number: int, status: int
) -> None:
    async def spool(_: Request) -> Response:
        raise OSError(number, os.strerror(number))

    app = create_app(lookalike, routes=[Route("/api/spool", spool)])
    with loop.serving(app) as address, client_of(address) as client:
        check(client.get("/api/spool"), status)
