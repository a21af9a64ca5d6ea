"""How many images there are is known without counting them all."""

import re
from typing import Any

import pytest
from sqlalchemy import text

from app.lookalike import Lookalike
from app.store.sizes import MOST_COUNTED, Size, size_query
from tests.conftest import Server
from tests.live import Loop

ADD = text("""
    INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format, exif, title,
        description, tags, thumbnail)
    SELECT gen_random_uuid(), 'https://x.example/' || n, '', 0, 1, 1, 1, 'PNG', '{}', '', '', '{}',
        decode(repeat('00', (n % 7) * 300), 'hex')
    FROM generate_series(1, :number) AS n
""")


async def execute(lookalike: Lookalike, *statements: Any) -> Any:
    async with lookalike.database.begin() as connection:
        for statement in statements:
            result = await connection.execute(statement)
        return result.scalar() if result.returns_rows else None


def add(lookalike: Lookalike, loop: Loop, number: int) -> None:
    loop.run(execute(lookalike, ADD.bindparams(number=number)))


@pytest.mark.parametrize("number", [0, 3, MOST_COUNTED])
def test_a_small_number_is_counted(lookalike: Lookalike, loop: Loop, number: int) -> None:
    add(lookalike, loop, number)
    assert loop.run(lookalike.sizes.images()) == Size(number, approximate=False)


def test_a_large_number_is_estimated_without_reading_the_rows(
    lookalike: Lookalike, loop: Loop
) -> None:
    # Autovacuum in the middle of an insert counts its pages, and not yet its rows.
    loop.run(execute(lookalike, text("ALTER TABLE images SET (autovacuum_enabled = false)")))
    add(lookalike, loop, 40_000)
    loop.run(execute(lookalike, text("ANALYZE images")))
    # Rows that came since are in the estimate, too.
    add(lookalike, loop, 20_000)
    size = loop.run(lookalike.sizes.images())
    assert size.approximate
    assert size.number == pytest.approx(60_000, rel=0.05)
    explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {size_query('images').text}")
    plan = loop.run(execute(lookalike, explained))
    assert max(rows_read(plan)) <= MOST_COUNTED + 1


def rows_read(plan: Any) -> list[float]:
    """The rows of each step of a plan, as EXPLAIN says them in JSON."""
    if isinstance(plan, list):
        return [rows for part in plan for rows in rows_read(part)]
    if not isinstance(plan, dict):
        return []
    own = [plan["Actual Rows"]] if "Actual Rows" in plan else []
    return own + rows_read(list(plan.values()))


def test_pages_say_that_a_number_is_estimated(server: Server, loop: Loop) -> None:
    add(server.lookalike, loop, 12_000)
    loop.run(execute(server.lookalike, text("ANALYZE images")))
    for path, said in (
        ("/", "About ([0-9]+) images indexed"),
        ("/index", "About ([0-9]+) images in"),
    ):
        found = re.search(said, server.client.get(path).text)
        assert found
        # What is made of images in the background rewrites their rows meanwhile.
        assert int(found[1]) == pytest.approx(12_000, rel=0.2)
    assert server.client.get("/readyz").json() == {"status": "ok", "provider": "cpu"}
