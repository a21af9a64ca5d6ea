"""Folders and files that exports go to and imports come from, here or in a bucket.

Local ones are opened by their path, not by a URL, so that any name will do.
"""

import contextlib
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from app.indexing.files import etag_of, is_local, local_path, open_regular, storage_of
from app.problems import NotFound, StorageUnavailable

SUFFIX = ".parquet"
_SCRATCH = re.compile(r"\.[0-9a-f]{16}\.part")
# As Spark and others name what is no data: `_SUCCESS`, `_temporary`, `.part-0.parquet.crc`.
_NO_DATA = (".", "_")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a folder: its name within it, and a text that changes when the file does."""

    name: str
    version: str

    @property
    def shown(self) -> str:
        """The name, printable whatever bytes it has."""
        return printable(self.name)


class Place:
    """A file or a folder, by its path or its URL.

    What cannot be written or read raises `StorageUnavailable`, unless it says something else.
    """

    def __init__(self, place: str) -> None:
        if is_local(place):
            self._files: Any = LocalFileSystem()
            self._path = local_path(place)
        else:
            self._files, self._path = storage_of(place)
            self._path = self._path.rstrip("/")
        self.shown = printable(place)
        self.key = f"{self._files.protocol}:{self._path}"

    def is_folder(self) -> bool:
        """Return whether it is one; raises `NotFound` if there is nothing."""
        try:
            with self._errors("read"):
                return self._files.info(self._path)["type"] == "directory"
        except FileNotFoundError as exc:
            raise NotFound(f"There is no file or folder {self.shown}.") from exc

    def size(self) -> int:
        """Return the bytes of a file."""
        with self._errors("read"):
            return int(self._files.size(self._path) or 0)

    def has(self, name: str) -> bool:
        """Return whether the folder has a file of this name."""
        with self._errors("read"):
            return bool(self._files.exists(self._below(name)))

    def parquet_files(self) -> list[StoredFile]:
        """Return the Parquet files below the folder, by name; none if it does not exist."""
        with self._errors("read"):
            found: dict[str, Any] = self._files.find(self._path, detail=True)
        start = len(self._path.rstrip("/")) + 1
        named = sorted((path[start:], info) for path, info in found.items())
        return [
            StoredFile(name, etag_of(info))
            for name, info in named
            if name.lower().endswith(SUFFIX)
            and not any(step.startswith(_NO_DATA) for step in name.split("/"))
        ]

    def open(self, name: str = "") -> BinaryIO:
        """Open the file, or one of the folder, for reading; never blocks on a pipe."""
        path = self._below(name)
        if isinstance(self._files, LocalFileSystem):
            return open_regular(path)
        with self._errors("read"):
            return self._files.open(path, "rb")

    def make_folder(self) -> None:
        """Create the folder, or remove what writes that were interrupted left in it."""
        with self._errors("written"):
            self._files.makedirs(self._path, exist_ok=True)
            # In a bucket, a folder that has no files yet does not exist.
            with contextlib.suppress(FileNotFoundError):
                for path in self._files.ls(self._path, detail=False):
                    if _SCRATCH.fullmatch(path.rpartition("/")[2]):
                        self._files.rm_file(path)

    @contextmanager
    def written(self, name: str = "") -> Generator[BinaryIO]:
        """Open the file, or one of the folder, for writing; it appears when it is whole.

        It is written beside its place and renamed: of many stores, closing a file that was not
        written to its end would show what there is of it.
        """
        path = self._below(name)
        scratch = f"{path.rpartition('/')[0]}/.{token_hex(8)}.part"
        with self._errors("written"):
            try:
                with self._files.open(scratch, "wb") as file:
                    yield file
                    if isinstance(self._files, LocalFileSystem):
                        file.flush()
                        os.fsync(file.fileno())
                self._rename(scratch, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._files.rm_file(scratch)
                raise

    def _rename(self, source: str, target: str) -> None:
        if type(self._files).mv is not AbstractFileSystem.mv:
            self._files.mv(source, target)
            return
        # Which fsspec's own would do by patterns, and names may hold a `*` or brackets.
        self._files.cp_file(source, target)
        self._files.rm_file(source)

    def _below(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}" if name else self._path

    @contextmanager
    def _errors(self, doing: str) -> Generator[None]:
        # Each kind of storage raises errors of its own; what is written may raise others, too.
        ours = Exception if doing == "read" else OSError
        try:
            yield
        except FileNotFoundError:
            if doing == "read":
                raise
            raise StorageUnavailable(f"{self.shown} cannot be written: no such folder.") from None
        except ours as exc:
            reason = (exc.strerror if isinstance(exc, OSError) else None) or exc
            raise StorageUnavailable(f"{self.shown} cannot be {doing}: {reason}.") from exc


def printable(name: str) -> str:
    """Return a name without half characters and control characters, for lines of text."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)
