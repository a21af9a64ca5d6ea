"""API keys as servers accept them: scopes, expiry, revocation, last use, and no secret in a log."""

import asyncio
import base64
import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.lookalike import Lookalike
from app.problems import DatabaseUnavailable
from app.store.keys import ApiKey, ApiKeys, KeyScope
from app.web.keyring import TTL_S, KeyRing
from app.web.server import create_app
from tests.conftest import Server
from tests.live import Loop
from tests.web.asgi import PROBES, Asgi, with_settings


def add(lookalike: Lookalike, loop: Loop, name: str, *scopes: KeyScope, **options: Any) -> str:
    _, secret = loop.run(ApiKeys(lookalike.database).add(name, scopes, **options))
    return secret


@contextmanager
def asgi(lookalike: Lookalike, **settings: Any) -> Generator[Asgi]:
    changed = with_settings(lookalike, **settings)
    yield Asgi(create_app(changed, routes=PROBES), changed)


@pytest.mark.parametrize(
    ("scope", "implied", "read", "write"),
    [
        ("read", ["read"], 200, 403),
        ("write", ["read", "write"], 200, 200),
        ("admin", ["admin", "read", "write"], 200, 200),
        ("faces", ["faces"], 403, 403),
    ],
)
def test_a_scope_permits_what_it_says(
    lookalike: Lookalike, loop: Loop, scope: KeyScope, implied: list[str], read: int, write: int
) -> None:
    secret = add(lookalike, loop, "mine", scope)
    password = base64.b64encode(f"anyone:{secret}".encode()).decode()
    with asgi(lookalike, read_access="key") as send:
        for authorization in (f"Bearer {secret}", f"Basic {password}"):
            given = {"authorization": authorization}
            answer = loop.run(send("GET", "/probe", headers=given))
            assert answer.status_code == read
            if read == 200:
                assert (answer.json()["key"], answer.json()["scopes"]) == ("mine", implied)
            refused = loop.run(send("POST", "/probe", headers=given))
            assert refused.status_code == write
            if write == 403:
                assert refused.json()["type"] == "/docs#scope-missing"
        assert loop.run(send("GET", "/probe")).status_code == 401


def test_a_key_in_the_database_closes_writing_to_those_without(
    lookalike: Lookalike, loop: Loop
) -> None:
    secret = add(lookalike, loop, "mine", "write")
    with asgi(lookalike) as send:
        assert loop.run(send("POST", "/probe")).status_code == 401
        assert loop.run(send("GET", "/probe")).status_code == 200
        given = {"authorization": f"Bearer {secret}"}
        assert loop.run(send("POST", "/probe", headers=given)).status_code == 200


def test_an_expired_key_is_none_and_opens_nothing(lookalike: Lookalike, loop: Loop) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    secret = add(lookalike, loop, "old", "admin", expires_at=soon)
    given = {"authorization": f"Bearer {secret}"}

    async def expire() -> None:
        async with lookalike.database.begin() as connection:
            await connection.exec_driver_sql("UPDATE api_keys SET expires_at = now()")

    with asgi(lookalike) as send:
        assert loop.run(send("POST", "/probe", headers=given)).status_code == 200
    loop.run(expire())
    with asgi(lookalike) as send:
        assert loop.run(send("POST", "/probe", headers=given)).status_code == 401
        assert loop.run(send("POST", "/probe")).status_code == 401


def test_api_keys_stay_valid_beside_those_of_the_database(lookalike: Lookalike, loop: Loop) -> None:
    secret = add(lookalike, loop, "mine", "read")
    with asgi(lookalike, api_keys=["first", "second"]) as send:
        for given, status in (("second", 200), (secret, 403), ("third", 401), ("", 401)):
            headers = {"authorization": f"Bearer {given}"}
            assert loop.run(send("POST", "/probe", headers=headers)).status_code == status


