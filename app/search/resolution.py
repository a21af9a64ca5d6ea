"""Groups of duplicates, resolved: one image is kept and the others go to the trash."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.indexing.indexer import Indexer
from app.indexing.requests import MAX_METADATA_KEYS, MAX_TAGS
from app.indexing.trash import Trash
from app.problems import NotFound
from app.store.catalog import Catalog
from app.store.images import Entry, ImageRow
from app.store.pairs import PairTable


def best_of(images: Sequence[ImageRow]) -> ImageRow:
    """Return the image to keep: the largest, then the oldest, then the best described."""
    return min(
        images,
        key=lambda i: (-i.width * i.height, -i.bytes, i.indexed_at, -_described(i), i.id),
    )


def merged(kept: ImageRow, others: Sequence[ImageRow]) -> Entry:
    """Return what is said of an image, and what of the others where it says nothing."""
    tags = dict.fromkeys(tag for image in (kept, *others) for tag in image.tags)
    metadata = dict(kept.metadata)
    for image in others:
        metadata = image.metadata | metadata
    return Entry(
        kept.url,
        next((i.title for i in (kept, *others) if i.title), ""),
        next((i.description for i in (kept, *others) if i.description), ""),
        list(tags)[:MAX_TAGS],
        metadata if len(metadata) <= MAX_METADATA_KEYS else kept.metadata,
    )


@dataclass(frozen=True, slots=True)
class NotDuplicates:
    """Two images that someone said are not duplicates."""

    images: tuple[ImageRow, ImageRow]
    denied_at: datetime


class Resolution:
    """Resolves groups of duplicates; whatever it does can be undone."""

    def __init__(
        self, *, catalog: Catalog, indexer: Indexer, trash: Trash, pairs: PairTable
    ) -> None:
        self._catalog = catalog
        self._indexer = indexer
        self._trash = trash
        self._pairs = pairs

    async def keep(self, image_id: UUID, others: Sequence[UUID], *, merge: bool) -> int:
        """Move the others to the trash, if this image is there; return how many were.

        With `merge`, it gets what it lacks of their metadata. Raises `NotFound`.
        """
        unwanted = [other for other in others if other != image_id]
        images = await self._catalog.find_all([image_id, *unwanted])
        kept = images.get(image_id)
        if kept is None:
            raise NotFound("The image to keep is not in the index.")
        if merge:
            rest = [images[other] for other in unwanted if other in images]
            await self._indexer.describe(kept, merged(kept, rest))
        return (await self._trash.put(unwanted)).number

    async def deny(self, ids: Sequence[UUID]) -> int:
        """Remember that no two of these images are duplicates; return how many there are."""
        images = await self._catalog.find_all(ids)
        await self._pairs.deny([image.sha256 for image in images.values()])
        return len(images)

    async def allow(self, ids: Sequence[UUID]) -> int:
        """Forget that these images are not duplicates; return how many there are."""
        images = await self._catalog.find_all(ids)
        await self._pairs.allow([image.sha256 for image in images.values()])
        return len(images)

    async def denied(self, limit: int) -> list[NotDuplicates]:
        """Return the pairs that are not duplicates, as someone said last, the last one first."""
        pairs = await self._pairs.last_denied(limit)
        ids = [image_id for pair in pairs for image_id in (pair.one, pair.other)]
        images = await self._catalog.find_all(ids)
        return [
            NotDuplicates((images[pair.one], images[pair.other]), pair.at)
            for pair in pairs
            if pair.one in images and pair.other in images
        ]


def _described(image: ImageRow) -> int:
    said = bool(image.title) + bool(image.description) + len(image.tags)
    return said + len(image.metadata) + len(image.exif)
