"""Jobs and their items as JSON, for the API and the command line."""

from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from pydantic import BaseModel, Field

from app.store.items import Item, ItemState, JobProgress


class JobItemDocument(BaseModel):
    """One image of a job."""

    position: int
    url: str
    state: ItemState
    reason: str | None = Field(description="Why it failed, or why it will be retried.")
    tries: int
    id: UUID | None = Field(description="The image's id, once it is indexed.")


class JobDocument(BaseModel):
    """A job's progress."""

    id: int
    title: str
    state: Literal["running", "done", "cancelled"]
    created_at: datetime
    ended_at: datetime | None = Field(description="When its last item ended; null while it runs.")
    total: int
    waiting: int
    indexed: int
    updated: int
    unchanged: int
    moved: int = Field(description="Moved to the trash, or back from it.")
    failed: int
    cancelled: int
    postponed: int = Field(description="How many of the waiting failed and will be retried.")
    rate: float = Field(description="Images per second over the last 20 seconds.")
    eta_s: float | None = Field(description="Seconds until all have been tried, at this rate.")
    workers: int = Field(
        description="How many running workers can work on it: captions need one with a "
        "CAPTION_MODEL. A running job with 0 waits for one."
    )
    recent: list[JobItemDocument] = Field(description="The items that ended last, newest first.")


def job_document(job: JobProgress) -> JobDocument:
    """Return the JSON document of a job."""
    counts: dict[str, Any] = {state: job.counts.get(state, 0) for state in get_args(ItemState)}
    return JobDocument(
        id=job.id,
        title=job.title,
        state=job.state,
        created_at=job.created_at,
        ended_at=job.ended_at,
        total=job.total,
        **counts,
        postponed=job.postponed,
        rate=round(job.rate, 2),
        eta_s=None if job.eta_s is None else round(job.eta_s, 1),
        workers=job.workers,
        recent=[item_document(item) for item in job.recent],
    )


def item_document(item: Item) -> JobItemDocument:
    """Return the JSON document of an item."""
    return JobItemDocument(
        position=item.position,
        url=item.entry.url,
        state=item.state,
        reason=item.reason,
        tries=item.tries,
        id=item.image_id,
    )
