"""Pictures within a query image: on a screenshot, in a collage, on a page."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from app.encoding.encoder import Encoder
from app.indexing.coalescer import gather
from app.pictures.decoding import Picture
from app.pictures.keypoints import Keypoints
from app.pictures.tiles import look, tiles
from app.pictures.views import View
from app.search.asked import Asked
from app.search.hits import Hit
from app.search.verification import Verified
from app.search.verifier import Verification, Verifier
from app.store.catalog import Catalog
from app.store.images import ImageRow
from app.store.spaces import Space

# Candidates for each part.
NEAREST = 2


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of a query image, as the encoder reads it and as verification will see it."""

    prepared: Any
    look: Callable[[], View]


@dataclass(frozen=True, slots=True)
class Found:
    """The images of which the query has a copy in a part, with what was proved."""

    images: Sequence[ImageRow]
    verification: Verification


def cut(picture: Picture, encoder: Encoder, *, size: tuple[int, int] | None = None) -> list[Part]:
    """Return nine overlapping parts of a picture; about 20 ms, to be used in threads.

    `size` is the (width, height) of the original, if the picture is a thumbnail.
    """
    original = size or (picture.width, picture.height)
    whole = View.of(picture.image, size=original, keypoints=Keypoints.none())
    return [
        # Of its pixels, a part keeps no more than what it is seen by.
        Part(encoder.model.prepare(tile.image), partial(look, whole_view, tile.grey, tile.place))
        for tile in tiles(picture.image, whole)
        for whole_view in [tile.whole]
    ]


class PartFinder:
    """Searches for each part of a query image, by the copy vectors."""

    def __init__(self, *, catalog: Catalog, copy: Space, verifier: Verifier) -> None:
        self._catalog = catalog
        self._copy = copy
        self._verifier = verifier

    async def find(self, asked: Asked, parts: Sequence[Part], known: Collection[UUID]) -> Found:
        """Return the images that are copies of a part, without those `known` to be copies."""
        # While the parts are embedded and searched for, threads look at them.
        looks = self._verifier.look_at([part.look for part in parts])
        embedded = await gather(
            [self._copy.encoder.embed_prepared(part.prepared) for part in parts]
        )
        left_out = {*known, *asked.left_out}
        near: list[tuple[float, int, UUID]] = []
        for part, vector in enumerate(embedded):
            limit = NEAREST + len(left_out)
            found = await self._copy.vectors.nearest(vector, limit=limit, filters=asked.filters)
            fresh = [(i, similarity) for i, similarity in found if i not in left_out][:NEAREST]
            near += [(similarity, part, i) for i, similarity in fresh]
        near.sort(key=lambda candidate: -candidate[0])
        images = await self._catalog.find_all([image_id for _, _, image_id in near])
        views = await asyncio.gather(*map(asyncio.wrap_future, looks))
        pairs = [
            (views[part], images[image_id])
            for _, part, image_id in near
            if image_id in images and images[image_id].sha256 != asked.sha256
        ]
        verification = await self._verifier.verify_parts(pairs)
        return Found([images[image_id] for image_id in verification.found], verification)


def with_parts(hits: Sequence[Hit], parts: Found, found: dict[UUID, Verified]) -> list[Hit]:
    """Add to `found` what was proved of parts; return the images that are not among the hits.

    An image that has the bytes of one of the hits is that hit.
    """
    by_file = {hit.image.sha256: hit for hit in hits}
    others: list[Hit] = []
    for image in parts.images:
        known = by_file.get(image.sha256)
        hit = known or Hit(image, None, None)
        if known is None:
            by_file[image.sha256] = hit
            others.append(hit)
        found[hit.image.id] = parts.verification.found[image.id]
    return others
