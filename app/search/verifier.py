"""Verifies the nearest images of a query, as many as there is time for."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TypeAlias
from uuid import UUID

from app.indexing.keypoint_maker import keypoints_of
from app.logs import fields
from app.pictures.decoding import Facts
from app.pictures.keypoints import Keypoints
from app.pictures.views import View
from app.search.hits import Hit
from app.search.verification import Verified, verify
from app.store.images import ImageRow
from app.store.keypoints import KeypointTable, Stored

logger = logging.getLogger(__name__)

MOST_VERIFIED = 20
TOO_PLAIN = (
    "The query image is too plain to be told from others: only the same file is called a match."
)
# No copy is looked for below this similarity. Of 100 photos each, by the built-in encoder: no crop
# to 40% has less, no other easy alteration either, and one in 20 crops to 20%; the nearest stranger
# among 400 has 0.76 to 0.90. An encoder that is not listed has no floor.
FLOORS: Mapping[str, float] = {"builtin": 0.77}

Subject: TypeAlias = Facts | ImageRow
"""A whole query image: one that was sent, or one of the index."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was proved of images, by id, and `notes` on what could not be."""

    found: Mapping[UUID, Verified] = field(default_factory=dict[UUID, Verified])
    notes: Sequence[str] = ()


@dataclass(slots=True)
class _Work:
    """The comparison of a query with images, in a thread, until `deadline` (of `perf_counter`)."""

    query: Subject
    images: Sequence[ImageRow]
    stored: Mapping[UUID, Stored]
    deadline: float
    found: dict[UUID, Verified] = field(default_factory=dict[UUID, Verified])
    made: dict[UUID, bytes] = field(default_factory=dict[UUID, bytes])
    left: int = 0

    def run(self) -> "_Work":
        self.left = len(self.images)
        if perf_counter() >= self.deadline:
            return self
        query = self._query()
        # Without a query that can be compared, nothing is left to do.
        for place, image in enumerate(self.images):
            self.left = len(self.images) - place if query else 0
            if query is None or perf_counter() >= self.deadline:
                return self
            self._compare(query, image)
        self.left = 0
        return self

    def _query(self) -> View | None:
        if isinstance(self.query, ImageRow):
            return self._view(self.query)
        return view_of(self.query, self.query.thumbnail, keypoints_of(self.query.thumbnail))

    def _compare(self, query: View, image: ImageRow) -> None:
        try:
            view = self._view(image)
            found = verify(query, view) if view else None
        except Exception:
            # One image, or one pair of images, ends no search.
            logger.exception("an image could not be verified", extra=fields(image=image.id))
            return
        if found is not None:
            self.found[image.id] = found

    def _view(self, image: ImageRow) -> View | None:
        """Return what is stored of an image, with keypoints made now if need be."""
        stored = self.stored.get(image.id)
        if stored is None:
            return None
        data = stored.keypoints
        if data is None:
            data = self.made[image.id] = keypoints_of(stored.thumbnail)
        return view_of(image, stored.thumbnail, data)


def view_of(image: Subject, thumbnail: bytes, data: bytes) -> View | None:
    """Return what verification sees of an image; None if its thumbnail could not be read.

    `data` are the keypoints as they are stored.
    """
    keypoints = Keypoints.from_bytes(data)
    if keypoints is None:
        return None
    return View(image.width, image.height, keypoints, thumbnail, image.dhash, image.too_plain)


class Verifier:
    """Compares query images with the nearest images of an index, within `budget_ms` each.

    `encoder` is the name of the encoder that found them.
    """

    def __init__(
        self, keypoints: KeypointTable, threads: Executor, *, budget_ms: float, encoder: str
    ) -> None:
        self._keypoints = keypoints
        self._threads = threads
        self._floor = FLOORS.get(encoder, -1.0)
        self.budget_ms = budget_ms

    async def verify(self, query: Subject, hits: Sequence[Hit]) -> Verification:
        """Compare a query with the images of hits, best first, at most 20 above the floor.

        Those that are too plain, and those with the query's bytes, need no comparison.
        """
        deadline = perf_counter() + self.budget_ms / 1000
        if query.too_plain:
            return Verification(notes=[TOO_PLAIN])
        images = [hit.image for hit in hits if self._is_candidate(query, hit)][:MOST_VERIFIED]
        if not images:
            return Verification()
        own = [query.id] if isinstance(query, ImageRow) else []
        stored = await self._keypoints.find([*own, *(image.id for image in images)])
        work = _Work(query, images, stored, deadline)
        done = await asyncio.get_running_loop().run_in_executor(self._threads, partial(work.run))
        thumbnails = {image_id: row.thumbnail for image_id, row in stored.items()}
        await self._keypoints.keep(thumbnails, done.made)
        return Verification(done.found, self._notes(done.left))

    def _notes(self, left: int) -> list[str]:
        if not left:
            return []
        those = (
            f"{left} of the nearest images were" if left > 1 else "One of the nearest images was"
        )
        budget = f"there are {self.budget_ms:g} ms for that (VERIFY_MS)"
        return [f"{those} not compared in detail with the query image: {budget}."]

    def _is_candidate(self, query: Subject, hit: Hit) -> bool:
        near = (hit.similarity or -1.0) >= self._floor
        return near and not hit.image.too_plain and hit.image.sha256 != query.sha256
