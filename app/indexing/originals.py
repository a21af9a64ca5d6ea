"""The originals of images: uploaded files, kept as long as they are needed, and files elsewhere."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from app.indexing.files import read_file
from app.indexing.media import Media
from app.indexing.requests import MAX_TITLE
from app.indexing.thumbnail_keeper import ThumbnailKeeper
from app.problems import NotFound, PictureTooLarge, Problem, Unavailable
from app.store.claims import Claims
from app.store.images import UPLOAD_SCHEME, Entry, ImageRow
from app.store.items import NewItem

NAME_TOO_LONG = f"The file's name is longer than {MAX_TITLE:,} characters."


class Originals:
    """Reads originals, and keeps the files of uploads that an image, a job or an upload needs.

    `thumbnails` are kept, and go, with them.
    """

    def __init__(
        self, media: Media, claims: Claims, thumbnails: ThumbnailKeeper, *, max_bytes: int
    ) -> None:
        self._media = media
        self.thumbnails = thumbnails
        self._claims = claims
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def keeping(self, data: bytes, *, title: str) -> AsyncGenerator[NewItem]:
        """Store an uploaded file; yields it as an item, a failed one if it is too large.

        Inside, no delete takes the file. On leaving, it goes unless an image or a job needs it by
        then.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        entry = Entry(UPLOAD_SCHEME + sha256, title=title)
        if len(data) > self._max_bytes:
            yield NewItem("upload", entry, PictureTooLarge.over(self._max_bytes).detail)
        elif len(title) > MAX_TITLE:
            yield NewItem("upload", replace(entry, title=title[:100]), NAME_TOO_LONG)
        else:
            async with self.claimed(entry):
                await self._media.save(sha256, data)
                yield NewItem("upload", entry)

    @asynccontextmanager
    async def claimed(self, entry: Entry) -> AsyncGenerator[None]:
        """Keep an upload's file from being deleted; on leaving, it goes if nothing needs it."""
        sha256 = entry.url.removeprefix(UPLOAD_SCHEME)
        claim_id = await self._claims.claim(sha256)
        try:
            yield
        finally:
            # Whatever came of it has been said; without a database the claim ends by itself.
            with contextlib.suppress(Unavailable):
                async with self._claims.unneeded([sha256], released=claim_id) as unneeded:
                    await self._delete(unneeded)

    async def load(self, entry: Entry) -> bytes:
        """Return the bytes of an upload; raises `NotFound`."""
        return await self._media.load(entry.url.removeprefix(UPLOAD_SCHEME))

    async def read(self, image: ImageRow) -> bytes | None:
        """Return the bytes of an upload or a file; None for an image on the web.

        Raises `NotFound` if the file was removed or changed since it was indexed.
        """
        if image.url.startswith(UPLOAD_SCHEME):
            return await self._media.load(image.sha256)
        if image.url.startswith(("http:", "https:")):
            return None
        try:
            data, _ = await asyncio.to_thread(read_file, image.url, max_bytes=self._max_bytes)
        except Problem as exc:
            raise NotFound("The file no longer exists.") from exc
        if data is None or hashlib.sha256(data).hexdigest() != image.sha256:
            raise NotFound("The file has changed since it was indexed.")
        return data

    async def remove_unneeded(self, urls: Collection[str]) -> None:
        """Remove the files of those uploads that nothing needs, and such thumbnails.

        Other URLs are passed over. What needed them has been deleted, and that is committed.
        """
        hashes = [url.removeprefix(UPLOAD_SCHEME) for url in urls if url.startswith(UPLOAD_SCHEME)]
        if hashes:
            async with self._claims.unneeded(hashes) as unneeded:
                await self._delete(unneeded)
        await self.thumbnails.sweep_if_possible()

    async def _delete(self, hashes: Sequence[str]) -> None:
        for sha256 in hashes:
            await self._media.delete(sha256)
