import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from app.encoding.encoder import Encoder
from app.encoding.loading import Encoders
from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from app.lookalike import Lookalike, open_lookalike
from app.settings import Settings, read_settings
from app.store import near_urls, nearest, vectors
from app.store.database import open_database
from app.store.embedded import embedded_server
from app.store.milvus import searching
from app.store.scans import Kind
from app.store.spaces import open_vectors
from app.web.openapi import Operation
from app.web.server import create_app
from tests.image_host import ImageHost
from tests.live import Loop
from tests.milvus_server import MilvusServer
from tests.onnx_models import write_clip

pytest_plugins = ["tests.browser"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests run with another kind of vector index, or with thumbnails in files."""
    parser.addoption("--vector-index", choices=["halfvec", "bit", "milvus"], default="halfvec")
    parser.addoption("--thumbnails", choices=["database", "media"], default="database")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give each run a folder of its own.

    Every start of pytest closes the folder that runs share by default to other users, and with it
    the Postgres of a run by root that has not ended yet.
    """
    global _thumbnails
    _thumbnails = config.option.thumbnails
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = mkdtemp(prefix="lookalike-test-")
        config.add_cleanup(lambda: rmtree(config.option.basetemp, ignore_errors=True))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: pytest's processes must agree on names, and gzip has the time."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")
_numbers = count()
# Where the thumbnails of all tests are; `--thumbnails` chooses it.
_thumbnails = "database"


@pytest.fixture(scope="session", autouse=True)
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Isolate tests from the settings, caches and `.env` of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(KEPT):
            if not name.startswith("PYTEST"):
                patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("bare"))
        yield


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)


# What all tests set, beside what is in `settings_of`.
_chosen: dict[str, Any] = {}


@pytest.fixture(scope="session", autouse=True)
def vector_index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Kind]:
    """The kind of vector index; if it is not the default, it is used for the smallest tables.

    With Milvus, new tables of each test have their index there, in collections of their own.
    """
    kind = request.config.getoption("--vector-index")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        if kind != "halfvec":
            for module in (nearest, near_urls, vectors, searching):
                patch.setattr(module, "most_of_small", lambda _: 0)
            for module in (nearest, searching):
                patch.setattr(module, "ROWS_PER_CANDIDATE", 0)
        if kind == "milvus":
            server = MilvusServer(tmp_path_factory.mktemp("milvus"))
            stack.callback(server.close)
            server.start()
            _chosen.update(vector_index="milvus", milvus_url=server.url)
        yield "halfvec" if kind == "milvus" else kind


@pytest.fixture(scope="session")
def encoder() -> Generator[Encoder]:
    """The built-in encoder, loaded once for all tests that do not count embeddings."""
    encoder = Encoder(OnnxModel(BUILTIN_DIRECTORY, name="builtin"), source="builtin")
    yield encoder
    encoder.close()


@pytest.fixture(scope="session")
def postgres(
    tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, vector_index: Kind
) -> Generator[str]:
    """The URL of a running embedded Postgres.

    It has a template database, `migrated`, with all tables and the built-in encoder's vector table.
    """
    server = embedded_server(tmp_path_factory.mktemp("postgres") / "data")
    url = server.get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated")
    database = open_database(read_settings(database_url=named(url, "migrated")))
    open_vectors(database, encoder, wanted=vector_index)
    database.sync_engine.dispose()
    yield url
    server.cleanup()


def named(url: str, database: str) -> str:
    """Return the URL of another database on the same server."""
    return url.replace("/postgres?", f"/{database}?")


@contextmanager
def databases(postgres: str) -> Generator[Callable[..., str]]:
    """A function that creates a database and returns its URL; all are dropped after the test."""
    made: list[str] = []

    def make(template: str = "migrated") -> str:
        name = f"test_{next(_numbers)}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        return named(postgres, name)

    yield make
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def new_database(postgres: str) -> Generator[Callable[..., str]]:
    with databases(postgres) as make:
        yield make


@pytest.fixture
def database_url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_of(database_url, tmp_path)


def settings_of(database_url: str, folder: Path) -> Settings:
    return read_settings(
        database_url=database_url,
        data_dir=folder / "data",
        encoder="builtin",
        # Most tests change encoders for what has nothing to do with there being two.
        copy_encoder="off",
        thumbnails=_thumbnails,
        fetch_allow=["127.0.0.1"],
        fetch_timeout_s=10,
        retry_s=0.01,
        # On a busy machine, the default is soon over.
        verify_ms=30_000,
        **_chosen,
    )


