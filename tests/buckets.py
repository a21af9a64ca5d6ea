"""A bucket in memory that can be away, as buckets are, and lose or damage files."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class AwayError(Exception):
    """What the library of a bucket raises, which is no `OSError`."""


class Bucket(MemoryFileSystem):
    """`bucket://NAME`; signed URLs are those of a host of its own."""

    protocol = "bucket"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    is_away = False
    damages = False
    puts = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("bucket:/"))

    @classmethod
    def keys(cls, name: str) -> list[str]:
        """The keys of the thumbnails in a bucket."""
        paths = [path for path in cls.store if path.startswith(f"/{name}/thumbnails/")]
        return sorted(path.rpartition("/")[2].removesuffix(".jpg") for path in paths)

    @classmethod
    @contextmanager
    def away(cls) -> Generator[None]:
        cls.is_away = True
        try:
            yield
        finally:
            cls.is_away = False

    def cat_file(self, path: str, *args: Any, **options: Any) -> bytes:
        self._check()
        data = super().cat_file(path, *args, **options)
        return data[:-1] + b"?" if self.damages else data

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self._check()
        type(self).puts += 1
        super().pipe_file(path, value, **options)

    def rm_file(self, path: str) -> None:
        self._check()
        super().rm_file(path)

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        return f"https://bucket.example{self._strip_protocol(path)}?until={expiration}"

    def _check(self) -> None:
        if self.is_away:
            raise AwayError("Could not connect to the endpoint URL")


fsspec.register_implementation("bucket", Bucket, clobber=True)
