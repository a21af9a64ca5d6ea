"""Whether Milvus answers, and how much it is still to be told."""

from collections.abc import Iterable

from pydantic import BaseModel, Field

from app.problems import MilvusUnavailable
from app.store.database import Database
from app.store.milvus.client import Milvus
from app.store.milvus.outbox import waiting
from app.store.milvus.searching import MilvusIndex


class MilvusStats(BaseModel):
    """The Milvus that has the index of vectors."""

    answers: bool
    reason: str | None = Field(None, description="Why it does not; null if it does.")
    waiting: int = Field(
        description="Changed vectors that it was not told of yet; searches compare them one by one."
    )
    settling: int = Field(
        description="Those that it was told of and may not find yet, which searches compare, too."
    )


async def milvus_stats(
    database: Database, milvus: Milvus | None, indexes: Iterable[MilvusIndex]
) -> MilvusStats | None:
    """Return what there is to say of Milvus, None if no vectors have their index there."""
    if not any(index.is_used for index in indexes):
        return None
    reason = None
    if milvus is None:
        reason = "This process has no MILVUS_URL."
    else:
        try:
            await milvus.call(Milvus.check)
        except MilvusUnavailable as problem:
            reason = problem.detail
    async with database.reading() as connection:
        found = await waiting(connection)
    return MilvusStats(
        answers=reason is None, reason=reason, waiting=found.unapplied, settling=found.applied
    )
