"""Export to a folder of Parquet files, and import of one: a part at a time, each of them once."""

# pyarrow has no types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from app.indexing.archive import AFTER, LAST, Archive, Imported, Span, opened
from app.indexing.places import Place, StoredFile
from app.problems import InvalidRequest
from app.store.imports import ImportedParts, PartImported, key_of
from app.store.spaces import Space

T = TypeVar("T")
R = TypeVar("R")

ROWS_PER_FILE = 100_000
# What says that an export is whole, under the name that Spark gives it.
WHOLE = "_SUCCESS"
_PART = re.compile(r"part-(\d{6,9})\.parquet")
# Whose ends are read side by side.
_OPEN_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Written:
    """A part that is whole: the ids of its images are greater than `after`, up to `last`."""

    after: UUID | None
    last: UUID | None
    rows: int


class PartsExport:
    """Exports the index to a folder, and goes on where an earlier export stopped.

    Images are in the order of their ids, so that an image that was there all the time is in exactly
    one part; one that was indexed or deleted meanwhile may be in one or not. `announce` is called
    with what is to be said.
    """

    def __init__(
        self,
        archive: Archive,
        place: Place,
        *,
        rows_per_file: int = ROWS_PER_FILE,
        announce: Callable[[str], None],
    ) -> None:
        self._archive = archive
        self._place = place
        self._rows_per_file = rows_per_file
        self._announce = announce
        self.parts = 0

    async def run(self) -> AsyncGenerator[int]:
        """Write the parts that are missing; yields the number of images in those that are written.

        Raises `InvalidRequest` if the folder has something else, or a whole export.
        """
        there = await self._there()
        written, after = 0, None
        while True:
            part = there.get(self.parts)
            if part is None:
                span = self._span(there, after)
                if span.upto is None and not await self._archive.catalog.walk(after=after, limit=1):
                    break
                async with aclosing(self._write(span)) as writing:
                    async for count, last in writing:
                        yield written + count
                        part = _Written(after, last, count)
            if part is None or part.after != after:
                raise InvalidRequest(
                    f"{_name(self.parts)} in {self._place.shown} does not begin where the one "
                    "before it ends: two exports wrote there at once. Choose another folder."
                )
            written, after, self.parts = written + part.rows, part.last, self.parts + 1
            yield written
        await asyncio.to_thread(self._finish, written)

    def _span(self, there: Mapping[int, _Written], after: UUID | None) -> Span:
        """Return what the next part is to hold; a gap before later parts is filled."""
        later = [number for number in there if number > self.parts]
        if not later:
            return Span(after, None, self._rows_per_file)
        fills = min(later) == self.parts + 1
        return Span(after, there[min(later)].after, None if fills else self._rows_per_file)

    async def _write(self, span: Span) -> AsyncGenerator[tuple[int, UUID | None]]:
        """Write a part; yields how many images it has so far, and up to which id it reaches."""
        count, last = 0, span.after
        name = _name(self.parts)
        with self._place.written(name) as file:
            async with aclosing(self._archive.write_rows(file, span)) as rows:
                async for count, last in rows:
                    # What is not whole yet does not count.
                    yield count, last
        yield count, span.end(count, last)

    async def _there(self) -> Mapping[int, _Written]:
        """Return the parts that are whole, by number."""
        await asyncio.to_thread(self._place.make_folder)
        if await asyncio.to_thread(self._place.has, WHOLE):
            raise InvalidRequest(
                f"{self._place.shown} holds a whole export. Choose another folder, or remove it."
            )
        files = await asyncio.to_thread(self._place.parquet_files)
        found = {file.name: _PART.fullmatch(file.name) for file in files}
        strange = next((file for file in files if found[file.name] is None), None)
        if strange:
            raise InvalidRequest(
                f"{self._place.shown} holds {strange.shown}, which no export wrote. Choose another "
                "folder."
            )
        numbered = {int(match[1]): name for name, match in found.items() if match}
        parts = await _side_by_side(self._written, list(numbered.values()))
        there = {number: part for number, part in zip(numbered, parts, strict=True) if part}
        if there:
            await self._check_index(_name(min(there)))
            rows = sum(part.rows for part in there.values())
            self._announce(f"Goes on with an export: {rows} images are written already.")
        return there

    def _written(self, name: str) -> _Written | None:
        """Return what a part holds; None if it is damaged, and so is written again."""
        shown = f"{self._place.shown}: {name}"
        try:
            with opened(self._place, self._archive.spaces.all, name, shown=shown) as source:
                said = source.file.metadata.metadata or {}
                encoders = source.file.schema_arrow.metadata or {}
                rows = source.rows
        except InvalidRequest as problem:
            self._announce(f"{problem.detail} It is written again.")
            return None
        if AFTER not in said or LAST not in said:
            raise InvalidRequest(f"{shown} is not a part of an export. Choose another folder.")
        wanted = self._archive.schema.metadata
        if any(encoders.get(key) != encoder for key, encoder in wanted.items()):
            raise InvalidRequest(
                f"{shown} has vectors of another encoder. Choose another folder, or the encoder "
                "that the export was begun with."
            )
        return _Written(_id(said[AFTER]), _id(said[LAST]), rows)

    async def _check_index(self, name: str) -> None:
        """Raise `InvalidRequest` if a part is of another index."""
        ids = await asyncio.to_thread(self._first_ids, name)
        if ids and not await self._archive.catalog.find_all(ids):
            raise InvalidRequest(
                f"{self._place.shown} holds an export of another index. Choose another folder."
            )

    def _first_ids(self, name: str) -> Sequence[UUID]:
        with opened(self._place, self._archive.spaces.all, name) as source:
            if not source.file.num_row_groups:
                return []
            column = source.file.read_row_group(0, columns=["id"])["id"]
            return [UUID(value) for value in column.to_pylist()]

    def _finish(self, images: int) -> None:
        with self._place.written(WHOLE) as file:
            file.write(json.dumps({"images": images, "parts": self.parts}).encode())


