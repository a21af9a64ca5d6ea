"""The command `vectors`, with its arguments."""

import asyncio

import click


@click.group()
def vectors() -> None:
    """Change how vectors are indexed."""


@vectors.command("rebuild")
def rebuild_vectors() -> None:
    """Make the vector indexes of the kind that VECTOR_INDEX wants, if they are of another.

    Servers and workers go on meanwhile: searches use the old index until the new one is whole. With
    VECTOR_INDEX=auto, an index of whole vectors is made as long as it fits the database's memory,
    and one of their signs (bit) from then on. With VECTOR_INDEX=milvus, it is made in the Milvus at
    MILVUS_URL, anew if it is there already; auto leaves it there.
    """
    from app.cli.vectors import rebuild

    asyncio.run(rebuild())
