"""Whether two images of the index are duplicates: by their bytes, or as copies that are proved.

What was computed is kept, so that the next walk over the duplicates has it.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import UUID

from app.logs import fields
from app.pictures import keypoints
from app.search.stored_views import StoredViews
from app.search.verification import Alignment, Verified, verify
from app.store.catalog import Catalog
from app.store.fingerprints import Fingerprint
from app.store.images import ImageRow
from app.store.keypoints import KeypointTable
from app.store.pairs import Pair, PairTable

logger = logging.getLogger(__name__)

# Increment when `verify` decides otherwise.
VERSION = 4

Two: TypeAlias = tuple[Fingerprint, Fingerprint]


@dataclass(frozen=True, slots=True)
class Proved:
    """Which pairs are duplicates, in their order, and how many had to be compared for that."""

    are_duplicates: Sequence[bool]
    compared: int = 0


class Proofs(Protocol):
    """What decides whether images are duplicates."""

    async def prove(self, pairs: Sequence[Two]) -> Proved:
        """Decide it for each pair; the order within a pair makes no difference."""
        ...

    async def alignments(self, pairs: Sequence[tuple[UUID, UUID]]) -> Mapping[Pair, Alignment]:
        """Return how the first image of each pair lies on the second, if that can be proved."""
        ...


class PairProofs:
    """Decides by the bytes and by `verify`, but for files that someone said are not duplicates."""

    def __init__(self, *, catalog: Catalog, keypoints: KeypointTable, pairs: PairTable) -> None:
        self._catalog = catalog
        self._keypoints = keypoints
        self._pairs = pairs

    async def prove(self, pairs: Sequence[Two]) -> Proved:
        """Decide it for each pair; a new one takes some milliseconds."""
        denied = await self._pairs.denied({_files(pair) for pair in pairs})
        files = {image.id: image for pair in pairs for image in pair}
        open_pairs = {
            _ids(pair)
            for pair in pairs
            if pair[0].sha256 != pair[1].sha256 and _files(pair) not in denied
        }
        version = keypoints.VERSION * 1000 + VERSION
        known = await self._pairs.compared(open_pairs, version=version) if open_pairs else {}
        new = await self._compare(sorted(open_pairs - known.keys()))
        await self._pairs.keep(new, files, version=version)
        found = known | new

        def are_duplicates(pair: Two) -> bool:
            same = pair[0].sha256 == pair[1].sha256
            return _files(pair) not in denied and (same or found.get(_ids(pair), False))

        return Proved([are_duplicates(pair) for pair in pairs], len(new))

    async def alignments(self, pairs: Sequence[tuple[UUID, UUID]]) -> dict[Pair, Alignment]:
        """Return how the first image of each pair lies on the second, if it is a copy of it."""
        found = await self._verified(pairs, in_order=True)
        return {pair: match.alignment for pair, match in found.items() if match is not None}

    async def _compare(self, pairs: Sequence[Pair]) -> dict[Pair, bool]:
        """Return which pairs are copies, without those of which an image is gone."""
        found = await self._verified(pairs, in_order=False)
        return {pair: match is not None for pair, match in found.items()}

    async def _verified(
        self, pairs: Sequence[Pair], *, in_order: bool
    ) -> dict[Pair, Verified | None]:
        """Return what proves that pairs are copies; the smaller is the query, or else the first."""
        ids = list({image_id for pair in pairs for image_id in pair})
        if not ids:
            return {}
        images = await self._catalog.find_all(ids)
        stored = await self._keypoints.find(ids)
        there = {i: image for i, image in images.items() if i in stored}
        work = _Work(there, StoredViews(stored), in_order=in_order)
        found = await asyncio.to_thread(work.compare, pairs)
        await self._keypoints.keep({i: s.digest for i, s in stored.items()}, work.views.made)
        return found


class _Work:
    """The comparison of some images, in a thread."""

    def __init__(
        self, images: Mapping[UUID, ImageRow], views: StoredViews, *, in_order: bool
    ) -> None:
        self._images = images
        self._in_order = in_order
        self.views = views

    def compare(self, pairs: Sequence[Pair]) -> dict[Pair, Verified | None]:
        return {pair: self._copy(*pair) for pair in pairs if self._images.keys() >= {*pair}}

    def _copy(self, *pair: UUID) -> Verified | None:
        one, other = pair
        if not self._in_order:
            # The smaller one is more likely to be a part of the other.
            one, other = sorted(pair, key=self._size)
        try:
            query, image = self.views.of(self._images[one]), self.views.of(self._images[other])
            found = verify(query, image) if query and image else None
        except Exception:
            # One pair ends no walk.
            logger.exception("two images could not be compared", extra=fields(image=one))
            return None
        return found if found is not None and found.match == "copy" else None

    def _size(self, image_id: UUID) -> tuple[int, UUID]:
        image = self._images[image_id]
        return image.width * image.height, image_id


def _ids(pair: Two) -> Pair:
    one, other = sorted((pair[0].id, pair[1].id))
    return one, other


def _files(pair: Two) -> tuple[str, str]:
    one, other = sorted((pair[0].sha256, pair[1].sha256))
    return one, other
