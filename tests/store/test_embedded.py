"""The embedded Postgres: someone always looks after it, and no one is left with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import psutil
import psycopg
import pytest

from app.store.embedded import EmbeddedPostgres, embedded_server
from tests.process import lookalike
from tests.running import serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "postgres"


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.embedded.LOOK_EVERY_S", 0.02)


def postmaster_id(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().splitlines()[0])


def kill_postmaster(folder: Path) -> int:
    """Kill it for real; return the process id that it had."""
    number = postmaster_id(folder)
    os.kill(number, signal.SIGKILL)
    return number


def until(passes: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = monotonic() + within_s
    while not passes():
        assert monotonic() < deadline
        sleep(0.01)


def answers(server: EmbeddedPostgres) -> bool:
    try:
        with psycopg.connect(server.get_uri()) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def runs(number: int) -> bool:
    """Whether a process runs; here no one may wait for one that has ended."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_postmaster_that_dies_is_started_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = embedded_server(folder)
    with psycopg.connect(server.get_uri()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    killed = kill_postmaster(folder)
    until(lambda: not runs(killed) and answers(server))
    with psycopg.connect(server.get_uri()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]
    said = [record.message for record in caplog.records if record.name == "app.store.embedded"]
    until(lambda: "the embedded postgres runs again" in caplog.text)
    assert said[0] == "the embedded postgres died: starting it"
    again = postmaster_id(folder)
    server.cleanup()
    until(lambda: not runs(again))


def test_one_that_does_not_start_is_tried_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = embedded_server(folder)
    wrong = folder / "lookalike.conf"
    right = wrong.read_text()
    wrong.write_text("nonsense = on\n")
    kill_postmaster(folder)
    until(lambda: "the embedded postgres does not start" in caplog.text)
    wrong.write_text(right)
    until(lambda: answers(server))
    server.cleanup()


def test_the_last_to_use_it_stops_it(folder: Path) -> None:
    first, second = embedded_server(folder), embedded_server(folder)
    number = postmaster_id(folder)
    first.cleanup()
    assert answers(second)
    first.cleanup()
    assert answers(second)
    second.cleanup()
    until(lambda: not runs(number))


def test_one_that_a_killed_process_left_behind_is_taken_over(folder: Path) -> None:
    user = (
        "import sys, time; from pathlib import Path;"
        "from app.store.embedded import embedded_server;"
        "embedded_server(Path(sys.argv[1])); print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", user, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
    number = postmaster_id(folder)
    assert runs(number)
    server = embedded_server(folder)
    assert postmaster_id(folder) == number
    assert answers(server)
    server.cleanup()
    until(lambda: not runs(number))


@pytest.mark.parametrize("depth", [1, 60], ids=["beside its data", "its path is too long there"])
def test_a_number_that_another_process_has_now_does_not_prevent_a_start(
    folder: Path, tmp_path: Path, depth: int
) -> None:
    """As after the container was killed: its lock files are there, with the number of another."""
    folder = folder.joinpath(*["d"] * depth)
    server = embedded_server(folder)
    left = (folder / "postmaster.pid").read_text().splitlines()
    of_socket = Path(left[4], f".s.PGSQL.{left[3]}.lock")
    locks = {folder / "postmaster.pid": left, of_socket: of_socket.read_text().splitlines()}
    server.cleanup()
    # Postgres takes heed only of processes of its own user.
    other = embedded_server(tmp_path / "other")
    for path, lines in locks.items():
        path.write_text("\n".join([str(postmaster_id(tmp_path / "other")), *lines[1:]]) + "\n")
    server = embedded_server(folder)
    assert answers(server)
    server.cleanup()
    assert answers(other)
    other.cleanup()


def test_a_server_and_the_commands_beside_it_share_and_keep_it(folder: Path) -> None:
    settings = {"DATA_DIR": str(folder.parent), "ENCODER": "builtin"}
    with serving(**settings) as (client, server):
        number = postmaster_id(folder)
        beside = lookalike("stats", **settings)
        assert beside.returncode == 0, beside.stderr
        assert (postmaster_id(folder), client.get("/readyz").status_code) == (number, 200)
        kill_postmaster(folder)
        server.wait_for("the embedded postgres runs again")
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/api/stats").status_code == 200
        number = postmaster_id(folder)
        assert server.stop() == 0
    assert not runs(number)
