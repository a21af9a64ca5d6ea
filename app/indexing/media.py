"""Where uploaded files are kept: a folder, or any storage that fsspec knows."""

import asyncio
import re
from pathlib import Path

import fsspec

from app.problems import NotFound, WrongSetting

HASH = re.compile(r"[0-9a-f]{64}")


class Media:
    """Files by the SHA-256 of their bytes, under a folder or an fsspec URL.

    Raises `WrongSetting` for a URL that fsspec cannot open.
    """

    def __init__(self, root: str) -> None:
        url = root if "://" in root else str(Path(root).absolute())
        try:
            self._files, self._root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as exc:
            raise WrongSetting(f"MEDIA_URL: {root} cannot be opened: {exc}") from exc

    async def save(self, sha256: str, data: bytes) -> None:
        """Keep a file."""
        await asyncio.to_thread(self._save, sha256, data)

    async def load(self, sha256: str) -> bytes:
        """Return a file; raises `NotFound`."""
        try:
            return await asyncio.to_thread(self._files.cat_file, self._path(sha256))
        except FileNotFoundError as exc:
            raise NotFound("The uploaded file is no longer there.") from exc

    async def delete(self, sha256: str) -> None:
        """Forget a file, if it is there."""
        try:
            await asyncio.to_thread(self._files.rm_file, self._path(sha256))
        except FileNotFoundError:
            return

    def _save(self, sha256: str, data: bytes) -> None:
        path = self._path(sha256)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, data)

    def _path(self, sha256: str) -> str:
        if not HASH.fullmatch(sha256):
            raise NotFound("The uploaded file is no longer there.")
        return f"{self._root}/{sha256[:2]}/{sha256}"
