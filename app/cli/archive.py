"""The commands `export` and `import`."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.indexing import embed_missing
from app.cli.terminal import bar, say
from app.indexing.files import is_local, local_path
from app.lookalike import Lookalike, open_lookalike
from app.problems import StorageUnavailable
from app.settings import read_settings

# pyarrow is an extra, and takes as long as the rest: the functions import what uses it.
if TYPE_CHECKING:
    from app.indexing.archive import Archive, Imported
    from app.indexing.places import Place


async def export(place: str, rows_per_file: int | None, *, bare: bool) -> None:
    """Export the index to a file, or in parts to a folder if `place` is one.

    With a number of rows per file, it is a folder. A `bare` one has no thumbnails.
    """
    from app.indexing.places import Place

    settings = read_settings()
    async with open_lookalike(settings, announce=say) as lookalike:
        if rows_per_file is not None or _is_folder_to_be(place):
            await _export_parts(lookalike, Place(place), rows_per_file, bare=bare)
        else:
            await _export_file(lookalike, place, bare=bare)


async def import_(place: str, *, anew: bool) -> bool:
    """Import a file or a folder of them, and embed the images that came without a vector.

    Returns whether everything could be read. With `anew`, all parts of a folder are imported, also
    those that an import finished before it was interrupted.
    """
    from app.indexing.places import Place

    folder = await asyncio.to_thread(Place(place).is_folder)
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        if folder:
            return await _import_parts(lookalike, Place(place), anew=anew)
        await _import_file(lookalike, place)
    return True


async def _export_file(lookalike: Lookalike, place: str, *, bare: bool) -> None:
    from app.indexing.places import Place

    written = 0
    with bar("Writing", await lookalike.catalog.count()) as show:
        async with aclosing(_archive(lookalike, bare=bare).write(place)) as writing:
            async for written in writing:
                show(written)
    target = Place(place)
    size = await asyncio.to_thread(target.size)
    say(f"Exported {written} images with their vectors to {target.shown} ({size / 1e6:.1f} MB).")


async def _export_parts(
    lookalike: Lookalike, place: "Place", rows_per_file: int | None, *, bare: bool
) -> None:
    from app.indexing.archive_parts import ROWS_PER_FILE, PartsExport

    rows = rows_per_file or ROWS_PER_FILE
    archive = _archive(lookalike, bare=bare)
    work = PartsExport(archive, place, rows_per_file=rows, announce=say)
    written = 0
    with bar("Writing", await lookalike.catalog.count()) as show:
        try:
            async with aclosing(work.run()) as writing:
                async for written in writing:
                    show(written)
        except StorageUnavailable:
            say(f"Parts that are written: {work.parts}. The same command goes on after them.")
            raise
    say(f"Exported {written} images with their vectors to {place.shown} (parts: {work.parts}).")


async def _import_file(lookalike: Lookalike, place: str) -> None:
    from app.indexing.archive import Imported, count_images

    archive, read = _archive(lookalike), Imported(0, 0)
    total = await asyncio.to_thread(count_images, place)
    with bar("Reading", total) as show:
        async with aclosing(archive.read(place)) as reading:
            async for read in reading:
                show(read.images)
    await _complete(lookalike, archive, read)
    await _say_imported(lookalike, place, read)


async def _import_parts(lookalike: Lookalike, place: "Place", *, anew: bool) -> bool:
    from app.indexing.archive import Imported
    from app.indexing.archive_parts import PartsImport
    from app.store.imports import ImportedParts

    archive, read = _archive(lookalike), Imported(0, 0)
    work = PartsImport(archive, ImportedParts(lookalike.database), place, announce=say)
    total = await work.plan(anew=anew)
    with bar("Reading", total) as show:
        async with aclosing(work.run()) as reading:
            async for read in reading:
                show(read.images)
    await _complete(lookalike, archive, read)
    await work.finish()
    await _say_imported(lookalike, place.shown, read)
    if work.failed:
        say(f"{work.failed} files could not be read; the same command takes up only these again.")
    return not work.failed


async def _complete(lookalike: Lookalike, archive: "Archive", read: "Imported") -> None:
    """Build the vector indexes that are missing, and make the vectors."""
    with bar("Indexing the vectors", 100) as show:
        async for share in archive.build_index():
            show(round(100 * share))
    if read.vectors < read.images:
        await embed_missing(lookalike, lookalike.index.spaces.all)


async def _say_imported(lookalike: Lookalike, place: str, read: "Imported") -> None:
    total = await lookalike.catalog.count()
    say(
        f"Imported {read.images} images from {place}, {read.vectors} of them with their vectors; "
        f"{read.images - read.vectors} were embedded again. The index has {total} now."
    )


def _archive(lookalike: Lookalike, *, bare: bool = False) -> "Archive":
    from app.indexing.archive import Archive

    return Archive(
        lookalike.database,
        lookalike.catalog,
        lookalike.index.spaces,
        thumbnails=lookalike.thumbnails,
        bare=bare,
    )


def _is_folder_to_be(place: str) -> bool:
    """Return whether an export to this place is one in parts."""
    if place.endswith("/"):
        return True
    if is_local(place):
        return Path(local_path(place)).is_dir()
    return not place.lower().endswith(".parquet")