@pytest.fixture
def table(lookalike: Lookalike) -> ApiKeys:
    return ApiKeys(lookalike.database)


class Counted(ApiKeys):
    """A table that counts how often it is asked, and can be away."""

    reads = 0
    writes = 0
    away = False

    async def all(self) -> list[ApiKey]:
        self.reads += 1
        if self.away:
            raise DatabaseUnavailable
        return await super().all()

    async def mark_used(self, used: Any) -> None:
        self.writes += 1
        await super().mark_used(used)


def test_two_processes_refuse_a_revoked_key_within_the_stated_time(
    lookalike: Lookalike, loop: Loop, table: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = add(lookalike, loop, "mine", "read").encode()
    clock = [1000.0]
    monkeypatch.setattr("app.web.keyring.monotonic", lambda: clock[0])
    rings = [KeyRing(table), KeyRing(table)]

    async def known() -> list[bool]:
        return [await ring.find(secret) is not None for ring in rings]

    assert loop.run(known()) == [True, True]
    loop.run(table.revoke("mine"))
    clock[0] += TTL_S
    assert loop.run(known()) == [False, False]


def test_the_keys_are_read_once_for_many_requests(lookalike: Lookalike, loop: Loop) -> None:
    table = Counted(lookalike.database)
    ring = KeyRing(table, ttl_s=1000)

    async def ask() -> None:
        await asyncio.gather(*(ring.find(b"x%d" % i) for i in range(100)))
        await asyncio.gather(*(ring.has_keys() for _ in range(100)))

    loop.run(ask())
    assert table.reads == 1


def test_the_last_use_is_written_seldom_and_when_the_server_stops(
    lookalike: Lookalike, loop: Loop
) -> None:
    secret = add(lookalike, loop, "mine", "read").encode()
    table = Counted(lookalike.database)
    ring = KeyRing(table, use_interval_s=1000)

    async def ask() -> None:
        for _ in range(100):
            assert await ring.find(secret) is not None

    loop.run(ask())
    assert table.writes == 0
    loop.run(ring.close())
    assert table.writes == 1
    [key] = loop.run(table.all())
    assert key.used_at is not None
    assert key.used_at > key.created_at


def test_while_the_database_is_away_the_keys_read_last_stay(
    lookalike: Lookalike, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    secret = add(lookalike, loop, "mine", "read").encode()
    table = Counted(lookalike.database)
    ring = KeyRing(table, ttl_s=0)
    assert loop.run(ring.find(secret)) is not None
    table.away = True
    assert loop.run(ring.find(secret)) is not None
    assert "API keys cannot be read" in caplog.text
    with pytest.raises(DatabaseUnavailable):
        loop.run(KeyRing(table).find(secret))


def test_no_secret_is_in_a_log(
    server: Server, loop: Loop, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = add(server.lookalike, loop, "mine", "write")
    given = {"authorization": f"Bearer {secret}"}
    with asgi(server.lookalike, api_keys=["configured"]) as send:
        for authorization in (given, {"authorization": "Bearer configured"}, {}):
            for path in ("/probe", "/broken", "/nothing"):
                loop.run(send("GET", path, headers=authorization))
    told = caplog.text + "".join(capfd.readouterr())
    assert secret not in told
    assert "configured" not in told


@pytest.mark.parametrize("compare", ["app.web.keyring.compare_digest"])
def test_every_key_is_compared_whatever_is_given(
    lookalike: Lookalike, loop: Loop, monkeypatch: pytest.MonkeyPatch, compare: str
) -> None:
    secrets = [add(lookalike, loop, f"key{i}", "read").encode() for i in range(5)]
    compared: list[tuple[bytes, bytes]] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(compare, counting)
    ring = KeyRing(ApiKeys(lookalike.database), ttl_s=1000)
    for secret in (*secrets, b"none"):
        compared.clear()
        loop.run(ring.find(secret))
        assert len(compared) == 5
