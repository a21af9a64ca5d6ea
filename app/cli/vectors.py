"""The command `vectors rebuild`."""

from contextlib import aclosing

from app.cli.terminal import bar, say
from app.settings import read_settings
from app.store.index import open_index
from app.store.index_kinds import index_bytes, kind_for, kind_of, rebuild_index
from app.store.spaces import Space


async def rebuild() -> None:
    """Make the indexes of all spaces of the kind that the settings want."""
    async with open_index(read_settings(), announce=lambda _: None, in_use=False) as index:
        for space in index.spaces.all:
            await _rebuild(space)


async def _rebuild(space: Space) -> None:
    vectors = space.vectors
    before, kind = kind_of(vectors), await kind_for(vectors)
    bytes_before = await index_bytes(vectors)
    with bar(f"Indexing the vectors of {space.name}", 100) as show:
        async with aclosing(rebuild_index(vectors, kind)) as shares:
            async for share in shares:
                show(round(100 * share))
    if "milvus" in (before, kind):
        where = "in Milvus" if kind == "milvus" else f"in Postgres, of the kind {kind}"
        again = ", made anew" if before == kind else ""
        say(f"The index of {space.name}'s vectors is {where} now{again}.")
        return
    if before == kind:
        say(f"The index of {space.name}'s vectors is of the kind {kind} already.")
        return
    say(
        f"The index of {space.name}'s vectors is of the kind {kind} now, of "
        f"{await index_bytes(vectors) / 1e6:.1f} MB; that of the kind {before} had "
        f"{bytes_before / 1e6:.1f} MB."
    )
