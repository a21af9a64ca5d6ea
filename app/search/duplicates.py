"""Groups of copies within the index, as a walk over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.pictures.decoding import hamming
from app.search.hits import Hit
from app.store.catalog import Catalog, ImageRow
from app.store.vectors import VectorTable

# Images whose neighbours are asked for at once, and those looked at for one answer at most.
IMAGES_AT_ONCE = 100
MOST_IMAGES = 2000
# The most copies of one picture that are looked for.
MOST_COPIES = 50


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of images that show the same picture, each led by the one with the lowest id.

    `next` is the id to go on after, None at the end of the index.
    """

    groups: list[list[Hit]]
    next: UUID | None


class DuplicateFinder:
    """Finds images of the same bytes, and altered copies by vector and perceptual hash."""

    def __init__(self, *, catalog: Catalog, vectors: VectorTable) -> None:
        self._catalog = catalog
        self._vectors = vectors

    async def find(
        self, *, after: UUID | None, limit: int, min_similarity: float, max_bits: int
    ) -> Groups:
        """Return up to `limit` groups from behind the id `after`.

        Copies have the same bytes, or a cosine similarity of at least `min_similarity` and a
        difference hash at most `max_bits` bits away. An answer may hold fewer groups than asked
        for, even none, and still have a next.
        """
        groups: list[list[Hit]] = []
        for _ in range(MOST_IMAGES // IMAGES_AT_ONCE):
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
        nearest = await self._vectors.neighbours([image.id for image in images], limit=MOST_COPIES)
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
            # The group is told once, where its first image is.
            if copies and all(image.id < copy.image.id for copy in copies):
                groups.append([Hit(image, 1.0, None), *copies])
        return groups


def _same(image: ImageRow, other: ImageRow) -> bool:
    return image.sha256 == other.sha256


def _is_altered(image: ImageRow, other: ImageRow, *, max_bits: int) -> bool:
    """Return whether the hashes say copy, of images that are not too plain to be told apart."""
    plain = image.too_plain or other.too_plain
    return not plain and hamming(image.dhash, other.dhash) <= max_bits
