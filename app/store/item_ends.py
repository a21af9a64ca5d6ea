"""The statements that end items and lock their jobs: made once, for any number of them, because
making them takes longer than running them.
"""

from sqlalchemy import BigInteger, Integer, Text, Uuid, case, func, select, update

from app.store.images import DROPPED
from app.store.tables import ITEMS, JOBS, any_of, array_of

# A user and password live until the item ends; that it had them is kept.
DROPPED_CREDENTIALS = case((ITEMS.c.credentials.is_not(None), DROPPED), else_=None)

_COLUMNS = {
    "job_id": BigInteger,
    "position": BigInteger,
    "tries": Integer,
    "state": Text,
    "reason": Text,
    "image_id": Uuid,
}
_ROWS = (
    func.unnest(*(array_of(f"all_{name}", kind) for name, kind in _COLUMNS.items()))
    .table_valued(*_COLUMNS)
    .render_derived(name="ended")
)
# All items in one statement, so that the trigger updates the counts once.
END_ITEMS = (
    update(ITEMS)
    .values(
        state=_ROWS.c.state,
        reason=_ROWS.c.reason,
        image_id=func.coalesce(_ROWS.c.image_id, ITEMS.c.image_id),
        credentials=DROPPED_CREDENTIALS,
        tries=_ROWS.c.tries,
        ended_at=func.clock_timestamp(),
    )
    .where(ITEMS.c.job_id == _ROWS.c.job_id, ITEMS.c.position == _ROWS.c.position)
    .where(ITEMS.c.state == "waiting")
)
LOCK_JOBS = (
    select(JOBS.c.id)
    .where(JOBS.c.id == any_of("ids", BigInteger))
    .order_by(JOBS.c.id)
    .with_for_update()
)
