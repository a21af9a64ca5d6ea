"""Storage of uploaded files and thumbnails: a folder, or any storage that fsspec supports."""

import asyncio
import contextlib
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import monotonic

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.indexing.files import is_local
from app.problems import NotFound, Problem, StorageUnavailable, WrongSetting

CHECKED_S = 10
HASH = re.compile(r"[0-9a-f]{64}")


class Media:
    """Stores uploads by the SHA-256 of their bytes, and thumbnails by their keys.

    `root` is a folder or an fsspec URL.

    Raises `WrongSetting` if fsspec cannot open the URL. Everything else raises `StorageUnavailable`
    if the storage fails: it is full, read-only or away.
    """

    def __init__(self, root: str) -> None:
        self.is_bucket = not is_local(root)
        url = root if "://" in root else str(Path(root).absolute())
        try:
            self._files, self._root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as exc:
            raise WrongSetting(f"MEDIA_URL: {root} cannot be opened: {exc}") from exc
        self._checked_at = -float("inf")

    async def save(self, sha256: str, data: bytes) -> None:
        """Store a file, unless it is there.

        It appears whole: it is written beside its place and renamed.
        """
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

    def put_thumbnail(self, key: str, data: bytes) -> None:
        """Store a thumbnail, in the thread that calls.

        No row has the key yet, so that nothing reads a file that is not whole.
        """
        with storage_errors():
            path = self._thumbnail_path(key)
            if not isinstance(self._files, LocalFileSystem):
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._files.pipe_file(path, data)
                return
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(path).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def load_thumbnail(self, key: str) -> bytes | None:
        """Return a thumbnail, in the thread that calls; None if it is not there."""
        with suppress(FileNotFoundError), storage_errors(besides=FileNotFoundError):
            return self._files.cat_file(self._thumbnail_path(key))
        return None

    def delete_thumbnail(self, key: str) -> None:
        """Delete a thumbnail if it is there, in the thread that calls."""
        with suppress(FileNotFoundError), storage_errors(besides=FileNotFoundError):
            self._files.rm_file(self._thumbnail_path(key))

    def signed_thumbnail(self, key: str, *, for_s: int) -> str:
        """Return a URL of a thumbnail that holds for some seconds; it may block.

        Raises `WrongSetting` if this storage signs none.
        """
        try:
            return str(self._files.sign(self._thumbnail_path(key), expiration=for_s))
        except NotImplementedError as exc:
            raise WrongSetting("THUMBNAIL_REDIRECTS: this MEDIA_URL has no signed URLs.") from exc
        except Exception as exc:
            raise WrongSetting(f"THUMBNAIL_REDIRECTS: MEDIA_URL signs no URL: {exc}") from exc

    async def check(self) -> None:
        """Raise `StorageUnavailable` unless a file can be written; its success lasts 10 s."""
        if monotonic() - self._checked_at < CHECKED_S:
            return
        with storage_errors():
            await asyncio.to_thread(self._probe)
        self._checked_at = monotonic()

    def _save(self, sha256: str, data: bytes) -> None:
        path = self._path(sha256)
        if self._is_whole(path, len(data)):
            return
        folder = path.rpartition("/")[0]
        self._files.makedirs(folder, exist_ok=True)
        # Object stores would do without, but not SFTP, SMB or HDFS.
        scratch = f"{folder}/.{sha256}.{token_hex(8)}.part"
        try:
            with self._files.open(scratch, "wb") as file:
                file.write(data)
                if isinstance(self._files, LocalFileSystem):
                    file.flush()
                    os.fsync(file.fileno())
            self._files.mv(scratch, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.rm_file(scratch)
            raise

    def _is_whole(self, path: str, size: int) -> bool:
        """Return whether a file is there; one of another size was cut by an older version."""
        try:
            return self._files.size(path) == size
        except FileNotFoundError:
            return False

    def _probe(self) -> None:
        path = f"{self._root}/.probe-{token_hex(8)}"
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(path, b"May be deleted.")
        self._files.rm_file(path)

    def _thumbnail_path(self, key: str) -> str:
        return f"{self._root}/thumbnails/{key[:2]}/{key}.jpg"

    def _path(self, sha256: str) -> str:
        if not HASH.fullmatch(sha256):
            raise NotFound("The uploaded file no longer exists.")
        return f"{self._root}/{sha256[:2]}/{sha256}"


@contextmanager
def storage_errors(*, besides: type[Exception] = Problem) -> Generator[None]:
    """Turn errors of the file system, or of what stands in for one, into `StorageUnavailable`.

    Those of the libraries behind it, too: that of a bucket whose host is away is no `OSError`.
    """
    try:
        yield
    except (Problem, besides):
        raise
    except Exception as exc:
        raise StorageUnavailable from exc
