"""The command `keys`."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.cli.terminal import say, show_json
from app.settings import Settings, read_settings
from app.store.database import open_database
from app.store.keys import ApiKey, ApiKeys, KeyScope


async def add(name: str, scopes: Sequence[KeyScope], expires: str | None, *, as_json: bool) -> None:
    """Make a key and print its secret: alone on stdout, so that a script can take it."""
    expires_at = None if expires is None else _time(expires)
    async with _opened(read_settings()) as keys:
        key, secret = await keys.add(name, scopes, expires_at=expires_at)
    if as_json:
        show_json({**_document(key), "key": secret})
        return
    click.echo(secret)
    say(f"This is the key {name}. Keep it now: it is not stored, and cannot be shown again.")


async def show_all(*, as_json: bool) -> None:
    """Print the keys without their secrets."""
    settings = read_settings()
    async with _opened(settings) as keys:
        found = await keys.all()
    if as_json:
        show_json([_document(key) for key in found])
        return
    for key in found:
        used = "never used" if key.used_at is None else f"last used {_shown(key.used_at)}"
        ends = ""
        if key.expires_at is not None:
            ends = f", {'expired' if key.has_expired else 'expires'} {_shown(key.expires_at)}"
        scopes = ",".join(key.scopes)
        click.echo(f"{key.name}  {scopes}  made {_shown(key.created_at)}, {used}{ends}")
    if not found:
        say("There are no keys.")
    if settings.api_keys:
        say(f"API_KEYS has {len(settings.api_keys)} more, with the scope write.")


async def revoke(name: str) -> None:
    """Make a key invalid; raises `NotFound`."""
    settings = read_settings()
    async with _opened(settings) as keys:
        await keys.revoke(name)
        left = await keys.all()
    say(f"The key {name} is revoked.")
    if not left and not settings.api_keys:
        say("No key is left: clients on the server's own machine may now change the index.")


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[ApiKeys]:
    database = open_database(settings, announce=say)
    try:
        yield ApiKeys(database)
    finally:
        await database.close()


def _time(expires: str) -> datetime:
    """Return the time that `90d`, a date (its beginning) or a time means; local without a zone."""
    try:
        if expires.endswith("d"):
            return datetime.now(UTC) + timedelta(days=float(expires[:-1]))
        return datetime.fromisoformat(expires).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise click.UsageError(
            f"--expires takes days from now (90d), a date or a time (2027-01-31T12:00Z), "
            f"not {expires!r}."
        ) from exc


def _shown(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _document(key: ApiKey) -> dict[str, Any]:
    times = {"created_at": key.created_at, "expires_at": key.expires_at, "used_at": key.used_at}
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "expired": key.has_expired,
        **{name: time and time.isoformat() for name, time in times.items()},
    }
