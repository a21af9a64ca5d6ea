"""DATABASE_READ_URL: searches read the replica, unless it is better that they do not."""

import logging
from collections.abc import Callable, Generator
from time import monotonic

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.problems import InvalidRequest, Problem, StorageUnavailable, WrongSetting
from app.settings import Settings
from app.store import replica as replica_module
from app.store.database import open_database
from app.store.images import Entry
from app.store.replica import Replica, replica_engine
from app.web.server import create_app
from tests.conftest import Server, client_of, opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, png
from tests.standby import Standby, standby_of

# Nothing of this machine's being busy makes a replica count as away.
pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KNOWN_FOR_S", "CHECKED_WITHIN_S", "MOST_LAG_S"):
        monkeypatch.setattr(replica_module, name, 600.0)


@pytest.fixture
def other_url(new_database: Callable[..., str]) -> str:
    """An empty index on the same server: it stands in for a replica that has replayed nothing."""
    return new_database()


@pytest.fixture
def standby(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Standby]:
    # A short path: Postgres puts its socket there.
    with standby_of(postgres, tmp_path_factory.mktemp("r")) as standby:
        yield standby


def serving(settings: Settings, url: str, loop: Loop, encoder: Encoder) -> Generator[Server]:
    changed = settings.model_copy(update={"database_read_url": SecretStr(url)})
    with (
        opened(changed, loop, encoder) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        server = Server(address, client, lookalike)
        check(server, loop)
        yield server


@pytest.fixture
def server(settings: Settings, other_url: str, loop: Loop, encoder: Encoder) -> Generator[Server]:
    yield from serving(settings, other_url, loop, encoder)


@pytest.fixture
def replicated(
    settings: Settings, database_url: str, standby: Standby, loop: Loop, encoder: Encoder
) -> Generator[Server]:
    wait_for(standby, database_url)
    yield from serving(settings, standby.url(database_url), loop, encoder)


def replica_of(server: Server) -> Replica:
    replica = server.lookalike.database.replica
    assert replica is not None
    return replica


def check(server: Server, loop: Loop) -> str:
    """Return what the replica is at this moment."""
    replica = replica_of(server)
    loop.run(replica.check(server.lookalike.database.engine))
    return replica.status.state


def wait_for(standby: Standby, database_url: str) -> None:
    """Wait until the standby has all that the primary has now."""
    with psycopg.connect(database_url) as connection:
        [position] = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or [""]
    deadline = monotonic() + 60
    while not standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'")[0]:
        assert monotonic() < deadline


def stranger(server: Server) -> httpx.Client:
    """A client that has written nothing."""
    return client_of(server.address)


def found(client: httpx.Client, data: bytes, **headers: str) -> list[str]:
    answer = client.post("/api/query", files={"file": data}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_searches_read_the_replica_and_nothing_else_does(
    server: Server, loop: Loop, host: ImageHost
) -> None:
    url = host.add("0.png", png(0))
    server.upsert([{"url": url}])
    with stranger(server) as client:
        assert found(client, png(0)) == []
        searched = client.post("/api/search", files={"file": png(0)})
        assert searched.json()["results"] == []
        assert client.get("/api/facets").json()["total"] == 0
        compared = client.post("/api/compare", files={"a": png(0), "b": png(0)})
        assert compared.json()["match"] == "exact"
        # Lists, images and jobs are those of the primary.
        assert client.get("/api/images").json()["total"] == 1
        assert client.get(f"/images/{Entry(url).id}/thumbnail").status_code == 200
    assert replica_of(server).reads["replica"] >= 4


def test_a_client_reads_what_it_wrote(server: Server, host: ImageHost) -> None:
    url = host.add("0.png", png(0))
    with stranger(server) as client:
        written = client.post("/api/upsert", json={"images": [{"url": url}]})
        cookie = written.headers["set-cookie"]
        assert "Max-Age=10" in cookie
        assert "HttpOnly" in cookie
        assert found(client, png(0)) == [url]
        assert client.get("/api/facets").json()["total"] == 1
        client.cookies.clear()
        assert found(client, png(0)) == []
        assert found(client, png(0), **{"cache-control": "no-cache"}) == [url]


def test_a_query_image_of_the_page_is_there_at_once(server: Server) -> None:
    with stranger(server) as client:
        sent = client.post("/", files={"file": ("a.png", png(0))})
        assert sent.status_code == 303
        assert client.get(sent.headers["location"]).status_code == 200


def test_what_the_replica_does_not_have_is_looked_for_on_the_primary(
    server: Server, host: ImageHost
) -> None:
    """Else a search by an image that someone has just indexed would not find its own query."""
    url = host.add("0.png", png(0))
    server.upsert([{"url": url}])
    with stranger(server) as client:
        asked = {"query": [{"id": str(Entry(url).id)}]}
        answer = client.post("/api/search", json=asked)
        assert answer.status_code == 200, answer.text
    assert replica_of(server).reads == {"replica": 0, "primary": 1}


@pytest.mark.parametrize("refusal", [StorageUnavailable, InvalidRequest])
def test_what_a_replica_refuses_is_asked_of_the_primary(
    server: Server, loop: Loop, refusal: type[Problem]
) -> None:
    """It may lack the faces of an image that it has, or have a thumbnail that was replaced."""

    async def read() -> str:
        if replica_engine() is not None:
            raise refusal("not there")
        return "found"

    assert loop.run(replica_of(server).read(read)) == "found"
    assert replica_of(server).status.state == "in use"


def test_a_replica_that_is_away_is_said_once_and_not_read(
    server: Server,
    loop: Loop,
    host: ImageHost,
    other_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "app")
    url = host.add("0.png", png(0))
    server.upsert([{"url": url}])
    assert server.client.get("/readyz").json()["replica"]["state"] == "in use"
    with psycopg.connect(other_url) as connection:
        connection.execute("ALTER TABLE alembic_version RENAME TO gone")
    with stranger(server) as client:
        assert [check(server, loop) for _ in range(3)] == ["away"] * 3
        assert found(client, png(0)) == [url]
        assert client.get("/readyz").json()["replica"] == {"state": "away"}
        metrics = client.get("/metrics").text
        assert "lookalike_replica_in_use 0.0" in metrics
        assert 'lookalike_search_reads_total{database="primary"}' in metrics
    with psycopg.connect(other_url) as connection:
        connection.execute("ALTER TABLE gone RENAME TO alembic_version")
    assert check(server, loop) == "in use"
    said = [r.message for r in caplog.records if "replica" in r.message]
    assert said == ["searches read the primary: the replica is away", "searches read the replica"]


def test_a_search_that_fails_on_the_replica_is_repeated(
    server: Server, loop: Loop, host: ImageHost, other_url: str
) -> None:
    url = host.add("0.png", png(0))
    server.upsert([{"url": url}])
    with stranger(server) as client, psycopg.connect(other_url) as connection:
        assert found(client, png(0)) == []
        # Whatever is asked of the replica now is cancelled, as by what it replays.
        name = other_url.partition("?")[0].rpartition("/")[2]
        connection.execute("LOCK TABLE images")
        connection.execute(f"LOCK TABLE {server.lookalike.vectors.table.name}")
        loop.run(timing_out(server, name))
        loop.run(replica_of(server).engine.dispose())
        assert found(client, png(0)) == [url]


async def timing_out(server: Server, database: str) -> None:
    async with server.lookalike.database.begin() as connection:
        await connection.execute(text(f"ALTER DATABASE {database} SET lock_timeout = 50"))


def test_a_replica_of_nothing_is_a_wrong_setting(settings: Settings) -> None:
    wrong = settings.model_copy(update={"database_read_url": SecretStr("mysql://host/db")})
    with pytest.raises(WrongSetting, match="DATABASE_READ_URL"):
        open_database(wrong)


@pytest.mark.slow
def test_a_standby_answers_what_it_has_replayed(
    replicated: Server, standby: Standby, database_url: str, loop: Loop, host: ImageHost
) -> None:
    server = replicated
    one, other = host.add("0.png", png(0)), host.add("1.png", png(1))
    server.upsert([{"url": one}])
    wait_for(standby, database_url)
    assert check(server, loop) == "in use"
    with stranger(server) as client:
        assert found(client, png(0)) == [one]
        # Keypoints that a search makes are stored on the primary, which goes on being writable.
        copies = client.post("/api/search", files={"file": altered(png(0))}).json()["results"]
        assert copies[0]["match"] == "copy"
        assert loop.run(server.lookalike.index.keypoints.made()).made == 1
        assert client.get("/readyz").status_code == 200
        assert replica_of(server).reads == {"replica": 2, "primary": 0}

        standby.pause()
        server.upsert([{"url": other}])
        assert server.query(png(1)) == [other]
        assert found(client, png(1)) == []
        assert found(client, png(1), **{"cache-control": "no-cache"}) == [other]
        standby.resume()
        wait_for(standby, database_url)
        assert found(client, png(1)) == [other]


@pytest.mark.slow
def test_a_standby_that_is_behind_is_not_read(
    replicated: Server,
    standby: Standby,
    database_url: str,
    loop: Loop,
    host: ImageHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = replicated
    wait_for(standby, database_url)
    assert check(server, loop) == "in use"
    standby.pause()
    url = host.add("0.png", png(0))
    server.upsert([{"url": url}])
    check(server, loop)
    lag_s = replica_of(server).status.lag_s
    assert lag_s is not None
    assert lag_s >= 0
    monkeypatch.setattr(replica_module, "MOST_LAG_S", 0.0)
    assert check(server, loop) == "behind"
    with stranger(server) as client:
        assert found(client, png(0)) == [url]
        assert client.get("/readyz").json()["replica"]["state"] == "behind"
    standby.resume()
    wait_for(standby, database_url)
    monkeypatch.setattr(replica_module, "MOST_LAG_S", 60.0)
    assert check(server, loop) == "in use"


@pytest.mark.slow
def test_a_standby_that_stops_costs_no_search(
    replicated: Server, standby: Standby, database_url: str, loop: Loop, host: ImageHost
) -> None:
    server = replicated
    url = host.add("0.png", png(0))
    server.upsert([{"url": url}])
    wait_for(standby, database_url)
    with stranger(server) as client:
        assert found(client, png(0)) == [url]
        standby.server.stop()
        for _ in range(3):
            assert found(client, png(0)) == [url]
        assert check(server, loop) == "away"
        standby.server.start()
        wait_for(standby, database_url)
        assert check(server, loop) == "in use"
        assert found(client, png(0)) == [url]


@pytest.mark.slow
def test_a_standby_that_was_promoted_is_not_read(
    replicated: Server, standby: Standby, database_url: str, loop: Loop, host: ImageHost
) -> None:
    """It goes its own way: its positions say nothing of what the primary has."""
    server = replicated
    wait_for(standby, database_url)
    assert check(server, loop) == "in use"
    standby.execute("SELECT pg_promote()")
    # Its own log grows by far more than the primary's.
    standby.execute(
        "SELECT count(pg_logical_emit_message(false, '', repeat('a', 100000)))"
        " FROM generate_series(1, 500)"
    )
    standby.execute("SELECT pg_switch_wal()")
    url = host.add("0.png", png(0))
    server.upsert([{"url": url}])
    assert check(server, loop) == "away"
    with stranger(server) as client:
        assert found(client, png(0)) == [url]
