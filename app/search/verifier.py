"""Verifies the nearest images of a query, as many as there is time for."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TypeAlias
from uuid import UUID

from app.indexing.keypoint_maker import keypoints_of
from app.logs import fields
from app.pictures.decoding import Facts
from app.pictures.opencv import opencv
from app.pictures.views import View
from app.search.stored_views import StoredViews, view_of
from app.search.verification import Verified, verify
from app.store.images import ImageRow
from app.store.keypoints import KeypointTable

logger = logging.getLogger(__name__)

TOO_PLAIN = (
    "The query image is too plain to be told from others: only the same file is called a match."
)

Subject: TypeAlias = Facts | ImageRow
"""A whole query image: one that was sent, or one of the index."""


Looking: TypeAlias = Future[View | None]
"""What verification sees of an image that was sent, as soon as it has looked at it."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was proved of images, by id, and `notes` on what could not be."""

    found: Mapping[UUID, Verified] = field(default_factory=dict[UUID, Verified])
    notes: Sequence[str] = ()


Pair: TypeAlias = tuple[View | None, ImageRow]
"""A view of a part of the query, or None for the whole, and an image to compare it with."""


@dataclass(slots=True)
class _Work:
    """The comparison of a query with images, in a thread, until `deadline` (of `perf_counter`).

    Threads that work on the same query share the iterator `pairs`. The `likeliest` image is
    compared in any case: that it was not looked at, no one should have to be told. `left` are the
    images that there was no time for.
    """

    pairs: Iterator[Pair]
    views: StoredViews
    deadline: float
    whole: View | None = None
    likeliest: UUID | None = None
    found: dict[UUID, Verified] = field(default_factory=dict[UUID, Verified])
    left: set[UUID] = field(default_factory=set[UUID])

    def run(self) -> "_Work":
        for part, image in self.pairs:
            view = part or self.whole
            if perf_counter() >= self.deadline and image.id != self.likeliest:
                self.left.add(image.id)
            elif view is not None:
                self._compare(view, image)
        return self

    def add(self, other: "_Work") -> None:
        """Take over what another thread found."""
        for image_id, found in other.found.items():
            self._keep(image_id, found)
        self.left |= other.left
        self.views.made |= other.views.made

    def _compare(self, query: View, image: ImageRow) -> None:
        try:
            view = self.views.of(image)
            found = verify(query, view) if view else None
        except Exception:
            # One image, or one pair of images, ends no search.
            logger.exception("an image could not be verified", extra=fields(image=image.id))
            return
        if found is not None:
            self._keep(image.id, found)

    def _keep(self, image_id: UUID, found: Verified) -> None:
        """Keep what proves most, whichever thread comes first."""
        known = self.found.get(image_id)
        if known is None or _strength(found) > _strength(known):
            self.found[image_id] = found


def _strength(found: Verified) -> tuple[bool, int, float]:
    alignment = found.alignment
    return found.match == "copy", alignment.inliers, alignment.query_overlap


def _sent_view(query: Facts) -> View | None:
    """Return what verification sees of an image that was sent; in a thread: it takes 15 ms."""
    view = view_of(query, query.thumbnail, keypoints_of(query.thumbnail))
    return view and view.keeping_pixels()


def _stored_view(query: ImageRow, views: StoredViews) -> View | None:
    view = views.of(query)
    return view and view.keeping_pixels()


class Verifier:
    """Compares query images with the nearest images of an index, within `budget_ms` each."""

    def __init__(self, keypoints: KeypointTable, threads: Executor, *, budget_ms: float) -> None:
        self._keypoints = keypoints
        self._threads = threads
        self.budget_ms = budget_ms

    def warm_up(self) -> None:
        """Import OpenCV in the background, so that the first search has all of its budget."""
        self._threads.submit(opencv)

    def look(self, query: Facts) -> Looking | None:
        """Begin to look at an image that is to be verified, while the nearest are searched for."""
        if query.too_plain or not self.budget_ms:
            return None
        return self._threads.submit(_sent_view, query)

    def look_at(self, looks: Sequence[Callable[[], View]]) -> list[Future[View]]:
        """Begin to look at parts of a query."""
        return [self._threads.submit(look) for look in looks]

    async def verify(
        self,
        query: Subject,
        images: Sequence[ImageRow],
        view: Looking | None = None,
    ) -> Verification:
        """Compare a query with images, the likeliest first: it always, unless the budget is 0.

        `view` is what `look` has begun.
        """
        if query.too_plain:
            return Verification(notes=[TOO_PLAIN])
        done = await self._done([(None, image) for image in images], self.budget_ms, query, view)
        return Verification(done.found, self._notes(len(done.left)))

    async def verify_parts(self, pairs: Sequence[tuple[View, ImageRow]]) -> Verification:
        """Compare parts of a query with images; return the copies that they are.

        It takes twice the budget at the most.
        """
        wanted = [(part, image) for part, image in pairs if not image.too_plain]
        done = await self._done(wanted, 2 * self.budget_ms)
        copies = {i: found for i, found in done.found.items() if found.match == "copy"}
        return Verification(copies, self._notes(len(done.left)))

    async def _done(
        self,
        pairs: Sequence[Pair],
        budget_ms: float,
        query: Subject | None = None,
        view: Looking | None = None,
    ) -> _Work:
        deadline = perf_counter() + budget_ms / 1000
        if not pairs:
            return _Work(iter(()), StoredViews({}), deadline)
        ids = {image.id for _, image in pairs}
        own = {query.id} if isinstance(query, ImageRow) else set[UUID]()
        run = partial(asyncio.get_running_loop().run_in_executor, self._threads)
        if view is None and isinstance(query, Facts):
            view = self._threads.submit(_sent_view, query)
        stored = await self._keypoints.find(list(own | ids))
        views = StoredViews(stored)
        whole = None
        if isinstance(query, ImageRow):
            whole = await run(_stored_view, query, views)
        elif view is not None:
            whole = await asyncio.wrap_future(view)
        # Each thread takes the next pair, so that the likeliest are compared first.
        shared = iter(pairs)
        likeliest = pairs[0][1].id if query is not None and budget_ms else None
        works = [
            _Work(shared, StoredViews(stored), deadline, whole, likeliest)
            for _ in range(min(len(pairs), os.cpu_count() or 1))
        ]
        done = _Work(shared, views, deadline)
        for work in await asyncio.gather(*(run(work.run) for work in works)):
            done.add(work)
        done.left -= done.found.keys()
        digests = {image_id: row.digest for image_id, row in stored.items()}
        await self._keypoints.keep(digests, done.views.made)
        return done

    def _notes(self, left: int) -> list[str]:
        if not left:
            return []
        those = (
            f"{left} of the nearest images were" if left > 1 else "One of the nearest images was"
        )
        budget = f"VERIFY_MS is {self.budget_ms:g}"
        return [f"{those} not compared in detail with the query image: {budget}."]
