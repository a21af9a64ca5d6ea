"""`lookalike keys`, up to a server that accepts what it made."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.cli.test_main import Run, run

__all__ = ["run"]


def add(run: Run, name: str, *arguments: str) -> str:
    done = run("keys", "add", name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def listed(run: Run) -> list[dict[str, object]]:
    return json.loads(run("keys", "list", "--json").stdout)


def test_a_key_is_shown_once_and_only_its_hash_is_stored(run: Run, database_url: str) -> None:
    secret = add(run, "ci", "--scope", "write", "--scope", "faces")
    assert len(secret) >= 43
    assert add(run, "other", "--scope", "read") != secret
    with psycopg.connect(database_url) as connection:
        rows = str(connection.execute("SELECT api_keys::text FROM api_keys").fetchall())
    assert secret not in rows
    told = run("keys", "list")
    assert secret not in told.stdout + told.stderr
    assert "ci  write,faces  made " in told.stdout
    assert "never used" in told.stdout
    assert [(key["name"], key["scopes"]) for key in listed(run)] == [
        ("ci", ["write", "faces"]),
        ("other", ["read"]),
    ]


def test_as_json_for_scripts(run: Run) -> None:
    done = run("keys", "add", "ci", "--scope", "read", "--expires", "1.5d", "--json")
    key = json.loads(done.stdout)
    assert key["key"].startswith("lk_")
    left = datetime.fromisoformat(key["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=1.4) < left < timedelta(days=1.6)


def test_a_revoked_key_is_gone_and_its_name_free(run: Run) -> None:
    first = add(run, "ci", "--scope", "read")
    done = run("keys", "revoke", "ci")
    assert done.returncode == 0
    assert "No key is left" in done.stderr
    assert listed(run) == []
    assert add(run, "ci", "--scope", "read") != first
    assert "No key is left" not in run("keys", "revoke", "ci", API_KEYS="one").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add", "ci"], 2, "--scope"),
        (["add", "ci", "--scope", "delete"], 2, "delete"),
        (["add", "ci", "--scope", "read", "--expires", "soon"], 2, "--expires"),
        (["add", "ci", "--scope", "read", "--expires", "2020-01-01"], 1, "expired already"),
        (["add", "ci", "--scope", "read", "--expires", "-1d"], 1, "expired already"),
        (["add", "ci", "--scope", "read", "--expires", "9999999999d"], 2, "--expires"),
        (["add", "two words", "--scope", "read"], 1, "A key's name"),
        (["add", "API_KEYS:1", "--scope", "read"], 1, "A key's name"),
        (["add", "taken", "--scope", "read"], 1, "There is a key named taken already."),
        (["revoke", "nobody"], 1, "There is no key named nobody."),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    run: Run, arguments: list[str], code: int, message: str
) -> None:
    add(run, "taken", "--scope", "read")
    done = run("keys", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""
