"""How many images there are, in a time that does not grow with them."""

from dataclasses import dataclass

from sqlalchemy import TextClause, text

from app.store.database import Database

# Counting so many takes a millisecond or two.
MOST_COUNTED = 10_000

_ANY = text("SELECT id FROM images LIMIT 1")


@dataclass(frozen=True, slots=True)
class Size:
    """A number of images, which may be `approximate`."""

    number: int
    approximate: bool


class Sizes:
    """Counts images for pages and health checks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def images(self) -> Size:
        """Return the number of images: counted up to 10,000, estimated beyond.

        The estimate is the planner's: the density of the table at the last VACUUM or ANALYZE, times
        its present size. A running server's autovacuum keeps it within some 10%.
        """
        async with self._database.begin() as connection:
            row = (await connection.execute(size_query())).one()
        return Size(max(row.counted, row.estimated), row.counted > MOST_COUNTED)

    async def check(self) -> None:
        """Read one image; raises `Unavailable` if the database does not answer."""
        async with self._database.begin() as connection:
            await connection.execute(_ANY)


def size_query() -> TextClause:
    """Return a statement for one row: `counted`, up to one more than the most, and `estimated`."""
    return text(f"""
        SELECT counted, CASE WHEN counted <= {MOST_COUNTED} THEN counted ELSE (
            SELECT round(
                greatest(reltuples, 0) / greatest(relpages, 1)
                * (pg_relation_size(oid) / current_setting('block_size')::bigint)
            )::bigint FROM pg_class WHERE oid = 'images'::regclass
        ) END AS estimated
        FROM (SELECT count(*) AS counted FROM (
            SELECT 1 FROM images LIMIT {MOST_COUNTED + 1}
        ) AS found) AS bounded
    """)  # noqa: S608 - numbers of ours
