"""The command `keys`, with its arguments."""

import asyncio
from typing import Any

import click

from app.cli.options import json_option


@click.group()
def keys() -> None:
    """Make API keys, list them and revoke them."""


@keys.command("add")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["read", "write", "admin", "faces"]),
    multiple=True,
    required=True,
    help="What it may do; several times for several. write reads, too; admin does all but faces.",
)
@click.option(
    "--expires", metavar="WHEN", help="When it ends: days from now (90d), a date, or a time."
)
@json_option
def add_key(name: str, scopes: tuple[Any, ...], expires: str | None, as_json: bool) -> None:
    """Make a key, and print it. It is not stored, so that it cannot be shown again."""
    from app.cli.keys import add

    asyncio.run(add(name, scopes, expires, as_json=as_json))


@keys.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List the keys, what they may do and when they were last used."""
    from app.cli.keys import show_all

    asyncio.run(show_all(as_json=as_json))


@keys.command("revoke")
@click.argument("name")
def revoke_key(name: str) -> None:
    """Make a key invalid for ever, within two seconds for every running server."""
    from app.cli.keys import revoke

    asyncio.run(revoke(name))
