"""The declarations of the command `faces`."""

import asyncio

import click

from app.cli.options import json_option


@click.group(invoke_without_command=True)
@click.option("--forget", is_flag=True, help="Erase all faces and what was made of them.")
@click.option("--yes", is_flag=True, help="Do not ask before erasing.")
@json_option
@click.pass_context
def faces(context: click.Context, forget: bool, yes: bool, as_json: bool) -> None:
    """Look for faces in the images that are indexed already, as FACES says.

    It can be ended at any time, and goes on where it was. docs/faces.md says what is stored.
    """
    from app.cli import faces as commands

    if context.invoked_subcommand is not None:
        return
    if not forget:
        asyncio.run(commands.look(as_json=as_json))
        return
    if not yes and not as_json:
        click.confirm("Erase every face in the index, and what was made of them?", abort=True)
    asyncio.run(commands.forget(as_json=as_json))


@faces.command("fetch")
def fetch_models() -> None:
    """Fetch the models that FACES needs: 7 MB for boxes, 21 more for attributes, then 101."""
    from app.cli.faces import fetch

    fetch()
