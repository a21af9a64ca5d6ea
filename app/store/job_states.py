"""How many jobs there are in each state, and how many of their items wait."""

from dataclasses import dataclass

from sqlalchemy import case, func, select

from app.store.database import Database
from app.store.tables import COUNTS, JOBS


@dataclass(frozen=True, slots=True)
class JobStates:
    """The number of jobs by state, and of pending items over all of them."""

    jobs: dict[str, int]
    waiting: int


async def job_states(database: Database) -> JobStates:
    """Count the jobs, in one statement over their counts; every state is there, if only with 0."""
    waiting = func.coalesce(func.sum(COUNTS.c.number).filter(COUNTS.c.state == "waiting"), 0)
    each = (
        select(JOBS.c.cancelled_at, waiting.label("waiting"))
        .outerjoin_from(JOBS, COUNTS, COUNTS.c.job_id == JOBS.c.id)
        .group_by(JOBS.c.id)
        .subquery()
    )
    # The same as JobProgress.state.
    state = case(
        (each.c.waiting > 0, "running"),
        (each.c.cancelled_at.is_not(None), "cancelled"),
        else_="done",
    )
    query = select(state, func.count(), func.sum(each.c.waiting)).group_by(state)
    async with database.begin() as connection:
        rows = [(name, number, left) for name, number, left in await connection.execute(query)]
    jobs = {"running": 0, "cancelled": 0, "done": 0}
    jobs |= {name: number for name, number, _ in rows}
    return JobStates(jobs, sum(int(left) for _, _, left in rows))
