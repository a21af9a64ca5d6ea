"""A job and its items, as the program sees them; job_items.py keeps them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.store.catalog import Entry

ItemSource = Literal["web", "refresh", "upload", "file", "caption"]
ItemState = Literal["waiting", "indexed", "updated", "unchanged", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class NewItem:
    """A picture to index and where its bytes are: on the web, among the uploads, or in a file.

    A `refresh` asks the web only whether a picture of the index has changed; a `caption` is written
    for one.

    With a `reason`, it has failed before it could wait.
    """

    source: ItemSource
    entry: Entry
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a job."""

    job_id: int
    position: int
    source: ItemSource
    entry: Entry
    state: ItemState = "waiting"
    reason: str | None = None
    tries: int = 0

    @property
    def image_id(self) -> UUID | None:
        """The image that the item became, if it did."""
        return self.entry.id if self.state in ("indexed", "updated", "unchanged") else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How an item ended, and as which image."""

    job_id: int
    position: int
    state: ItemState
    reason: str | None = None
    image_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job in numbers; `rate` is pictures per second over the last seconds.

    Of the items that wait, `postponed` have failed and wait for their next try.
    """

    id: int
    title: str
    created_at: datetime
    cancelled_at: datetime | None
    counts: dict[ItemState, int]
    rate: float
    postponed: int
    recent: list[Item]

    @property
    def total(self) -> int:
        """The number of items."""
        return sum(self.counts.values())

    @property
    def waiting(self) -> int:
        """The number of items that have not ended."""
        return self.counts.get("waiting", 0)

    @property
    def ended(self) -> int:
        """The number of items that have ended, one way or another."""
        return self.total - self.waiting

    @property
    def state(self) -> Literal["running", "cancelled", "done"]:
        """Whether there is still something to do."""
        if self.waiting:
            return "running"
        return "cancelled" if self.cancelled_at else "done"

    @property
    def eta_s(self) -> float | None:
        """The seconds until all have been tried, at the present rate, if it moves."""
        untried = self.waiting - self.postponed
        return untried / self.rate if self.rate and untried > 0 else None