class PartsImport:
    """Imports the Parquet files of a folder; what an earlier import finished is not done again.

    A part that cannot be read is named and left out; another import takes it up again. `announce`
    is called with what is to be said.
    """

    def __init__(
        self,
        archive: Archive,
        state: ImportedParts,
        place: Place,
        *,
        announce: Callable[[str], None],
    ) -> None:
        self._archive = archive
        self._state = state
        self._place = place
        self._announce = announce
        self._left: list[StoredFile] = []
        self._spaces: set[Space] = set()
        self._before = PartImported(0, 0)
        self._coming = 0
        self.failed = 0

    async def plan(self, *, anew: bool = False) -> int:
        """Look at all parts; return the number of images in those that can be read.

        With `anew`, all of them are imported. Raises `InvalidRequest` if there are none.
        """
        if anew:
            await self._state.forget(self._place.key)
        files = await asyncio.to_thread(self._place.parquet_files)
        if not files:
            raise InvalidRequest(f"There are no Parquet files in {self._place.shown}.")
        done = await self._state.done(self._place.key)
        finished = [part for file in files if (part := done.get(key_of(_key(file))))]
        self._before = PartImported(
            sum(part.images for part in finished), sum(part.vectors for part in finished)
        )
        if finished:
            self._announce(
                f"Goes on with an import: {len(finished)} of {len(files)} parts with "
                f"{self._before.images} images are imported already."
            )
        left = [file for file in files if key_of(_key(file)) not in done]
        for file, seen in zip(left, await _side_by_side(self._look, left), strict=True):
            if seen is not None:
                rows, spaces = seen
                self._left.append(file)
                self._coming += rows
                self._spaces |= spaces
        return self._before.images + self._coming

    async def run(self) -> AsyncGenerator[Imported]:
        """Import the parts that are left; yields the progress, with what was imported before."""
        await self._archive.expect(self._spaces, self._coming)
        images, vectors = self._before.images, self._before.vectors
        yield Imported(images, vectors)
        for file in self._left:
            read = Imported(0, 0)
            try:
                with opened(
                    self._place, self._archive.spaces.all, file.name, shown=self._shown(file)
                ) as source:
                    async with aclosing(self._archive.read_rows(source)) as reading:
                        async for read in reading:
                            yield Imported(images + read.images, vectors + read.vectors)
            except InvalidRequest as problem:
                self._fail(problem)
            else:
                done = PartImported(read.images, read.vectors)
                await self._state.add(self._place.key, _key(file), done)
            images, vectors = images + read.images, vectors + read.vectors

    async def finish(self) -> None:
        """Forget what is imported, if it is everything: another import is a new one."""
        if not self.failed:
            await self._state.forget(self._place.key)

    def _look(self, file: StoredFile) -> tuple[int, set[Space]] | None:
        try:
            with opened(
                self._place, self._archive.spaces.all, file.name, shown=self._shown(file)
            ) as source:
                return source.rows, source.reader.spaces
        except InvalidRequest as problem:
            self._fail(problem)
            return None

    def _fail(self, problem: InvalidRequest) -> None:
        self.failed += 1
        self._announce(f"failed: {problem.detail}")

    def _shown(self, file: StoredFile) -> str:
        return f"{self._place.shown.rstrip('/')}/{file.shown}"


async def _side_by_side(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Call `work` for each item, some at once, in threads."""
    places = asyncio.Semaphore(_OPEN_AT_ONCE)

    async def one(item: T) -> R:
        async with places:
            return await asyncio.to_thread(work, item)

    return await asyncio.gather(*map(one, items))


def _name(number: int) -> str:
    return f"part-{number:06}.parquet"


def _id(text: bytes) -> UUID | None:
    return UUID(text.decode()) if text else None


def _key(file: StoredFile) -> str:
    return f"{file.name}\0{file.version}"
