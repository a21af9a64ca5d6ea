"""Storage of uploaded files: a folder, or any storage that fsspec supports."""

import asyncio
import re
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from time import monotonic

import fsspec

from app.problems import NotFound, StorageUnavailable, WrongSetting
from app.store.database import Database
from app.store.upload_use import UPLOAD_SCHEME, lock_upload, unused_uploads

CHECKED_S = 10
HASH = re.compile(r"[0-9a-f]{64}")


class Media:
    """Stores files by the SHA-256 of their bytes, under a folder or an fsspec URL.

    Raises `WrongSetting` if fsspec cannot open the URL. Everything else raises `StorageUnavailable`
    if the storage fails: it is full, read-only or away.
    """

    def __init__(self, root: str) -> None:
        url = root if "://" in root else str(Path(root).absolute())
        try:
            self._files, self._root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as exc:
            raise WrongSetting(f"MEDIA_URL: {root} cannot be opened: {exc}") from exc
        self._checked_at = -float("inf")

    async def save(self, sha256: str, data: bytes) -> None:
        """Store a file, replacing one with the same hash."""
        with storage_errors():
            await asyncio.to_thread(self._save, sha256, data)

    async def load(self, sha256: str) -> bytes:
        """Return the bytes of a file; raises `NotFound`."""
        try:
            with storage_errors(besides=FileNotFoundError):
                return await asyncio.to_thread(self._files.cat_file, self._path(sha256))
        except FileNotFoundError as exc:
            raise NotFound("The uploaded file no longer exists.") from exc

    async def delete(self, sha256: str) -> None:
        """Delete a file if it exists."""
        try:
            with storage_errors(besides=FileNotFoundError):
                await asyncio.to_thread(self._files.rm_file, self._path(sha256))
        except FileNotFoundError:
            return

    async def check(self) -> None:
        """Raise `StorageUnavailable` unless a file can be written; its success lasts 10 s."""
        if monotonic() - self._checked_at < CHECKED_S:
            return
        with storage_errors():
            await asyncio.to_thread(self._probe)
        self._checked_at = monotonic()

    def _save(self, sha256: str, data: bytes) -> None:
        path = self._path(sha256)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, data)

    def _probe(self) -> None:
        path = f"{self._root}/.probe-{token_hex(8)}"
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(path, b"May be deleted.")
        self._files.rm_file(path)

    def _path(self, sha256: str) -> str:
        if not HASH.fullmatch(sha256):
            raise NotFound("The uploaded file no longer exists.")
        return f"{self._root}/{sha256[:2]}/{sha256}"


async def delete_unused_uploads(urls: Collection[str], *, database: Database, media: Media) -> None:
    """Delete the files of uploads that neither an image nor an item of a job uses."""
    async with database.begin() as connection:
        unused = await unused_uploads(connection, urls)
    for url in unused:
        # Asked again under the lock: someone may have stored it again meanwhile.
        async with database.begin() as connection:
            await lock_upload(connection, url)
            if await unused_uploads(connection, [url]):
                await media.delete(url.removeprefix(UPLOAD_SCHEME))


@contextmanager
def storage_errors(*, besides: type[OSError] | tuple[()] = ()) -> Generator[None]:
    """Turn errors of the file system, or of what stands in for one, into `StorageUnavailable`."""
    try:
        yield
    except besides:
        raise
    except OSError as exc:
        raise StorageUnavailable from exc
