"""Jobs and their items as values; job_items.py stores them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.store.images import Entry

ItemSource = Literal["web", "refresh", "upload", "file", "caption", "change"]
ItemState = Literal["waiting", "indexed", "updated", "unchanged", "moved", "failed", "cancelled"]
"""What was `moved` went to the trash or came back from it."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to add to a job.

    `source` is where the bytes are: on the `web`, in an `upload` or in a `file`. A `refresh` checks
    whether an indexed image has changed on the web; a `caption` describes an indexed image, and a
    `change` is what the job does to one.

    With a `reason`, the item is added as failed.
    """

    source: ItemSource
    entry: Entry
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a job; `tries` counts the attempts so far."""

    job_id: int
    position: int
    source: ItemSource
    entry: Entry
    state: ItemState = "waiting"
    reason: str | None = None
    tries: int = 0

    @property
    def next_tries(self) -> int:
        """The number of attempts once the current one has ended."""
        return self.tries + 1

    @property
    def image_id(self) -> UUID | None:
        """The id of the indexed image, None unless the item succeeded."""
        return self.entry.id if self.state in ("indexed", "updated", "unchanged") else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How an item ended: its final state, the reason if it failed, and the image it became."""

    item: Item
    state: ItemState
    reason: str | None = None
    image_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job's progress.

    `rate` is in images per second over the last 20 seconds. `postponed` of the pending items have
    failed and wait for a retry. `recent` are the items that ended last, newest first, `failures`
    the first that failed; both are as many as were asked for. `workers` is how many running workers
    can work on it; for `captions`, these are those with a caption model.
    """

    id: int
    title: str
    created_at: datetime
    cancelled_at: datetime | None
    ended_at: datetime | None
    counts: dict[ItemState, int]
    rate: float
    postponed: int
    recent: list[Item]
    failures: list[Item]
    captions: bool
    workers: int

    @property
    def total(self) -> int:
        """The number of items."""
        return sum(self.counts.values())

    @property
    def waiting(self) -> int:
        """The number of pending items."""
        return self.counts.get("waiting", 0)

    @property
    def ended(self) -> int:
        """The number of items that have ended, in whatever state."""
        return self.total - self.waiting

    @property
    def state(self) -> Literal["running", "cancelled", "done"]:
        """`running` while items are pending, then `cancelled` or `done`."""
        if self.waiting:
            return "running"
        return "cancelled" if self.cancelled_at else "done"

    @property
    def missing(self) -> str | None:
        """What a running job lacks to go on, as a sentence; None if it lacks nothing."""
        if self.state != "running" or self.workers:
            return None
        if self.captions:
            return "No running worker has a CAPTION_MODEL; this job waits for one."
        return "No worker is running; this job waits for one."

    @property
    def eta_s(self) -> float | None:
        """Seconds until every item has been tried, at the current rate; None if it is 0."""
        untried = self.waiting - self.postponed
        return untried / self.rate if self.rate and untried > 0 else None
