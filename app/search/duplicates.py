"""Groups of duplicates, found by walking the index in the order of ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.pictures.decoding import hamming
from app.search.hits import Hit
from app.store.catalog import Catalog
from app.store.images import ImageRow
from app.store.vectors import VectorTable

# Images per query for neighbours, and images visited per answer.
IMAGES_AT_ONCE = 100
MAX_IMAGES = 2000
# Nearest neighbours considered per image.
MAX_NEIGHBOURS = 50


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of duplicates, each beginning with the lowest id.

    `next` is the id to continue after, None at the end of the index.
    """

    groups: list[list[Hit]]
    next: UUID | None


class DuplicateFinder:
    """Finds images with the same bytes, and altered copies by vector and difference hash."""

    def __init__(self, *, catalog: Catalog, vectors: VectorTable) -> None:
        self._catalog = catalog
        self._vectors = vectors

    async def find(
        self, *, after: UUID | None, limit: int, min_similarity: float, max_bits: int
    ) -> Groups:
        """Return up to `limit` groups whose first id is greater than `after`.

        Duplicates have the same bytes, or a cosine similarity of at least `min_similarity` and
        difference hashes that differ in at most `max_bits` bits. An answer may have fewer groups
        than `limit`, even none, although `next` is set.
        """
        groups: list[list[Hit]] = []
        for _ in range(MAX_IMAGES // IMAGES_AT_ONCE):
            images = await self._catalog.walk(after=after, limit=IMAGES_AT_ONCE)
            for group in await self._groups_of(images, min_similarity, max_bits):
                groups.append(group)
                if len(groups) == limit:
                    return Groups(groups, group[0].image.id)
            if len(images) < IMAGES_AT_ONCE:
                return Groups(groups, None)
            after = images[-1].id
        return Groups(groups, after)

    async def _groups_of(
        self, images: Sequence[ImageRow], min_similarity: float, max_bits: int
    ) -> list[list[Hit]]:
        nearest = await self._vectors.neighbours(
            [image.id for image in images], limit=MAX_NEIGHBOURS
        )
        near = {
            image_id: [pair for pair in pairs if pair[1] >= min_similarity]
            for image_id, pairs in nearest.items()
        }
        others = await self._catalog.find_all(
            list({other for pairs in near.values() for other, _ in pairs})
        )
        groups: list[list[Hit]] = []
        for image in images:
            copies = [
                Hit(others[other], similarity, "exact" if _same(image, others[other]) else "copy")
                for other, similarity in near.get(image.id, [])
                if other in others
                and other != image.id
                and (
                    _same(image, others[other])
                    or _is_altered(image, others[other], max_bits=max_bits)
                )
            ]
            # A group is reported once, at its first image.
            if copies and all(image.id < copy.image.id for copy in copies):
                groups.append([Hit(image, 1.0, None), *copies])
        return groups


def _same(image: ImageRow, other: ImageRow) -> bool:
    return image.sha256 == other.sha256


def _is_altered(image: ImageRow, other: ImageRow, *, max_bits: int) -> bool:
    """Return whether the hashes say copy, of images that are not too plain to be told apart."""
    plain = image.too_plain or other.too_plain
    return not plain and hamming(image.dhash, other.dhash) <= max_bits
