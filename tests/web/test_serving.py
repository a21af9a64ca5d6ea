"""The server as a process: start, stop, a port that is taken, and a database that goes away."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from app.problems import PortTaken
from app.settings import Settings
from app.store.embedded import embedded_server
from app.web.serving import _listen, _Server, another_port
from tests.conftest import client_of
from tests.image_host import ImageHost
from tests.process import lookalike as run
from tests.samples import altered, png

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(
    *arguments: str, **environment: str
) -> Generator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """Run `lookalike serve` on a free port, and kill it if it does not stop by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--port", "0", *arguments],
        # No line for each request: after the start, nobody reads them, and the pipe would fill up.
        env={
            **os.environ,
            "ENCODER": "builtin",
            "FETCH_ALLOW": "127.0.0.1",
            "LOG_LEVEL": "warning",
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with client_of(_url(process)) as client:
            yield client, process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if "running at http://" in line:
            return line.split("running at ")[1].split()[0]
    raise AssertionError("".join(lines))


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(30)


def postgres_runs(data_dir: Path) -> bool:
    return (data_dir / "postgres" / "postmaster.pid").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_and_its_database_and_nothing_is_lost(
    tmp_path: Path, host: ImageHost, number: int
) -> None:
    # The embedded database, created from scratch.
    environment = {"DATA_DIR": str(tmp_path / "data")}
    url = host.url("seed/1.png")
    with serving(**environment) as (client, process):
        client.post("/api/upsert", json={"images": [url]}).raise_for_status()
        client.post("/api/images", files={"file": ("b.png", png(2))}).raise_for_status()
        assert stop(process, number) == 0
    assert not postgres_runs(tmp_path / "data")
    with serving(**environment) as (client, process):
        assert client.post("/api/query", files={"file": altered(png(1))}).json() == [url]
        [upload] = client.post("/api/query", files={"file": png(2)}).json()
        assert client.get(upload).content == png(2)
        stats = client.get("/api/stats").json()
        assert (stats["images"], stats["database"]) == (2, "embedded")
        assert stop(process) == 0


def test_commands_and_the_server_share_the_embedded_database(tmp_path: Path) -> None:
    environment = {"DATA_DIR": str(tmp_path / "data")}
    (tmp_path / "a.png").write_bytes(png(1))
    with serving(**environment) as (client, process):
        done = run("index", "a.png", ENCODER="builtin", **environment)
        assert done.returncode == 0
        assert len(client.post("/api/query", files={"file": png(1)}).json()) == 1
        assert stop(process) == 0
    assert not postgres_runs(tmp_path / "data")


@contextmanager
def taken_port() -> Generator[int]:
    """A free port of 127.0.0.1 on which another server now listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_serve_names_a_taken_port_and_how_to_choose_another(database_url: str) -> None:
    with taken_port() as port:
        environment = {"DATABASE_URL": database_url, "ENCODER": "builtin"}
        for done in (
            run("serve", "--port", str(port), **environment),
            run("serve", PORT=str(port), **environment),
        ):
            assert done.returncode == 1
            assert done.stderr.strip() == (
                f"lookalike: Port {port} on 127.0.0.1 is already in use. "
                f"Choose another with --port or PORT, for example --port {another_port(port)}."
            )


def test_the_demo_names_a_taken_port_and_how_to_choose_another() -> None:
    with taken_port() as port:
        done = subprocess.run(
            [sys.executable, "-m", "demo"],
            cwd=ROOT,
            env={**os.environ, "PORT": str(port), "ENCODER": "builtin"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"lookalike: Port {port} is already in use. Choose another with PORT, "
        f"for example: PORT={another_port(port)} make demo"
    )


def test_a_port_that_another_server_takes_during_the_start(settings: Settings) -> None:
    """Two sockets may be bound to one port as long as neither listens."""
    with _listen(settings.model_copy(update={"port": 0})) as first:
        port = first.getsockname()[1]
        settings = settings.model_copy(update={"port": port})
        with _listen(settings) as second:
            first.listen()
            server = _Server(Starlette(), settings, ready=never)
            with pytest.raises(PortTaken, match=f"Port {port} on 127.0.0.1 is already in use"):
                asyncio.run(server.serve([second]))


async def never() -> None:
    raise AssertionError("the server started")


def test_the_suggested_port_is_a_port() -> None:
    assert [another_port(port) for port in (8000, 65535)] == [8001, 65534]


def test_the_server_recovers_when_its_database_comes_back(tmp_path: Path, host: ImageHost) -> None:
    postgres = embedded_server(tmp_path / "elsewhere")
    try:
        with serving(DATABASE_URL=postgres.get_uri(), DATA_DIR=str(tmp_path)) as (client, process):
            url = host.url("seed/1.png")
            client.post("/api/upsert", json={"images": [url]}).raise_for_status()
            postgres.stop()
            for _ in range(2):
                answer = client.post("/api/query", files={"file": png(1)})
                assert answer.status_code == 503
                assert answer.headers["content-type"] == "application/problem+json"
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
            postgres.start()
            assert client.get("/readyz").status_code == 200
            assert client.post("/api/query", files={"file": png(1)}).json() == [url]
            assert stop(process) == 0
    finally:
        postgres.cleanup()


def test_responses_are_sent_without_delay(settings: Settings) -> None:
    """A body that waits for the acknowledgement of the head is 40 ms late."""

    async def accept() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection = transport.get_extra_info("socket")
                accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        listener = _listen(settings.model_copy(update={"port": 0}))
        server = await asyncio.get_running_loop().create_server(Protocol, sock=listener)
        _, writer = await asyncio.open_connection(*listener.getsockname())
        no_delay = await accepted
        writer.close()
        server.close()
        return no_delay

    assert asyncio.run(accept()) == 1