@pytest.fixture(scope="session")
def loop() -> Generator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def lookalike(settings: Settings, loop: Loop, encoder: Encoder) -> Generator[Lookalike]:
    with opened(settings, loop, encoder) as lookalike:
        yield lookalike


@contextmanager
def opened(settings: Settings, loop: Loop, encoder: Encoder) -> Generator[Lookalike]:
    """Open a Lookalike with batches and counts of its own around a model that is loaded already."""
    with closing(Encoder(encoder.model, source=encoder.source)) as own:
        manager = open_lookalike(settings, announce=lambda _: None, encoders=Encoders.single(own))
        with loop.entered(manager) as lookalike:
            yield lookalike


@dataclass
class Server:
    """A running Lookalike server and its client."""

    address: str
    client: httpx.Client
    lookalike: Lookalike

    def upsert(self, images: Sequence[Any]) -> list[dict[str, Any]]:
        answer = self.client.post("/api/upsert", json={"images": images})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def start(self, images: Sequence[Any]) -> dict[str, Any]:
        """Create a job of URLs; return it."""
        answer = self.client.post(
            "/api/upsert", json={"images": images}, headers={"prefer": "respond-async"}
        )
        assert answer.status_code == 202, answer.text
        return answer.json()

    def done(self, job_id: int) -> dict[str, Any]:
        """Follow a job to its end; return it."""
        deadline = monotonic() + 60
        with self.client.stream("GET", f"/api/jobs/{job_id}/events") as answer:
            for line in answer.iter_lines():
                assert monotonic() < deadline, f"job {job_id} does not end"
                if line == "event: end":
                    break
        return self.client.get(f"/api/jobs/{job_id}").json()

    def query(self, data: bytes) -> list[str]:
        answer = self.client.post("/api/query", files={"file": data})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def search(self, data: bytes, **fields: Any) -> list[dict[str, Any]]:
        answer = self.client.post("/api/search", files={"file": data}, data=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]


@pytest.fixture
def server(lookalike: Lookalike, loop: Loop) -> Generator[Server]:
    with loop.serving(create_app(lookalike)) as address, client_of(address) as client:
        yield Server(address, client, lookalike)


@pytest.fixture(scope="module")
def shared_server(
    postgres: str, loop: Loop, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Server]:
    """One server for the tests of a module that ask only, or are refused."""
    with databases(postgres) as make:
        settings = settings_of(make(), tmp_path_factory.mktemp("shared"))
        with (
            opened(settings, loop, encoder) as lookalike,
            loop.serving(create_app(lookalike)) as address,
            client_of(address) as client,
        ):
            yield Server(address, client, lookalike)


@pytest.fixture
def reading(
    settings: Settings, loop: Loop, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Lookalike]:
    """A Lookalike whose encoder embeds text, of a few words."""
    folder = write_clip(tmp_path_factory.mktemp("models") / "tiny")
    changed = settings.model_copy(update={"encoder": str(folder)})
    with loop.entered(open_lookalike(changed, announce=lambda _: None)) as lookalike:
        yield lookalike


@pytest.fixture
def silent(
    settings: Settings, loop: Loop, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Server]:
    """A server whose encoder embeds images only."""
    folder = write_clip(tmp_path_factory.mktemp("models") / "silent", text=False)
    changed = settings.model_copy(update={"encoder": str(folder)})
    with (
        loop.entered(open_lookalike(changed, announce=lambda _: None)) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        yield Server(address, client, lookalike)


def path_of(operation: Operation) -> str:
    """Return an operation's path, with the id of something that does not exist."""
    unknown = "999999" if operation.path.startswith("/api/jobs") else str(UUID(int=0))
    return operation.path.replace("{id}", unknown)


def client_of(address: str, **options: Any) -> httpx.Client:
    # Nothing is encrypted on loopback, and certificates take a while to load.
    plain: Any = {"timeout": 60, "trust_env": False, "verify": False}
    return httpx.Client(base_url=address, **plain, **options)


@pytest.fixture(scope="session")
def _host_server(loop: Loop) -> Generator[ImageHost]:
    host = ImageHost()
    with loop.serving(host.app()) as host.address:
        yield host


@pytest.fixture
def host(_host_server: ImageHost) -> ImageHost:
    """The image host, reset for each test."""
    _host_server.pictures.clear()
    _host_server.lists.clear()
    _host_server.asked.clear()
    _host_server.sent.clear()
    _host_server.most_at_once = 0
    _host_server.troubles.clear()
    _host_server.password, _host_server.refusal = "me:hunter2", 401
    _host_server.open.set()
    return _host_server
